// Package checkpoint is the format of a log's checkpoints: the extent table as of
// one position, with everything that is needed to open it, and the digest that
// vouches for all of it.
//
//	 0    308   head: a box (see internal/wire) with magic "hlkchkp\n"
//	               0 16 log
//	              16  8 epoch        the position; sequence 0 is the epoch's begin
//	              24 16 nonce of the epoch's claim
//	              40  8 sequence
//	              48 32 chain at the position
//	              80 16 id of the data key, zero if not encrypted
//	              96  8 epoch up to which promises are settled
//	             104  8 blocks of the volume
//	             112  8 the next counter for a tables/ object of the epoch
//	             120  8 time, nanoseconds since 1970
//	             128 16 position of the checkpoint that this one adds to: epoch 8,
//	                    sequence 8; zero if it stands alone
//	             144 32 digest of that checkpoint
//	             176  4 bytes of the lists
//	             180  4 bytes of the lists as stored, compressed with zstd
//	             184 32 SHA-256 of the lists
//	             216 36 zero, for later
//	             end-32 MAC of the digest; zero if not encrypted
//	308  ...  the lists, compressed
//	 +n    4  CRC32C of the lists as stored
//
// # The lists
//
// Varints in their shortest form, each list with its count first:
//
//	reigns     log 16, epoch, nonce 16, key id 16, repository (a string, empty for
//	           the log's own)
//	removed    numbers of objects of the other checkpoint's list, ascending: gaps
//	objects    ascending by number: gap, kind, which reign, sequence, bytes of the
//	           object, digest 32
//	live       for each object of the whole list in ascending order of number: how
//	           many blocks and pages name it
//	root       ascending by directory: gap, pointer 8
//	orphans    page, pointer 8
//	snapshots  id 28, epoch, sequence, blocks: sealed in this log and still there
//
// An object's identity, size and digest never change, and a number keeps its
// object while anything names it. So a checkpoint adds to an earlier one that
// stands alone: it has the objects that are new and those that went, and only the
// live counts of all, a byte or two each. Reading one takes at most two objects,
// and writing one for a snapshot of a large volume does not repeat its list. One
// that others add to is kept while they are (Base). It adds to the last one of its
// own epoch that was begun as standing alone, and to none if it is not known
// whether that was published: others may be collected (see package garbage).
//
// # What vouches
//
// The digest is SHA-256 over the head's box up to the MAC. It covers the lists by
// their hash, the other checkpoint by its digest, and through the objects'
// digests every byte of every segment and page that is needed. A snapshot's one
// hash is this digest. The chain says of which history this is the state.
//
// # What a checkpoint may name
//
// Counted positions only, and objects that are durable. Checkpoints are named by
// epoch, so that a fenced writer's late one never outranks its successor's. The
// newest that exists is read, or nothing: one that is damaged is Corrupt, since
// an older one may name objects that are deleted.
package checkpoint
