// Package engine is the data path of object volumes: a log-structured block device
// on an object store, with a journal and a cache on the node's disk.
//
// An Engine is what the volumes of a process share: memory, the cache, the codec. A
// Volume is a log open for writing, a View a state of one open for reading.
//
// # Where a block is
//
//	overlay   written, and not in the table yet: in the journal, or zeros
//	image     what counts in the repository: the extent table, and through it
//	          frames of segments, from the cache or the store
//
// A reader looks in this order. A block leaves the overlay after it is in the
// table, and its journal space is given back after that; who still holds a place in
// the journal that was given back looks again.
//
// # The way of a write
//
//	WriteAt   appended to the journal; visible when Append applies it, in the order
//	          of the journal
//	former    gathers records into a segment when there are 8 MiB of them, when the
//	          first is as old as the class's upload delay, or when somebody waits;
//	          never across a snapshot's seal, and only what is durable
//	store     stores it, several at the same time, again and again, byte for byte;
//	          what counts is a run without a gap
//	applier   takes what counts into the table, in its order; gives its journal space
//	          back; then, if it is time, publishes a checkpoint
//
// The order is one. A crash anywhere leaves a prefix: the repository has what
// counts, the journal the rest. Journal space goes back before a checkpoint names
// the position, so that an opener never finds records that the checkpoint has.
//
// # Opening
//
//  1. The journal is opened, if there is one. It writes nothing.
//  2. The epochs are looked at. Open refuses if somebody else has the log open, or
//     may have acknowledged what only its journal has, unless it may take over and
//     go back. If there is no journal here, and none is owed, it is made now:
//     before the claim, so that one without an epoch never stands for one that was
//     lost.
//  3. The epoch is claimed, the older ones are closed (see package epoch).
//  4. The newest checkpoint is restored and what follows it applied: a read for each
//     segment's index, none of them longer for a larger volume.
//  5. What the journal has beyond that goes into the overlay as it is, and is
//     uploaded like everything else. A journal of which another node's segments are
//     the continuation is kept under another name; one that begins behind what the
//     repository has is Corrupt: something was lost there.
//  6. Begin cuts the journal's torn tail off. From here on it serves.
//
// Snapshots that a segment behind the checkpoint seals are forgotten in step 4:
// their checkpoint was never published, so nobody was told of them, and who asked
// asks again.
//
// # What is promised
//
// Durability says what a flush waits for. With Rollback and JournalDurability a
// node acknowledges within a lease only, which runs from the sending of its last
// look for a successor; who takes over waits until that has ended. Without Rollback
// no lease is needed, since nobody takes over, and an outage of the store is ridden
// out by the journal.
//
// A writer that finds that it has a successor ends: writes and reads fail as
// Fenced, the journal stays.
//
// # Cleaning
//
// What is overwritten dies where it is stored, and a segment goes when nothing in it
// lives and no snapshot needs it. The cleaner has what lives in the sparsest ones
// moved: while the volume is written, until Cleaning.Target of all that is stored
// lives; when it has rested for Cleaning.IdleAfter, until Cleaning.IdleTarget does.
// That is a job that ends, with a checkpoint that names the victims no more; a
// volume that is clean enough asks nothing.
//
//	cleaner   chooses victims by the live counts of the table, reads their indexes,
//	          and of what the table still names there one batch, by large ranges
//	former    forms a segment of moves, in the order of blocks, in the next slot:
//	          it covers none of the journal and seals no snapshot
//	applier   moves the blocks that are still where they were when it counts
//
// So the order of the log decides what a move does, for every reader alike: a block
// that was written in a slot before stays as it was written, one that is written in
// a slot behind is written there. A crash anywhere leaves copies that nobody names.
//
// Left alone are segments that a snapshot needs, to which those belong that live and
// are not younger than the newest one; what is young, in a volume that is written;
// what another log stored; what is newer in the overlay. Data come first: moves are
// formed when no data are due, or nobody waits for them and the journal is less than
// half full, one batch at a time, Cleaning.Rate bytes a second at most. The memory of
// one batch is set aside for all volumes, which take turns.
//
// # When the store is away
//
// Requests are repeated until the volume is closed. Writes go on until the journal
// is full and then wait; reads of what is on the node go on, others wait for
// Tuning.ReadTimeout and fail. No memory grows: segments under way are bounded for
// all volumes together (Options.Uploads), and what is newer than the table by each
// volume's share of Options.MemoryBytes, beyond which writers wait. Beside it are the
// tables' directories: 8 KiB, on Go's heap, for each GiB of a volume that was touched
// since it was opened. An idle volume asks nothing of the store.
//
// # Locks
//
//	Volume.gate    shared by writers; alone by who merges a part of a block, and by
//	               Pause
//	Volume.mu      positions, uploads, snapshots; it comes after the journal's locks,
//	               whose Apply takes it, and the journal is not called under it
//	overlay, image leaves
package engine
