// Package blockdev turns something that can be read and written into a /dev
// node.
//
// A front-end in user space is given a Disk and serves it. For files, the
// contract is Attacher: it gives a device to a backing path, finds the
// device that a backing path already has (after a crash or a reboot, when
// numbers may have changed), grows it, and takes it away, never touching a
// device that is not backed by a path it was asked about. Loop devices implement
// it here for files; other front-ends stand beside it.
package blockdev
