// Package blockdev turns something that can be read and written into a /dev
// node.
//
// A volume whose bytes a process serves is a Disk. A front-end gives it a device
// (packages nbd and fuse), which outlives that process: while nobody serves it,
// what is asked of it waits, and the next process that attaches the volume takes
// the device over.
//
// For volumes that are files the contract is Attacher: it gives a device to a
// backing path, finds the device that a backing path already has (after a crash
// or a reboot, when numbers may have changed), grows it, and takes it away, never
// touching a device that is not backed by a path it was asked about. Package loop
// implements it.
package blockdev
