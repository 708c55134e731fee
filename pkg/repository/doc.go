// Package repository keeps the catalogue: names, volumes, snapshots, groups and
// nodes, as records of numbered revisions in an object store.
package repository
