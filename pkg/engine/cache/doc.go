// Package cache is the node's read cache: one file on NVMe that keeps parts of
// objects of the repository, for all volumes that an engine has open.
//
// It is keyed by object and offset, never by block of a volume. Objects are
// immutable, so what is in it cannot be stale, whatever any node wrote meanwhile;
// clones share it; it survives restarts. It keeps an object's bytes as they are in
// the store: compressed, and encrypted if the volume is.
//
// # Invariants
//
//	C1  A read returns the object's bytes as fetch or Put brought them, or calls
//	    fetch. Every block is verified, with its identity, each time it is read.
//	C2  Nothing that the file has or lost makes a read fail or wrong: not a torn,
//	    lost or misplaced write, not a flipped bit, not an index of another day.
//	C3  A read calls fetch once at most; of reads that lack one line at the same
//	    time, one does, and the others wait for it.
//	C4  Memory does not grow with an outage, nor with the number of requests that
//	    were made: 25 bytes a line (400 MiB for 1 TiB), PendingBytes of what was
//	    fetched and not yet written, and 64 KiB for each call under way.
//	C5  No use, no input or output: the index is stored only after fills.
//
// Equal Objects must have equal bytes, for ever. Segments and tables do: their
// slot is sealed once in an epoch, whose nonce is new with every opening.
// Checkpoints may be formed twice at one position and are refused.
//
// C1 speaks of what fetch brought: a cache cannot know whether the store lied. Who
// finds that a frame does not verify calls Drop and reads again, which asks the
// store. A dropped line may come back after a death, with an older index: then it
// is found and dropped once more.
//
// # Lines and blocks
//
// A block of the cache has 4032 bytes of an object and 64 that say whose they are
// and what their checksum is. So a read is one read of the file, verifies what it
// got without another, and does not depend on the index: a slot that was given to
// another line meanwhile, or that the index is wrong about, is a miss. A frame of
// one block that does not compress (4128 bytes) lies in two blocks, nearly always.
//
// A line is 16 blocks, 64512 bytes of an object; the index is by line, and has a
// bit for each block that is there. A read asks fetch for the blocks that it lacks,
// as one range; fetch may bring more (Object.Lines). Filling by blocks costs the
// least traffic, by lines uses the file best.
//
// # The file
//
// All integers are little-endian; CRC32C is Castagnoli's. A unit is 65536 bytes.
//
//	unit 0   superblock in its first block; the rest is zeros
//	then groups of up to 5377 units, as many as there is room for; the last one may
//	be shorter, but has a line at least:
//	  1      16 pages of the index, each for 336 lines
//	  ...    up to 5376 lines
//
// How many lines there are follows from the file's length, so that changing the
// length is all that resizing does to the file.
//
// The superblock:
//
//	0     8  magic "hlkcach\n"
//	8     2  version, now 1
//	10    2  must-understand flags, none yet
//	12    2  may-ignore flags: announce fields that are passed over
//	14    2  zero
//	16   16  life: random, new whenever the content is given up
//	32   ..  zero
//	4092  4  CRC32C of all before
//
// A block of a line:
//
//	0  4032  bytes of the object, zeros behind its end
//	4032 16  log
//	4048 16  nonce of the epoch's claim
//	4064  8  sequence
//	4072  4  number of the block: it has the object's bytes from number * 4032 on
//	4076  2  how many bytes of the object, 1 to 4032
//	4078  1  kind of the object
//	4079 13  zero
//	4092  4  CRC32C of all before
//
// A page of the index has the same form: life instead of the log, the number of
// the page instead of the block's, 4032, and kind 255. In it are 336 entries of 12
// bytes, one for each slot in order:
//
//	0  8  print of the line; zero: none
//	8  2  blocks that are there, the first one is the lowest bit
//	10 1  bits 0, 1: uses, up to 3; bits 2, 3: queue: 0 young, 1 old, 2 proven
//	11 1  zero
//
// The print's low 16 bits are of the log, the others of all that names the line;
// object.go has the function. Prints may meet: the identity in the blocks decides.
//
// # Versions
//
// Whatever changes the form gets a new version, or a must-understand flag. A file
// of another version, with an unknown must-understand flag, or with a damaged
// superblock is emptied, by a new superblock with a new life, in both directions:
// nothing in it is needed. A file without the magic is not ours, and is refused
// and left alone. Golden files in testdata hold what version 1 writes; it is
// written the same as long as it is version 1.
//
// # What survives
//
// Nothing needs to. Writes are never synced but by Close, and come in any order.
// The index is stored page by page some time after a fill (Options.SaveEvery) and
// by Close: after a death or a loss of power there are the lines that an index on
// the disk knows and whose blocks are whole. A torn page loses 336 lines. What the
// queues' orders were is lost by every restart.
//
// # What is kept
//
// S3-FIFO, with a change: three queues of lines and a memory of prints.
//
//	young -> old -> out, and remembered        probation, a tenth of the cache,
//	           \                               or more while there is room
//	            `-> proven -> out              used again: go round once more
//
// A new line begins in young, the first half of probation, and moves on to old. If
// it was used while it was old it becomes proven, else it goes, and its print is
// remembered: if it is wanted again before as many others as the cache has lines /
// 2 have overwritten that, it is proven at once. A proven line that was used goes
// round again, up to three times. So what passes through once, a scan or a backup
// or a stream of new segments, fills a tenth of the cache and leaves the rest
// alone, and every operation is a few steps: no list is reordered by a hit.
//
// The change is that uses in young are not counted. A reader in sequence touches a
// line some sixteen times within moments, a frame at a time; with S3-FIFO's rule a
// scan would prove all of it. LRU fails with scans; ARC and LIRS reorder lists by
// hits, under a lock; TinyLFU needs a sketch and its aging, for less than what the
// memory of prints gives.
//
// An eviction passes over 64 lines at most before it takes one that was used, so
// that nobody waits for a sweep of millions.
//
// # A disk that fails
//
// A read that fails is a miss, and its line is dropped. After an error nobody
// reads, or writes, for a second, then one tries; each further failure doubles the
// rest, up to 5 minutes. Reads and writes fail independently of each other: a disk
// that cannot be written is still read. Health says what is wrong. A disk that
// hangs holds up who uses it, since the kernel gives no way to give up.
//
// # What it does not do
//
// It decides nothing about reading ahead (fetch does), verifies no frames, keeps
// no quota by volume (who wants one, or all of a volume on NVMe, opens another
// Cache), and wipes nothing: what was dropped is overwritten in time.
package cache
