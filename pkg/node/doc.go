// Package node is what happens on the node where a volume is used: it formats,
// checks, mounts, publishes, grows and watches.
//
// The engine (its backends, usually by the agent's client) gives a volume's
// block device and remembers how far its formatting has come; the kernel's mount
// table remembers the rest. The package keeps no state of its own, in memory or
// on disk, and never needs the repository: a new process takes over where the
// last one died, whatever step it had reached, and staging works while the
// catalogue is out of reach.
//
// Invariants.
//
//   - A volume that once held a filesystem is never formatted again, however
//     blank it looks: that is Corrupt. A volume that was never formatted but
//     holds any byte other than zero at its ends is not formatted either.
//   - A filesystem is checked before it is mounted for writing, and grown if its
//     device is larger than it.
//   - What other nodes read at the same time is mounted from a read-only device, and
//     only if it needs no write first. See Settling for who makes it so.
//   - A path from outside is walked from the kubelet's directory down without
//     following a symbolic link, and what was found there is used by descriptor,
//     not by name.
//   - Only mounts are taken away by unpublishing, and then one empty directory
//     or file: nothing is ever removed recursively.
//   - One operation at a time works on a volume, and on a path; a second one is
//     Busy. An operation that outlives its caller goes on to its end, and a
//     retry is Busy until then.
//
// It does not know CSI: package csi translates.
package node
