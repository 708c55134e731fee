// Package image is what of a volume counts in the repository, as it can be read:
// the extent table, the list of the objects that the table names by number, and
// the keys to open them with. A writer has one under its overlay; a snapshot's
// reader has one alone.
//
//	Restore     from a checkpoint
//	Apply       a segment that follows: the same for writers and openers
//	Read        blocks, from the cache or by ranged reads of the store
//	Checkpoint  the state, stored: pages that changed, then the checkpoint that
//	            names them
//
// # Object numbers
//
// The table names objects by number, see package vlog. A number is given to a
// segment when it is applied and to a table when it is stored, and free again
// once a published checkpoint does not list it. Free ones wait until there are
// thousands, and the oldest is given first, so that a reader who still holds a
// pointer is rarely led astray; one that is finds that the frame does not verify,
// or that there is no such object, looks the block up again, and is right.
//
// # Reads
//
// Frames that lie next to each other in an object are read in one go, different
// ones at the same time. What does not verify is asked of the store again, twice,
// past the cache; then it is Corrupt, naming object and offset. A store that is
// away is waited for, as long as the volume's class says.
//
// # Concurrency
//
// Apply and Checkpoint belong to one goroutine. Everything else may be called at
// any time.
package image
