// Package vlog holds the words and the key layout of the volume log: a volume's
// history in a repository. Each format and each piece of the protocol is a
// subpackage that stands alone:
//
//	frame       up to 16 blocks compressed, encrypted, checksummed, bound to their place
//	segment     an immutable object of frames with their index: a step of the history
//	epoch       claims, close markers, and who may write: the protocol
//	table       the extent table in memory: block -> place of its bytes
//	page        pieces of the extent table as stored in tables/ objects
//	checkpoint  the extent table's root and the objects needed, as of one position
//	replay      applying segments to a table: the same for writers and openers
//	claim       who still needs a snapshot or a log, and how it may go
//	garbage     which objects of a log may go, and their deletion
//
// # Layout
//
//	logs/<log>/base                  what the log starts from; created first
//	logs/<log>/epochs/<n>            a claim: owner and nonce; never deleted
//	logs/<log>/segments/<n>-<seq>    a segment, or, in the slot after the last
//	                                 segment that counts, the epoch's close marker
//	logs/<log>/tables/<n>-<k>        pages that changed, packed; k is a counter of
//	                                 the epoch, so that no name is formed twice
//	logs/<log>/checkpoints/<n>-<seq>
//	logs/<log>/swept/<n>-<seq>       how far collection searched; nothing depends on it
//	logs/<log>/condemned             that all of it is to go; never deleted
//
// Claims, and what leads to a deletion, are outside of the log: see package claim.
//
// n has 10 decimal digits, seq and k have 12, so that the order of keys is the
// order of positions. Epochs and sequences count from 1; sequence 0 is the
// position at which an epoch begins. No key is the beginning of another.
//
// # Who writes what, when
//
//	opener   epochs/<n+1>, then a close marker for each older epoch that has none
//	writer   segments in ascending slots, several under way at once; tables, and
//	         then the checkpoint that names them, at positions that count only;
//	         at a clean end a close marker of its own
//	deleter  the writer, or a worker that claims an epoch for it: removes segments,
//	         tables and checkpoints that nothing needs; never epochs or markers;
//	         see package garbage
//
// A segment counts when every slot of its epoch before it holds a segment and its
// epoch follows, through the close markers, from the log's base. What counts is
// promised; nothing else is.
//
// # Why create-if-absent is enough
//
// Every key is written by Create only, so that its content is decided once: by
// whoever is first. The epochs' order is decided by the claims, the end of each
// epoch by which of segment and marker is first in one slot, and the content of
// the log by both. No step needs to replace an object, to read and write
// atomically, or a clock. A writer that lost learns it from the slot that it
// wanted, however long it slept, since claims and markers are never deleted; a
// reply that was lost is recognised by reading the slot, since every object
// carries the nonce of its writer's claim.
//
// # Invariants
//
//	I1 one order   the order of acknowledgement, of the journal, of the table, of
//	               segments and of replicas is one.
//	I2 prefix      what an opener sees is the result of exactly the journal
//	               positions up to X; X never decreases along a log.
//	I3 durability  an acknowledged flush survives every failure that its class
//	               promises to survive.
//	I4 immutable   a key is written once and never reused, even after deletion.
//	I5 deletion    an object is deleted only if the head, snapshots, clones, replicas
//	               and readers do not need it, and the deleter looked for a later
//	               epoch after it published the checkpoint that no longer needs it.
//	I6 no blank    a read returns written data, zeros that the table states, or an
//	               error. Every byte is verified before it is used.
//	I7 idle        no change and no I/O means no request.
//
// # Objects
//
// Every object begins with a magic, a version and two sets of flags; the drawing
// is in internal/wire. A set bit among the must-understand flags that a reader
// does not know makes the object Unsupported; one among the may-ignore flags
// announces fields that it passes over; digests cover them all the same. All integers are little-endian. A
// decoder bounds every length before it uses it and never panics; what it cannot
// accept is Corrupt, naming the object, the offset, what it wanted and what it
// got. Golden files in testdata hold each format version for ever.
package vlog
