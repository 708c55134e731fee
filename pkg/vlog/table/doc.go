// Package table is the extent table in memory: for each block of a volume, where
// its bytes are.
//
// # Shape
//
//	root        one entry a directory: 1 GiB of the volume
//	directory   512 leaves; 8 KiB; once loaded it stays (8 MiB for each TiB)
//	leaf        512 pointers; 4 KiB; 2 MiB of the volume
//
// What is absent is a hole: zeros. Leaves live in slabs of 1 MiB that are mapped
// outside of Go's heap, so that the collector neither scans them nor lets the
// heap grow in proportion. Directories have no Go pointers inside.
//
// A leaf and a directory are the same in the store: a page of 512 pointers. A
// directory's pointers name its leaves' pages, in the same form as a leaf's name
// blocks, numbered from the same object list. So a version of the table is its
// root, versions share every page that did not change, and opening one reads the
// root only, which is 8 bytes for each GiB.
//
// # Paging
//
// Pages come on demand from a Pager. Leaves that did not change since they were
// stored may be dropped again to stay within the memory limit, the least recently
// used first, about. A change to a leaf that is not in memory does not load it:
// it waits in a pending map, and joins when the leaf comes or the table is
// checkpointed. What changed cannot be dropped: when Full says so the table is to
// be checkpointed, at the border of a segment, before more is applied. A segment
// once begun is applied whole, beyond the limit if it must be, since a table
// with a part of one is not what any position means.
//
// # What it holds, and who changes it
//
// The table holds what counts (see package vlog), in the order of the log. One
// goroutine applies segments and checkpoints in between, so that a checkpoint is
// a consistent cut without copying anything; what is not yet counted is the
// engine's overlay on top. Everybody may look up at any time.
//
// # Live counts
//
// For each object number the table counts the blocks and pages that name it. The
// count may be too high while something is pending or dropped but not yet
// reclaimed, never too low: an object whose count is 0 is not named. A number
// may be reused only when its count is 0, and not before a checkpoint says so.
// Counts that are too high become right through Reclaim, after a restart too,
// since a checkpoint keeps the list of what is dropped and not yet reclaimed.
//
// # Cost
//
// Dropping ranges swaps whole directories out in no time and leaves their
// accounting to Reclaim, a few at a time.
package table
