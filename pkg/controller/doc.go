// Package controller is the domain behind the CSI controller services: it
// places volumes, keeps the repository's records, and has the nodes' engines do
// the work. It also holds what an engine does with the records when it joins
// (Announce, Exhume) and what the operator does (Retire).
//
// A controller keeps nothing between calls. Several may run on one repository
// at the same time, each may die at any moment, and a message to an engine may
// arrive late or twice. This is why that is safe.
//
// # Why a create can be repeated
//
// A caller knows a volume by the name that it made up, and repeats the call with
// that name until it has an answer. So the name is what is written down first:
//
//  1. The intent: a revision of the name's record with a fresh random id, the
//     node that does the work, and the request. Two controllers that create one
//     name at once race for that revision; the loser reads the winner's id and
//     node and goes on with those, as does a retry after a death.
//  2. The engine makes the volume under that id. That is idempotent by id.
//  3. Revision 1 of the id's own record, saying Ready. This is the commit point:
//     from here on the volume exists, whoever gets to say so to the caller. The
//     name notes that it is completed before anybody says so: should the record
//     be lost later, that is Corrupt, and never a creation to be taken back.
//
// An attempt ends the other way by the same revision 1, saying Ended. It can be
// created only once, so an undo and a commit cannot both happen, in whatever
// controllers. After it:
//
//  4. The engine deletes the id, and remembers that it did: a create of that id
//     which is still on its way is refused when it arrives.
//  5. The name ends (a revision too), and may be taken again, by a new id.
//
// Any process that comes upon a name whose record says Ended does steps 4 and 5;
// they can be repeated. What an answer of the engine means for the intent:
//
//   - It cannot be (no room, too small, no such source ...): undo, then say so.
//     After "no room" another node is tried. Such an answer is given only once
//     the undo is complete; until then it is Transient.
//   - It may still be under way (Transient, Busy, Canceled, Deadline): keep the
//     intent, so that a retry goes on at the same node with the same id. While
//     that node stays down the retries stay Transient: a volume may be there.
//     Before an intent is stored the nodes are asked for their room, so that a
//     node which is down is passed over and not chosen.
//   - Nobody repeats the call: after IntentTimeout a sweep undoes it. Nothing is
//     lost, since nobody was told of it. A retry makes its intent young again.
//     (When sweeps come is told below.)
//
// What is said of a node here is of a backend whose volumes are on one; see below
// for shared backends.
//
// Snapshots are made in the same way. A group snapshot's intent holds the ids of
// all its members. Its cuts are good only for the process that saw every engine
// confirm its pause, so a retry never takes them over: it undoes that attempt,
// with all its members, ends its pause, and makes new ones. Member records are created before
// the group's, whose revision 1 commits them all; a member whose group is not
// Ready is shown to nobody.
//
// # Deleting
//
// The record says Deleting (if nobody uses the volume; from here on nobody can),
// the engine deletes, the name ends, the record says Ended. Each step can be
// repeated by whoever finds it undone: a retry, or a sweep. An operation that
// changes a record does so by compare-and-swap and looks at the state first, so
// a publication and a deletion cannot both win.
//
// An engine on a node that is down makes a deletion of what is only there Transient. If the operator
// has retired the node it succeeds, and leaves a tombstone. The order at the
// node is: execute tombstones, announce itself, execute tombstones again. The
// order here is: write the tombstone, then read the node's record again, and if
// it is back, call it. Whichever is first, one of the two sees the other; and a
// sweep executes what was left over: also a volume that is still in use on a node
// that was only out of reach, which does not keep that node from coming back.
//
// # Publishing
//
// A publication is a revision of the volume's record. Where a node can have only
// so many volumes it is pending at first, seen by all that race for the last
// place. Then they are counted, and it is confirmed or taken back, by whoever
// finds it pending; a confirmed one, which somebody may have been told of, only
// Unpublish takes away. To count reads every volume's record; nodes without a
// limit are not counted.
//
// A shared volume may be published to any node that has the backend: for readers on
// many nodes to any number of them, or else to one. One that was created for such
// readers alone is published read-only whatever is asked for.
//
// # Shared backends
//
// What a shared backend has is in the repository, and the engine of any node that
// has the backend can do any call for it; it is idempotent by id there, and remembers
// there what it erased. So
//
//   - a record's node is a hint: where the volume was last published, or else made.
//     No topology is told of such a volume, and none limits it.
//   - an intent is not bound to its node: a retry goes on, under the same id, at any
//     node that answers, and so does an undo.
//   - a deletion needs no tombstone: any engine does it. Transient while no node
//     with the backend answers.
//   - while a volume is published to a node for writing, that node's engine has what
//     is not in the repository yet, so it alone acts on the volume and its snapshots:
//     Transient while it is down. Otherwise the engine that the hint names is tried
//     first, and any other that answers takes its place. It is asked for its
//     capacity before, so that nothing is begun at one that is down.
//   - a publication may come in between: then two engines act on one volume, and
//     the backend sees to it that one of them loses. For a group snapshot that is
//     not enough, since the pause of the one does not hold the other: it is void if a
//     shared member's record changed while it was cut.
//
// # How long Ended records stay
//
// An Ended record is what a delayed writer meets, so it outlives everything by
// the grace period. Then names go first; a record goes only when its name does
// not stand for it any more, that is, when its undo is complete. The ledgers
// themselves see to it that a later revision cannot be created behind a removal
// (see package repository). What is left is a process that slept through the
// whole grace period just before it created revision 1. It would succeed; so it
// reads the name after that, finds that the name has ended or stands for another
// id, and deletes what it made. It never tells the caller of such a volume. Were
// it to die between these two steps as well, a record without a volume would
// stay, which VolumeHealth reports, and which can be deleted like any other: a
// sweep deletes nothing that says Ready.
//
// # When sweeps come, and what they cost
//
// A retry finishes what a call left, so sweeps are for what nobody asks for any
// more. A controller sweeps 30 s after its start, and as long after a call of its
// own ended with an error that may have left something; and, as long as a sweep
// leaves something (a creation that is not old enough, a node that does not
// answer), in twice the time after the one before, at most an hour. Otherwise
// every 6 hours, up to a tenth more. So what a process left that died is cleaned
//
//   - half a minute after it starts again, or another one does, and
//   - by a controller that went on all the time within 6 h 36 min of that death,
//
// or, what cannot be done at that time (IntentTimeout, a node that is down), at
// most an hour after it can. Ended records, which nothing waits for, may stay as
// long beyond the grace period.
//
// To look a record up takes three requests at most: a listing of its revisions,
// and two reads. A sweep sends 7 listings, one for every thousand entries; looks
// up three records for each volume, snapshot and group (its name, its record for
// the name's sake, and its record), one for each that ended not long ago and one
// for each node; and lists each node's tombstones. A controller of an idle site
// sends nothing else. With 1000 volumes and 3000 snapshots on 10 nodes that is at
// most 36,000 requests in 6 hours, 6000 an hour; with 10 volumes and 10 snapshots
// on one node, 32 an hour.
//
// # Changing
//
// An expansion or a modification is done by the engine first. Then the engine's
// state is copied into the record, and is read from the engine after the
// revision that the copy replaces. So of any racing copies the last revision
// holds the engine's last state, and a retry after a death copies again.
//
// # Locks
//
// Within a process a call holds one lock at most: a create that of its name, a
// delete or change that of its id; Publish and Unpublish are compare-and-swaps and
// hold none. A second call with the same key is turned away at once as Busy,
// naming the holder. The locks spare the engines useless work and give CSI its
// Aborted; nothing above depends on them. Sweeps take the same locks and pass
// over what is held.
//
// The package parses no CSI types and no parameters, and moves no data.
package controller
