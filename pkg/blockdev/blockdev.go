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
