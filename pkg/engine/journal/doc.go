// Package journal is the node-local file that makes a volume's writes durable
// before they are in a segment.
//
// A Journal is a window of an endless log of bytes, kept in a ring: a file that
// is allocated at once, written full of zeros ahead of its first use and never
// grows, so that a flush is one write and one sync that changes no metadata, and
// so that space cannot run out later. Positions (vlog.LSN) count the bytes of the
// endless log; they never go back and are never used again.
//
// # Life
//
//	Create or Open   finds what is there and verifies all of it; writes nothing
//	Begin            starts an epoch: the first write, to be made once the claim is ours
//	Append, Flush    batches in, durability out; Read and Records give bytes back
//	Recycle          gives space back, when what was in it counts in the repository
//	Close            ends cleanly; Abandon ends without a word, as a death would
//
// # The file
//
// All integers are little-endian; a block is 4096 bytes, and everything is a
// multiple of it. CRC32C is Castagnoli's.
//
//	0     4096  superblock of even generations
//	4096  4096  superblock of odd generations
//	8192  size  ring; position p is at 8192 + p mod size
//
// A superblock. The one of the higher generation counts; the other is its
// predecessor, or torn:
//
//	0     8  magic "hlkjsup\n"
//	8     2  version, now 1
//	10    2  must-understand flags, none yet: an unknown one makes the file Unsupported
//	12    2  may-ignore flags: an unknown one announces fields that are passed over
//	14    2  zero
//	16    8  generation, from 1
//	24   28  id of the volume
//	52   16  id of the log
//	68   16  id of the key that payloads are sealed with; zero: they are not
//	84    8  incarnation: tells this file from every other
//	92    8  size of the ring in bytes
//	100   8  tail: position of the first record that is still needed
//	108   8  durable: position known durable when this was formed
//	116   8  filled: bytes of the ring that surely were written once
//	124   8  epoch at the tail, 0 before the first
//	132   8  run at the tail
//	140   4  link at the tail: the checksum of the header before it
//	144  ..  zero
//	4092  4  CRC32C of all before
//
// A record is a header block and then whole blocks of data. It never wraps: a pad
// fills the end of the ring when the next record does not fit.
//
//	0     8  magic "hlkjrec\n"
//	8     2  version, now 1
//	10    2  must-understand flags, as above
//	12    2  may-ignore flags, as above
//	14    1  type: 1 changes, 2 seal, 3 epoch, 4 pad, 5 clean
//	15    1  zero
//	16    8  incarnation
//	24    8  run: random, new with every epoch record
//	32    8  epoch
//	40    8  position of this header
//	48    8  durable: position known durable when this was formed
//	56    4  bytes of the record, header included
//	60    4  link: the checksum of the header before
//	64    4  how many changes
//	68    4  zero
//	72   ..  body; zero behind it
//	4092  4  CRC32C of all before
//
// The first 72 bytes and the checksum stay the same in all versions, so that news
// is told from damage. The body of
//
//	changes  for each, in order: 8 first block, with the kind in the top byte
//	         (0 data, 2 zeros, 3 discarded, as in segments); 8 count of blocks; of
//	         data, for each block 4 CRC32C. The blocks follow the header, in order.
//	seal     28 id of the snapshot, 8 blocks of the volume
//	epoch, pad, clean: nothing. A pad's other blocks are whatever they were.
//
// A single record mixes writes and ranges: what would have been types of record
// are kinds of change, so that a discard among writes costs 16 bytes, not a block.
//
// # What is a record
//
// A header counts at position p if its checksum is right and it has the file's
// incarnation, position p, the link to the header before, and that header's run
// and epoch; an epoch record has a run of its own and a later epoch. Its blocks
// must have their checksums. So nothing of an earlier lap, of another file or of
// a cut tail is ever taken, and nothing needs to be cleared. A batch lies in one
// record: it is recovered whole or not at all.
//
// # Torn tail or corruption
//
// Writes that no sync covered may be lost, torn or out of order after a loss of
// power, so a journal is expected to end somewhere in garbage. Recovery stops at
// the first position without a record, and then looks whether anything vouches
// for more: a superblock or any later header of this file that knew a position
// beyond the stop to be durable. If so, what was acknowledged as durable is
// damaged: Corrupt, naming offset, want and got, and nothing is cut. If not, the
// tail is torn: Begin cuts it by an epoch record whose run no stale record has. The
// cut counts when Begin returns: if the power fails before, the next Open may find
// more of the tail, since a torn record can be made whole by the torn one over it.
//
// No header is formed more than a window (64 MiB, or a quarter of a smaller ring)
// ahead of what is durable, since Append syncs first. So the first header after
// the sync that covered a position is at most a window behind it, and looking at
// that much is enough.
//
// Damage to the records of the very last sync, with nothing behind them, cannot
// be told from a torn tail: nobody wrote that they were durable. Recycle and Close
// write it down. While the journal is open the checksums in memory tell.
//
// # What survives
//
// When Append returns, the batch has reached the kernel: it survives this
// process. When Flush returns, every batch appended before survives the loss of
// power. One order: batches have the order of their positions, Apply is called in
// it, and what is recovered is a prefix of it. A segment must cover durable
// positions only (Flush first): else a loss of power leaves the repository ahead
// of the journal.
//
// A write or a sync that fails fails the journal for good: nothing is
// acknowledged any more, reads go on. Begin writes the superblock, and what Open
// found behind the last position that was vouched for, once more before it syncs
// them: the kernel may have forgotten writes of an earlier life that it still shows.
//
// # Space
//
// Up to half full, an append never waits. From there on the rate of admission is
//
//	size/10s * (1-f)/(2f-1)    f: the part in use, 0.5 to 1
//
// which is no limit at a half and falls smoothly to nothing. So it settles, by
// itself and without a measurement, where it equals the rate at which space is
// given back: 4 GiB that drain at 100 MB/s at 84 %. With none given back, what is
// left is used up ever more slowly. When it is full an append waits; it never fails for
// want of space, and the space of epoch records and the clean mark is kept
// aside. Memory is the buffer of the one write under way (up to about 1 MiB,
// released when idle) and 4 bytes for each block in use: a thousandth of the ring
// at most.
package journal
