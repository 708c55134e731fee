// Package segment is the format of a log's segments: immutable objects of some
// MiB, each a step of a volume's history. One has the frames of blocks that were
// written, the ranges that became zeros, the blocks that collection moved, and
// the snapshots that were sealed right behind all that.
//
// # An object
//
//	0     80   head: a box (see internal/wire) with magic "hlksegm\n"
//	              0 16 log
//	             16  8 epoch
//	             24 16 nonce of the epoch's claim
//	             40  8 sequence
//	             48  8 zero
//	80    ...  frames (see package frame), one after another
//	i     n    index, see below
//	i+n   308  foot: a box with magic "hlksegf\n"
//	              0 16 log               8 bytes each:
//	             16  8 epoch
//	             24 16 nonce of the epoch's claim
//	             40  8 sequence
//	             48 16 id of the data key, zero if not encrypted
//	             64  8 incarnation of the journal, 0 if it covers none of it
//	             72  8 first journal position covered
//	             80  8 end of the journal positions covered
//	             88  8 blocks of the volume, behind this segment
//	             96  4 i, where the index begins
//	            100  4 n, bytes of the index
//	            104  4 frames
//	            108  4 CRC32C of the index
//	            112 32 chain before this segment
//	            144 32 SHA-256 of all frames' tags, in their order
//	            176 32 SHA-256 of the index
//	            208 32 MAC of the digest; zero if not encrypted
//	            240 44 zero, for later
//	end-8  4   bytes of the foot
//	end-4  4   "hlke"
//
// The digest of a segment is SHA-256 over the foot's box up to the MAC, whatever
// later versions add before it. It covers all of the object: the head through its copy in the foot, the frames through
// their tags, the index through its hash. Only about a hundredth of the bytes
// pass through SHA-256. The chain behind a segment is chain.Next(digest).
//
// # The index
//
// Varints in their shortest form, in this order:
//
//	sources   count, then for each: log 16, epoch, sequence: where moved blocks were
//	entries   count, then in ascending order of block and never overlapping:
//	          tag 1: low 2 bits 0 data, 1 move, 2 zeros, 3 discarded; bits 2, 3 zero;
//	          high 4 bits: blocks of the frame - 1, zero for the latter two
//	          gap: first block - end of the entry before
//	          data, move: stored length of the frame / 16. The frames follow one
//	          another from offset 80 on, so that their offsets need not be stored.
//	          move: then, for the frame's blocks in order, runs until all are told:
//	          byte: high 4 bits blocks of the run - 1, low 4 bits the first one's
//	          index in the old frame; source; offset of the old frame / 16
//	          zeros, discarded: count of blocks
//	seals     count, then for each: snapshot id 28, blocks of the volume
//
// Entries of one segment never overlap: the last write of a block wins while the
// segment is formed (Batch), so that they can be applied in any order. A move is
// conditional: a block that is no longer where the move found it stays where it
// is, and its copy here is dead from the start. Old places are told by log, epoch
// and sequence, not by the numbers of somebody's object list, so that every
// reader understands them. Frames begin and end at multiples of 16 blocks where
// they can, so that later overwrites tend to kill whole frames.
//
// Seals come last: a snapshot is the position of the segment that seals it, and
// nothing that was written after it is in that segment.
package segment
