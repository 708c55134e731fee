// Package demo shows Holkas at work on one machine: PostgreSQL lives on a
// volume, is snapshotted under load, and is cloned; the clone's tables are
// checked by pgbench's own invariant and by amcheck.
//
// Nothing in it is staged: the processes are those that a cluster runs (package
// site), the calls are CSI's, the database is the machine's own PostgreSQL. All
// of it lies under one temporary directory, which is gone at the end, also after
// an interrupt.
package demo
