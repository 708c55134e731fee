// Package object keeps volumes as logs in the repository: the backend whose volumes
// any node of the site can open.
//
// The data path is package engine. This package keeps what is known of volumes and
// snapshots, decides who may open what, gives devices, and lets data go.
//
// # What is where
//
//	object-volumes/<id>/<n>     the record of a volume (package repository)
//	object-snapshots/<id>/<n>   of a snapshot
//	logs/<log>/...              the volume (package vlog). Its first log has the
//	                            volume's own 128 random bits, so that each is found
//	                            from the other
//	claims/, trash/             who needs a snapshot's data, what is to go (package
//	                            claim)
//	<dir>/journals/<id>         the journal of a volume that is open here
//	<dir>/journals/<id>.kept-*  one that another node's writing superseded; never
//	                            removed by this package
//	<dir>/attached/<id>         what the device of a volume shows, and the epoch of
//	                            its writer
//	<dir>/caches/<id>           the cache of a volume whose class gives it one of its own
//	<dir>/frozen/<id>           a freeze that may be in force
//	<runtime>/keys/<id>         the data keys of a volume that is open here; kept only
//	                            where <runtime> is memory
//
// # What is durable when
//
// The record comes last where something is made, and first where something goes:
//
//	create    record Creating (the intent: log, origin, nonce); claim on the origin;
//	          the log's base; record Ready. A retry resumes the same log
//	clone     of a volume: a snapshot for it alone first, deleted behind the claim
//	snapshot  record Creating (it pins); cut; everything up to it counts and its
//	          checkpoint is published; record Ready. What dies in between is Failed
//	          for good, since nobody vouches for what was cut
//	expand    record, then the log, then the device
//	delete    record Deleting; an epoch that fences every writer; trash; record Ended.
//	          Data goes after the grace period, when nobody claims it
//
// Records of what has ended stay, as tombstones: an id never comes back, and the
// snapshots of a volume that was deleted are read with the keys in its record.
//
// # Who may open
//
// A volume is attached with leave to take over: the controller publishes it to one
// node at a time, and the log's epochs see to it that only the last one writes. What
// would drop a promise of the class is refused (package engine). Everything else
// (a snapshot of a volume at rest, its size) opens the log for a moment, without
// leave to take over, and closes it cleanly.
//
// A device that an earlier engine left is served again when this one starts, before
// anybody asks, if no other node has opened the log since; if one has, its user has
// a view of a past that goes on elsewhere, and gets errors.
//
// # Locks, in the order in which they are taken
//
//  1. volumes (Backend.locks), in ascending order of id; a pause holds its own
//     until it ends
//  2. a snapshot (Backend.cutLocks)
//  3. Backend.mu: a leaf
//
// Waiting for the first two ends with the caller's context, as Busy. What is in
// Backend.mu.lives changes under the volume's lock only.
//
// # Idle
//
// A volume that nobody uses and a backend that nobody asks send no requests. Once
// after the start what is in the trash is looked at, and again when the grace period
// of the first of it ends.
package object
