// Package frame seals up to 16 blocks together: compressed when it pays,
// encrypted when there is a key, checksummed always, and bound to their place.
// A frame is the unit of a read from the store: what a pointer of the extent
// table names is enough to get it in one ranged read and to verify it.
//
// # A frame, at an offset that is a multiple of 16
//
//	offset size
//	 0     1    codec: 0 none, 1 zstd (one frame of it, with its content size)
//	 1     1    blocks, 1 to 16
//	 2     1    must-understand flags, none defined
//	 3     1    may-ignore flags, none defined
//	 4     4    n, the length of the payload
//	 8     4    CRC32C of all other bytes, padding included
//	12     4    the low half of the number of the first block
//	16     n    payload: the blocks, compressed, then encrypted
//	16+n   16   tag
//	32+n        zeros up to a multiple of 16
//
// # What the tag is bound to
//
// The binding is 80 bytes that a reader knows before it reads, and that are
// therefore not stored:
//
//	 0  8   "hlkframe"
//	 8  4   kind of the object
//	12  4   offset / 16
//	16  16  log
//	32  16  nonce of the epoch's claim
//	48  8   epoch
//	56  8   sequence
//	64  8   number of the first block (or page)
//	72  8   the first 8 bytes of the frame
//
// Encrypted, the tag is AES-256-GCM's with the binding as additional data.
// Otherwise it is the first 16 bytes of BLAKE3(payload | binding), which is
// unambiguous since the binding's length is fixed. A frame at another offset, of
// another object, epoch, log or block thus never passes, whatever its checksum.
// Without a key the tag proves that a frame is what its writer wrote there, but
// not who wrote: that is what a snapshot's digest, which covers all tags through
// the segments' digests, is for. With a key, whoever holds it could form two
// frames with one tag, since GCM does not commit; a digest vouches against
// everybody else.
//
// # Keys, and why a nonce is never used twice
//
// The key of a frame is HKDF-SHA256(data key, info = "holkas frame 1" | kind |
// log | epoch | nonce of the claim), the nonce is (sequence, offset / 16). A
// nonce repeats under one key only if the same place of the same object of the
// same reign is sealed twice. It is not, since
//
//   - every opening of a log claims an epoch, whose nonce is 128 fresh random bits:
//     nothing that is formed again after a crash, from the same journal or not, has
//     the same key;
//   - a Cipher opens each sequence for sealing once, in ascending order, and a Sealer
//     moves forward only: both refuse anything else, however the caller errs. What
//     cannot be finished ends the reign;
//   - kinds have keys of their own, so that a segment and a table of the same
//     sequence do not meet;
//   - a sealed object is sent again byte for byte, never formed again.
//
// One limit remains: a machine that is duplicated while it runs (a virtual
// machine's snapshot, resumed twice) seals with the same key on both sides until
// each has met its successor. One of them loses the slot, but its bytes were
// sent. Where that can happen, the store must be trusted not to keep them.
//
// A key of its own authenticates the indexes, footers and checkpoints (MAC):
// HMAC-SHA256, since those may be formed twice at one position, which would be
// fatal for GCM.
package frame
