// Package epoch decides who may write to a log, and what of it counts, with
// nothing but create-if-absent.
//
// # Base
//
// The first object of a log says what it starts from. A log without it is not an
// empty one: it is damaged, or was never made.
//
//	base: a box (see internal/wire) with magic "hlkbase\n"
//	 0 16 log
//	16 16 the log that it starts from; zero for an empty volume
//	32  8 epoch    the position there
//	40  8 sequence
//	48 32 chain at that position
//	80 32 digest of the checkpoint at that position
//	112 8 blocks of the volume
//	120 8 time, nanoseconds since 1970
//	128 .. repository of that log: varint length, 28 bytes, or 0 for this one
//
// # Claim
//
// An opener creates epochs/<n+1>, n being the newest that exists. One of those
// that race wins; the others decide again. A claim carries a nonce, so that an
// opener whose reply was lost finds its own. Epochs are claimed without gaps.
//
//	claim: a box (see internal/wire) with magic "hlkclam\n"
//	 0 16 log
//	16  8 epoch
//	24 16 nonce
//	40  1 purpose: 1 writing, 2 collecting, 3 ending (a demotion or deletion)
//	41  1 promise: 0 none, 1 journal, 2 object: what a flush in it stands on
//	42  6 zero
//	48  8 time, nanoseconds since 1970; for people, nothing depends on it
//	56 .. owner: varint length, at most 63 bytes
//
// # Close
//
// An epoch's segments count from slot 1 on, up to the first slot that has none.
// A close marker in a slot ends them: what is created first in a slot, segment or
// marker, decides for good. A closer looks for the end of the run and creates a
// marker there; if the writer got there first, it steps forward and tries again.
// All who close an epoch agree, since the first marker that follows segments
// without a gap is one and the same for all of them, for ever: slots are never
// emptied while something needs them, and markers never.
//
// A writer that is alive and uploads many segments at once could outrun a closer
// that goes step by step, as long as it writes. So after its first lost step a
// closer puts a marker well ahead of the writer, which neither can pass, and
// then closes up from behind. The end is still the first marker behind the run;
// one that remains beyond a gap is beyond the end, like a segment there.
//
//	marker: a box with magic "hlkclos\n", in the slot <n>-<seq>
//	  0 16 log
//	 16  8 epoch that it closes
//	 24 16 nonce of that epoch's claim
//	 40  8 sequence: the slot
//	 48  8 epoch of the closer; the closed one's own if its writer closed it
//	 56 16 nonce of the closer's claim
//	 72  1 clean: 1 if the closed epoch's writer made it, with everything that it
//	       ever acknowledged in the segments before
//	 73  7 zero
//	 80 32 chain behind the last segment; zero in a marker that was put ahead
//	112  8 time, as in a claim
//	120 .. owner of the closer
//
// A marker is smaller than the smallest segment, so that a listing tells them
// apart; its content is read before it is believed.
//
// # Validity
//
// Positions are ordered by epoch, then by sequence. A walk begins behind the
// newest checkpoint and never looks below it, so that a marker which a late
// request, or an opener that was overtaken, leaves in a slot below, emptied by
// collection since, is never seen: it is void. In the checkpoint's own epoch no
// such marker can be: the closer reads the checkpoint after its claim, and the
// writer looks for claims after its checkpoint and before it deletes, so that one
// of them sees the other. And no checkpoint can be at or beyond its epoch's
// marker, since it names counted positions only. Valid states both rules for
// those who have both at hand. An opener that was overtaken may see what its
// successor has half deleted; it learns that it was before it serves, and no
// error of its walk is believed before it has looked.
//
// # Open
//
//  1. Survey, reading only, and let the caller decide whether to go on. Nothing
//     was touched if it refuses.
//  2. Claim. Losing means to survey and decide again.
//  3. Let the caller look at the volume's record again, and read the newest
//     checkpoint: both only now that the claim exists.
//  4. Close every older epoch from the checkpoint on, oldest first.
//  5. See that there is no later epoch.
//
// # Write
//
// A Reign stores segments. An object in the slot that is its own, byte for byte,
// is success: an earlier try's reply was lost. A marker means that the reign is
// over, and whose marker it is. Anything else is Corrupt. What counts is the run
// of successes from the first slot on.
//
// # Who may still have promises to keep
//
// An epoch whose writer promised on its journal and did not close cleanly is
// unsettled: the journal may hold acknowledged writes that no segment has. It is
// settled by a later writer's clean close, or by a checkpoint that states it
// (Start.Settled): because that writer replayed the journal and that counts, or
// because it was told to give the rest up. A clean close of an epoch that was not
// claimed for writing settles nothing: who collects knows no journal. A checkpoint
// states at least what its writer's opening found settled (Opening.Settled), since
// those who begin behind it no longer see the closes that said so. Until then
// Survey reports the epoch with its owner, however many openers failed in
// between. An opener that dies between its claim and its first promise is
// reported too, since nothing tells it from one that served.
//
// A journal is replayed only if no segment counts after its epochs' close but its
// own. Hence nobody but its owner may store segments while an epoch is unsettled,
// collectors included: their Decide refuses.
package epoch
