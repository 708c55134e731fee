// Package page is the format of the objects that hold pages of the extent table:
// those that changed since the checkpoint before, packed.
//
//	0     80   head: a box (see internal/wire) with magic "hlktabl\n"
//	              0 16 log
//	             16  8 epoch
//	             24 16 nonce of the epoch's claim
//	             40  8 sequence: a counter of the epoch, not a position
//	             48  8 zero
//	80    ...  frames (see package frame), of up to 16 pages with successive numbers
//	i     n    index: varints in their shortest form: count of frames, then for each
//	           the gap of its first page to the end of the frame before, its pages
//	           - 1, and its stored length / 16; the frames follow one another
//	i+n   224  foot: a box with magic "hlktabf\n"
//	              0 48 as in the head
//	             48 16 id of the data key, zero if not encrypted
//	             64  4 i
//	             68  4 n
//	             72  4 frames
//	             76  4 CRC32C of the index
//	             80 32 SHA-256 of all frames' tags, in their order
//	            112 32 SHA-256 of the index
//	            144 32 MAC of the digest; zero if not encrypted
//	            176 24 zero
//	end-8  4   bytes of the foot
//	end-4  4   "hlke"
//
// A page in a frame is 512 pointers of 8 bytes, transposed: the lowest bytes of
// all of them, then the second lowest, and so on, since neighbours differ in few
// bytes. It takes one block of the frame, so that a table's pointer names a page
// as it names a block.
//
// The digest of an object is SHA-256 over the foot's box up to the MAC. Names are
// a counter, not positions, and every name is formed once in an epoch: one
// checkpoint may need several objects, and one that is formed again never repeats
// a nonce.
package page
