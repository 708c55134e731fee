// Package garbage decides which objects of a log may go, and deletes them: the
// only destructive act in a repository.
//
// # What goes
//
// A collection looks at the log as of one published checkpoint, the newest that
// is older than the grace period. Of what is at or before that position these go:
//
//	segments and tables that neither it nor a kept checkpoint lists
//	checkpoints before it, but those of snapshots and those that kept ones add to
//
// Claims, close markers and the base never go. Nothing of another log or
// repository goes: its owner collects it, and a claim there keeps it.
//
// # Why that is enough
//
// A log's state at a position is made of its state at an earlier one and what was
// stored in between. So what a checkpoint does not list, nothing behind it will
// need: no head, whoever writes; no snapshot that is sealed later; no checkpoint of
// a writer that was fenced and does not know. What is needed otherwise:
//
//	snapshots  the checkpoint lists those sealed before it. Each has a checkpoint at
//	           its very position, which is kept, with all that it lists, until the
//	           snapshot is let go (see package claim). A snapshot is complete only if
//	           its writer saw no later epoch after it published that checkpoint.
//	claims     on the log hold the position as of which it is collected: from a
//	           claim's position on everything stays. A claimer looks, after its
//	           claim, that its position is the newest checkpoint's still; a collector
//	           lists the checkpoints before the claims. One of them sees the other.
//	readers    without a claim have the grace period from when the checkpoint that
//	           they opened was followed by another one.
//
// None of this is undone by sleeping: a collector that stalls between its decision
// and the deletion, for a month, deletes what nobody needed and nobody came to
// need. No key is ever used again (see package vlog).
//
// # The order
//
//	publish the checkpoint -> grace -> see no later epoch -> delete -> see ...
//
// The look is for openers that hold an older checkpoint: one that claimed before
// the checkpoint was published may follow segments that go. The collector's look
// finds its claim. Openers that claim later read the checkpoint, since they read it
// after their claim. A writer decides as of a checkpoint of its own epoch that it
// knows to be published: its table may name pages that a later one, or another
// writer's, does without. Whoever collects without a writer claims an epoch, which
// fences all before it, and may decide as of any.
//
// # Nothing is left
//
// An object goes before the last checkpoint that lists it, so that a collection
// which was cut off is repeated. What no checkpoint ever listed is found by listing
// each epoch's segments and tables once, from where the last collection had come
// to up to the checkpoint, and again where a checkpoint goes that is of an epoch
// before: a snapshot's, or one that a writer stored which had slept. Nothing else is
// listed, and never the bucket. What such a writer stores without a checkpoint goes
// with the whole log.
//
//	logs/<log>/swept/<n>-<seq>   how far a log was swept: saves listing, no more
//
//	swept: a box (see internal/wire) with magic "hlkswep\n"
//	 0 16 log
//	16  8 epoch     position as of which it was swept
//	24  8 sequence
//	32  8 the first tables/ counter of the epoch that was not swept
//	40  8 time, nanoseconds since 1970
//
// A log that was let go loses everything but what its snapshots need, and with
// the last of them the rest.
//
// # Cleaning
//
// Segments of which little lives are written anew as conditional moves (see
// package segment). Victims chooses them greedily. Under uniform overwriting with
// the live share a of the log, a segment is cleaned when u of it lives, with
// a = (1-u)/ln(1/u), and each block written costs 1/(1-u) blocks stored: 1.48 at
// 60 %, 2.69 at 80 %. No order of cleaning escapes that.
//
// # What it relies on
//
//	R1  A checkpoint stands alone, or adds to the last one of its epoch that its
//	    writer began to publish as standing alone: others may be collected. Where it
//	    is not known whether that one was published, the next stands alone.
//	R2  A snapshot's position has a checkpoint before any later one is published;
//	    otherwise nothing is collected.
//	R3  A tables/ object is listed by the first checkpoint whose NextTable is beyond
//	    it, or never.
//	R4  No request takes effect later than the grace period after it was sent, or
//	    it may leave an object that nobody needs. Nothing worse.
package garbage
