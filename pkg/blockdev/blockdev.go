package blockdev

import "context"

// Options say how a device is to be.
type Options struct {
	ReadOnly bool
	// Discard lets discards through, as holes in the backing file. Off, the
	// device reports that it has none.
	Discard bool
}

// Device is an attached device.
type Device struct {
	Path      string // "/dev/loop7"
	SizeBytes int64
	ReadOnly  bool
	Discard   bool
	// DirectIO reports that reads and writes pass the page cache by.
	DirectIO bool
}

// Attacher gives devices to backing paths.
type Attacher interface {
	// Attach gives a device to a backing path: 512-byte logical sectors, direct
	// I/O. One that it has already is returned, with discards switched off if
	// that is asked for; InUse if it differs otherwise. Exhausted if there is no
	// free device.
	// NotFound if the backing path does not exist.
	Attach(ctx context.Context, backing string, o Options) (Device, error)
	// Find returns the devices of all backing paths that lie under a directory,
	// by backing path. A backing file that was unlinked is not among them.
	Find(ctx context.Context, dir string) (map[string]Device, error)
	// Resize tells the device that its backing file has grown. NotFound.
	Resize(ctx context.Context, backing string) error
	// Detach frees the device of a backing path. None is success. InUse if it
	// is open elsewhere; it is then still attached.
	Detach(ctx context.Context, backing string) error
}

// Disk is what a front-end in user space serves: the bytes of a volume, at
// offsets and in lengths that are multiples of 512 and lie within its size. All
// methods may be called at once. An error is one that the writer of the data is
// to see; what a wait can mend, such as an outage of a store, is waited for
// inside.
type Disk interface {
	// Size returns the length in bytes. It only grows.
	Size() int64
	// ReadAt fills p from off on: what the last write that returned had written
	// there, or, of writes that have not returned, either side of each 512 bytes.
	ReadAt(ctx context.Context, p []byte, off int64) error
	// WriteAt writes p at off. When it returns, it is visible and survives this
	// process, and it survives the loss of power after the next Flush. p is the
	// caller's again. Memory at multiples of 4096 spares a copy.
	WriteAt(ctx context.Context, p []byte, off int64) error
	// Zero makes a range zeros: discard says that the space is not needed any
	// more, otherwise that zeros were written.
	Zero(ctx context.Context, off, length int64, discard bool) error
	// Flush waits until every write and Zero that returned before is durable, as
	// the volume's class promises.
	Flush(ctx context.Context) error
}
