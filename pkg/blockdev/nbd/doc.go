// Package nbd serves disks by the NBD protocol: to the kernel, which makes a
// /dev node of each (FrontEnd), and to clients such as qemu-img, nbdcopy and fio
// (Export).
//
// Serving. A connection's requests are carried out at once, at most 128 of them
// and at most 16 MiB of a disk's, or one that is larger. A write's bytes come to
// the disk in memory at a multiple of 4096. Every offset and length is checked
// before the disk sees it; what cannot be understood ends the connection. A
// flush covers all that was answered on any connection. A connection's end is
// shown to the client only when nothing that it asked for is under way any more:
// what it asks again never meets its own first try.
//
// A device outlives its server. The kernel keeps requests while nobody answers
// them, for 7 days, and fails none; the next engine finds the device by the name
// that the kernel keeps with it (Linux 5.14 and later), gives it a new socket,
// and what waited goes on. Requests that were under way when the server died are
// sent again, at most 5 s after a new one is there. A server that ends in good
// order (Close) answers all that it was sent before, so that nobody waits those
// 5 s.
//
// One socket a device. With several, the kernel takes a request that is slow
// for a sign that its socket is dead, whatever time limit it was given, and
// sends the request again through another socket, while the server still works
// on the first try or has not read it yet: a write that was answered, and
// overwritten by the next, can then be carried out once more. With one, a limit
// of 0 is none.
//
// The process that serves a device never waits for it. An open, a sync or a
// close of the device may wait for requests that only the server can answer, in
// the kernel, and a process with such a call does not end when it is killed: its
// sockets and its locks would stay, and no other engine could take over. Detach
// has other processes do that, and no descriptor of a device is kept. One call
// is left: the kernel changes a device's size when no request is under way, see
// Resize.
//
// What a device cannot have: physical sectors of 4096 bytes (the kernel sets
// both sizes to one value, which is 512 here, so that images of any cloud disk
// mount), so mkfs.xfs has to be told its sector size. A scan for partitions is
// off if this package has the kernel load its module, and as the module was told
// otherwise. Programs that look into every device, as LVM's do, wait with a
// device that waits: let them leave out /dev/nbd*.
package nbd
