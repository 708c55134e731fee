// Package local keeps volumes in pools on this node's disks: the backend whose
// live bytes are where their writer is.
//
// A pool is a folder on a filesystem that can share extents. A volume is one
// file in it, preallocated unless its class is thin, with a loop device while it
// is attached; snapshots and clones share the file's extents and read no data.
// There are two kinds of pool behind one contract (see medium): XFS, where a cut
// is FICLONE and holds writers up for some microseconds per extent, and btrfs,
// where each disk lies in a subvolume of its own and a cut takes the same few
// milliseconds whatever is in it.
//
// # A pool's folder
//
//	<pool>/
//	  holkas-pool.json            id, name and type of the pool; made last
//	  volumes/<volume id>/
//	    meta.json                 all that is known of the volume
//	    disk                      its bytes (XFS)
//	    data/disk                 its bytes (btrfs; data is a subvolume)
//	  snapshots/<snapshot id>/    the same; never written again
//	  tmp/<id>/                   what is being built
//	  trash/<id>/                 what is being removed
//	  deleted/<id>                tombstones, empty, kept for a day
//	  frozen/<volume id>          freezes that may be in force
//
// The files in JSON carry a format name, a version and a checksum; package
// record documents them, and what a reader does with what it does not know: it
// refuses it, by name, and changes nothing. Nothing outside of the folder is
// needed to read it: a pool that is moved to another path or machine is the same
// pool, with the same volumes. Names in these folders that are no ids are passed
// over. An engine locks the folder (flock) as long as it has the pool.
//
// # What is durable when
//
// Each operation changes what exists in one step, by a rename within the pool,
// and what it needs is synced before that step, the folders after it:
//
//	create, clone,  tmp/<id> with the disk, synced; meta.json, synced; renamed to
//	snapshot        volumes/ or snapshots/: from here on it exists
//	delete          device detached; deleted/<id>: from here on the id is never
//	                used again, and the next start finishes; renamed to trash/;
//	                removed. In a pool too full for a tombstone it is meta.json by a
//	                second name, or comes last
//	expand          disk extended, synced; meta.json replaced; device resized
//	thin to thick   discards switched off; holes filled, synced; meta.json replaced
//	modify, record  meta.json replaced
//
// A start thaws what is listed in frozen/, finishes the deletion of what has a
// tombstone, empties tmp/ and trash/, and records the size of disks that are
// larger than their record, since nothing shrinks. A call that is repeated after
// a death at any point gives the reply that the first would have given, and the
// time of creation in it is the record's.
//
// Power loss is survived in the same way, as far as the disk keeps what it said
// it had synced.
//
// # Freezing
//
// A filesystem-consistent cut of a mounted volume syncs the filesystem, writes
// frozen/<volume id>, freezes it (FIFREEZE), shares the disk, thaws it, and
// removes the record. A pause of several volumes does the same, with all frozen
// before it returns. A freeze outlives the process that asked for it, so the
// record comes before it, and a start thaws what is listed, whether it is frozen
// or not, also one that was unmounted while it was frozen. A watchdog thaws after
// Options.PauseLimit whatever happens, and a guard, a child process, does so
// where this process cannot: at once when it was killed, a moment after the limit
// when it hangs. Where both are killed together, as in a container, writers wait
// for the next start; fsfreeze -u on the mount point in the record is safe then.
// What was cut under a freeze that did not hold until it was looked at again is
// removed, and the call fails with Precondition. Pauses live in memory: after a start
// none is known, and Resume says so. A cut that would hold its writers for longer
// than the class allows, or the watchdog, is refused before anything is frozen.
//
// What a removal leaves the filesystem to do in the background makes a cut beside
// it many times as long, so a cut first waits for that, while nobody is held up,
// and a removal waits for a cut (type calm); none for long, and not for a pause.
// What is left of a pause on btrfs is the freezing, whatever was written: the
// kernel waits three times in it for its other processors (synchronize_rcu), 30 to
// 40 ms altogether on a machine of two; the snapshot itself takes 2 ms.
//
// # Room
//
// A write into a thick volume never fails for want of room, copy-on-write after
// snapshots and clones included; type space says how that is counted. It is
// promised against everything that goes through this package. It is not promised
// against others who take room in the same filesystem, for which Health reports
// PoolOvercommitted; nor for blocks that a raw block volume's user punched out of
// the device's node; nor beside thin volumes on btrfs whose discards free parts
// of extents, since btrfs keeps an extent until the last of it is free. Thin
// volumes are best kept in a pool of their own.
//
// What was deleted gives its room back in the background. A call waits for that,
// about a second at most, only if it does not fit without; Capacity only if what
// was deleted is more than an eighth of what it would say. All who wait at once
// share the wait, and the commits that btrfs needs to tell its room (type round).
//
// # Locks, in the order in which they are taken
//
//  1. volumes (Backend.locks), in ascending order of id; a pause holds its own
//     until it ends
//  2. a snapshot (Backend.cutLocks)
//  3. pool.mu, the state of one pool
//  4. pauses.mu, pause.mu, devices.mu, space.mu, calm.mu, cutTimes.mu, speed.mu,
//     freeze.mu: leaves, but for pause.mu before freeze.mu; space.mu is not held while
//     anybody waits for what was deleted
//
// Waiting for the first two ends with the caller's context, as Busy.
//
// # What it does not do
//
// It formats and mounts no volumes (package node does), formats a pool's device
// only if that is blank and the configuration says so, never touches a loop
// device that is not backed by a file of its pools, and repairs nothing: a
// record or a disk that is damaged is Corrupt, by the name of its file.
package local
