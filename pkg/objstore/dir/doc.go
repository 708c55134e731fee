// Package dir is an object store in a directory of a local filesystem: one
// machine, any number of processes.
//
// An object is a file at its key's path under the root. Reserved is the folder
// .tmp, which no key can name: it holds files that are being written, and it
// marks the root as a store, so that a mount point whose filesystem is not
// mounted is told from an empty store and is never written to.
//
// # What is durable when
//
//	Create  write .tmp/x, sync it; make parents; link x to its name; sync the folder
//	Put     the same with rename, which replaces
//	Delete  unlink; sync the folder; remove parents that are empty
//
// link(2) has one winner, and a file has its whole content before it has its
// name, so an object is visible whole or not at all; nil means that every step
// was synced. An error after the link or the rename is Transient: the object may
// be there, and may yet vanish with the power. A creator that finds the object
// there already syncs the folder before it says so.
//
// A new folder is of use only when its own name in its parent is durable. Who
// made it syncs the parent; but another process may find the folder in between,
// or after its maker died. So a folder is made with the sticky bit, which comes
// off when the parent was synced: whoever meets the bit syncs the parent first.
//
// Folders disappear when their last object does. A creator that had entered one
// gets ENOENT from link(2), since it links into the folder that it opened and not
// into a path, and starts over.
//
// # Replacing and listing
//
// A rename that replaces a file takes its entry out of the folder and puts
// another one in. Somebody who reads the folder meanwhile can meet neither, on
// btrfs for certain, and an object would be missing from a listing that was there
// all along. So Put renames under the folder's lock (flock, exclusive), and List
// reads the folder under the same lock, shared. Each holds it for as long as its
// own system calls take; nothing waits for a disk under it, and it goes with its
// process. Creations and deletions take no lock: a listing may miss those.
//
// # What this package does not do
//
// It does not verify content: records carry their own checksums. It does not
// retry. The filesystem must have hard links, and must not be shared between
// machines, since there it is the network that says what link and fsync mean.
package dir
