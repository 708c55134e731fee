// Package loop gives loop devices to files.
//
// A device is configured in one step (LOOP_CONFIGURE), with direct I/O and
// 512-byte logical sectors, so that images of any cloud disk mount on it. On
// btrfs, whose own blocks have 4096 bytes, requests that are aligned to 4096
// bytes still pass the page cache by, and the others go through it; a filesystem
// with 4096-byte sectors sends none of those.
//
// A device is found again by what it is backed by, the file's device and inode
// numbers, never by its own number, which changes with a crash or a reboot.
// Devices that are not backed by a path of the caller's are read and never
// changed: kubelet, for one, has a loop device for each raw block volume.
//
// Discard. With it, a discard punches a hole in the backing file. Without it the
// device says that it has none (discard_max_bytes is 0), so that a preallocated
// file keeps its blocks. Zeroing a range (BLKZEROOUT) keeps them too. Punching a
// hole into the device node itself (fallocate) takes them: the caller's
// accounting must not rely on a preallocated file without holes.
package loop
