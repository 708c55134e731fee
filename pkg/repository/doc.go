// Package repository keeps the catalogue: names, volumes, snapshots, groups and
// nodes, as records of numbered revisions in an object store.
//
// # Layout
//
//	holkas.json                                  the repository's id and format
//	names/{volumes,snapshots,groups}/<hash>/<n>  hash: SHA-256 of the CSI name, 64 hex digits
//	volumes/<id>/records/<n>                     n: the revision, 10 digits
//	snapshots/<id>/records/<n>
//	groups/<id>/records/<n>
//	nodes/<node>/<n>
//	object-volumes/<id>/<n>                      what the object backend knows, apart,
//	object-snapshots/<id>/<n>                    since it outlives the records above
//	retired/<node>/<id>                          a tombstone
//	probe/...                                    where the store is tried, for a moment
//
// # Revisions
//
// A Ledger keeps the records of one kind. Nothing is ever overwritten: a change
// creates the next revision if it is absent, which is a compare-and-swap.
//
//   - A revision holds a nonce, by which a writer whose reply was lost
//     recognises its own work, and the SHA-256 of its predecessor's bytes.
//   - A revision counts only if its predecessor is there and matches. A writer
//     looks for it after it has created; a reader, before it believes. So a
//     writer that slept while its slot was used and cleaned away cannot win it
//     a second time.
//   - Revisions are cleaned in ascending order only, and the newest 16 stay.
//   - Removing a record for good begins with a last revision, the removal, that
//     only one process can create: it alone then deletes, the oldest first and
//     the removal last, and only for a while (removalBound). A removal that was
//     interrupted is taken over, by the same step, no sooner than takeoverAge.
//     The object backend's records are never removed, and the first revision of
//     each stays, so that creating it takes a single request.
//     Every deletion is bounded in time in this way, since a store can delete
//     only unconditionally; so the clocks of the machines that share a
//     repository agree to within a minute or so.
//   - What cannot be read, does not match or stands alone is Corrupt. An older
//     revision never takes its place.
//
// # Format
//
// Every object is a header line and a JSON body:
//
//	holkas 1 volume 1c291ca3\n
//	|      | |      +-- CRC-32C of the body: 8 lower-case hex digits
//	|      | +--------- kind: repository, volume-name, snapshot-name, group-name,
//	|      |            volume, snapshot, group, node or tombstone
//	|      +----------- format version, decimal
//	+------------------ magic
//	{"subject":"v-...",     what the record is about; it must agree with the key
//	 "revision":2,          it must agree with the key
//	 "nonce":"...",         128 random bits, 32 hex digits
//	 "previous":"...",      SHA-256 of the predecessor's bytes; none in revision 1
//	 "written":"...",       RFC 3339, UTC
//	 "removed":true,        in a removal, which has no value
//	 "value":{...}}         the record, as the types of this package say
//
// A reader refuses a later format version as Unsupported, and ignores fields that
// it does not know in its own: a field may be added when old readers may safely
// drop it, and every other change is a new version. An object is at most 1 MiB.
//
// The package does not watch, cache or retry reads, and takes no locks.
package repository
