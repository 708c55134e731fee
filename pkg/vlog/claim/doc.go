// Package claim decides when the data of a snapshot or a log may go, with nothing
// but create-if-absent: who still needs it, and the way into the trash, out of it
// again, or on to deletion. Any number of sites may do any of it at once.
//
// # Objects
//
//	claims/<subject>/<dependent>.<nonce>            a claim
//	claims/<subject>/<dependent>.<nonce>.released   that it is given back, for good
//	snapshots/<id>/condemned                        that the subject's data is to go:
//	logs/<log>/condemned                            never deleted, as epochs are not
//	trash/<subject>/<n>                             its n-th deletion was asked for
//	trash/<subject>/<n>.verdict                     what became of that
//
// A subject is a snapshot or a log, a dependent anything whose id is never used
// again. n has 10 digits and counts from 1. All of them are one format:
//
//	record: a box (see internal/wire) with magic "hlkhold\n"
//	 0  1 what: 1 claim, 2 release, 3 condemned, 4 trashed, 5 verdict
//	 1  1 verdict: 0, or in a verdict 1 delete, 2 restore
//	 2  6 zero
//	 8 16 nonce of the claim; zero in what is not a claim or its release
//	24  8 number of the deletion; 0 in a claim and its release
//	32  8 epoch     of a claim on a log: from which position on it is needed
//	40  8 sequence
//	48  8 time, nanoseconds since 1970, of the writer's clock
//	56  8 when the claim ends, as time; 0 if it lasts
//	64 28 subject
//	92 .. dependent: varint length, at most 63 bytes; empty in what is not a claim
//	   .. holder, for people: varint length, at most 63 bytes
//
// # Claim
//
//	create the claim; then look: released? condemned? gone? If so, withdraw.
//
// A claim is one object of one dependent, for one try: its nonce comes from the
// intent that the dependent made durable before. So a lost reply is recognised by
// the key, nobody gives back what another one needs, and a dependent that moves on
// (a replica) takes its next claim before it releases the last. A claim whose
// outcome is unknown is taken again or released, by whoever resumes the intent.
//
// To release is to create an object too, before the claim is deleted: a request
// for the claim that arrives late, or twice, finds that it is released already.
// Where the deletion failed nothing is left that counts.
//
// # Delete
//
//	trash -> grace -> verdict -> condemn -> list the claims -> none: let go
//
// Restoring and deleting race for one verdict. A deletion that was restored is
// over, and its verdict stays: a deleter that slept finds it, and the next
// deletion has the next number. Only after a verdict to delete the subject is
// condemned, and only after that the claims are listed: of a claimer and a
// deleter, each of which writes before it looks, at least one sees the other. The
// claims that were there live on, and the data with them; LetGo is asked again
// until it agrees. Once it does, it always will: what is created later sees that
// the subject is condemned.
//
// # Clocks
//
// Safety depends on no clock. A clock that is wrong makes a grace period or a
// claim with an end shorter or longer by what it is wrong: who holds one that ends
// takes a lasting one before, with time to spare.
//
// # Errors
//
// A record that is damaged is Corrupt, and counts as a claim: nothing goes. What
// cannot be read is Transient, and nothing goes either.
package claim
