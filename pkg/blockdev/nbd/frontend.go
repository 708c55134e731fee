package nbd

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Options of a front-end.
type Options struct {
	// Dir is the directory of the engine whose devices these are: an absolute
	// path. Nothing is written there. It sets them apart from those of another
	// engine on the machine, and the next engine finds them by it.
	Dir string
}

// Validate reports what is wrong with the options: Invalid.
func (o Options) Validate() error {
	// The kernel shows the name of a device's backend in one page.
	if !filepath.IsAbs(o.Dir) || o.Dir != filepath.Clean(o.Dir) || len(o.Dir) > 1024 || strings.ContainsAny(o.Dir, "\n\x00") {
		return fault.New(fault.Invalid, "dir %q: want an absolute path, without . and .., of at most 1024 bytes", o.Dir)
	}
	return nil
}

// FrontEnd gives kernel devices to volumes, and serves them.
type FrontEnd struct {
	kernel  kernel
	dir     string
	serving context.Context // ends with Close
	end     context.CancelFunc

	mu       sync.Mutex
	attached map[volume.ID]*attachment
	// held has the volumes whose devices are being changed; whoever waits for one
	// waits for its channel to be closed.
	held   map[volume.ID]chan struct{}
	closed bool
}

// Probe reports whether the kernel has what a FrontEnd needs, and has it load
// its module: nil, or Unsupported with what is missing.
func Probe() error {
	_, err := open()
	return err
}

// New makes a front-end: Invalid options, or Unsupported if the kernel does not
// have what it needs.
func New(o Options) (*FrontEnd, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	k, err := open()
	if err != nil {
		return nil, err
	}
	serving, end := context.WithCancel(context.Background())
	return &FrontEnd{
		kernel: k, dir: o.Dir, serving: serving, end: end,
		attached: make(map[volume.ID]*attachment), held: make(map[volume.ID]chan struct{}),
	}, nil
}

// backend is how a volume's device is known to the kernel.
func (f *FrontEnd) backend(id volume.ID) string { return f.prefix() + string(id) }

func (f *FrontEnd) prefix() string { return "holkas " + f.dir + " " }

// number returns the number of a volume's device, or none.
func (f *FrontEnd) number(id volume.ID) (int, error) {
	found, err := backends()
	if err != nil {
		return none, fault.As(fault.Internal, err)
	}
	if number, ok := found[f.backend(id)]; ok {
		return number, nil
	}
	return none, nil
}

// hold makes the caller the only one that changes a volume's device.
func (f *FrontEnd) hold(ctx context.Context, id volume.ID) (release func(), err error) {
	for {
		f.mu.Lock()
		if f.closed {
			f.mu.Unlock()
			return nil, fault.New(fault.Precondition, "the front-end is closed")
		}
		other, taken := f.held[id]
		if !taken {
			mine := make(chan struct{})
			f.held[id] = mine
			f.mu.Unlock()
			return func() {
				f.mu.Lock()
				defer f.mu.Unlock()
				delete(f.held, id)
				close(mine)
			}, nil
		}
		f.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, fault.New(fault.Busy, "%s: its device is being changed: %w", id, ctx.Err())
		}
	}
}

// live returns what serves a volume's device now, or nil.
func (f *FrontEnd) live(id volume.ID) *attachment {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.attached[id]
}

func (f *FrontEnd) set(id volume.ID, a *attachment) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if a == nil {
		delete(f.attached, id)
	} else {
		f.attached[id] = a
	}
}

// Attach gives a device to a volume and serves it with disk until Detach or
// Close. One that this process serves already is returned, and keeps the disk
// that it has, which must be the same one; one that an earlier
// process left is taken over, and the requests that waited in it are answered;
// it has the size that it had, until Resize. InUse if another process still
// serves it, or if it was made read-only or without discard and is now wanted
// otherwise.
func (f *FrontEnd) Attach(ctx context.Context, id volume.ID, disk blockdev.Disk, o blockdev.Options) (blockdev.Device, error) {
	release, err := f.hold(ctx, id)
	if err != nil {
		return blockdev.Device{}, err
	}
	defer release()
	d, err := f.attach(ctx, id, disk, o)
	return d, fault.Wrap(err, "attach an nbd device to", string(id))
}

func (f *FrontEnd) attach(ctx context.Context, id volume.ID, disk blockdev.Disk, o blockdev.Options) (blockdev.Device, error) {
	number, err := f.number(id)
	if err != nil {
		return blockdev.Device{}, err
	}
	if number == none {
		return f.connect(id, disk, o)
	}
	d, err := look(number)
	if err != nil {
		return blockdev.Device{}, err
	}
	switch {
	case d.ReadOnly != o.ReadOnly:
		return blockdev.Device{}, fault.New(fault.InUse, "%s has read-only %t: detach it first", d.Path, d.ReadOnly)
	case o.Discard && !d.Discard && !o.ReadOnly:
		return blockdev.Device{}, fault.New(fault.InUse, "%s was made without discard, which cannot be switched on: detach it first", d.Path)
	}
	a := f.live(id)
	if a == nil || a.number != number || !a.alive() {
		if a, err = f.takeOver(ctx, number, id, disk, o); err != nil {
			return blockdev.Device{}, err
		}
	}
	// The kernel's device may have discards that now go nowhere.
	a.server.discard.Store(o.Discard)
	d.Discard = d.Discard && o.Discard
	return d, nil
}

// connect makes a new device.
func (f *FrontEnd) connect(id volume.ID, disk blockdev.Disk, o blockdev.Options) (blockdev.Device, error) {
	if size := disk.Size(); size <= 0 || size%sectorBytes != 0 {
		return blockdev.Device{}, fault.New(fault.Invalid, "disk of %d bytes: want a multiple of %d", size, sectorBytes)
	}
	kernelEnd, serverEnd, err := pair()
	if err != nil {
		return blockdev.Device{}, err
	}
	number, err := f.kernel.connect(int(kernelEnd.Fd()), f.backend(id), disk.Size(), newServer(disk, o).flags())
	kernelEnd.Close()
	if err != nil {
		serverEnd.Close()
		return blockdev.Device{}, err
	}
	a := serve(f.serving, number, disk, o, serverEnd)
	f.set(id, a)
	if err = errors.Join(setRetry(number, retryAfter), makeNode(number)); err == nil {
		var d blockdev.Device
		if d, err = look(number); err == nil {
			return d, nil
		}
	}
	_ = f.kernel.disconnect(number)
	f.gone(id, number)
	return blockdev.Device{}, err
}

// gone forgets a device that was disconnected.
func (f *FrontEnd) gone(id volume.ID, number int) {
	if a := f.live(id); a != nil {
		a.cancel()
		<-a.done
		f.set(id, nil)
	}
	// The number's next device is another's.
	_ = setRetry(number, kernelRetry)
}

// aliveLimit is how long takeOver waits for the kernel to notice that a device's
// server has died.
const aliveLimit = 5 * time.Second

// takeOver gives a new server to a device that has lost its own. The kernel
// takes a socket only in the place of one that it knows to be dead, and does not
// say whether it did. So whoever holds the socket afterwards decides.
func (f *FrontEnd) takeOver(ctx context.Context, number int, id volume.ID, disk blockdev.Disk, o blockdev.Options) (*attachment, error) {
	if a := f.live(id); a != nil {
		// Its requests come again: its own tries have to be over.
		a.cancel()
		<-a.done
		f.set(id, nil)
	}
	deadline := time.Now().Add(aliveLimit)
	for {
		a, err := f.tryTakeOver(number, id, disk, o)
		if a != nil || err != nil {
			return a, err
		}
		if time.Now().After(deadline) {
			return nil, fault.New(fault.InUse, "%s: another process serves it: it must end first", path(number))
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(10 * time.Millisecond): // poll
		}
	}
}

// tryTakeOver returns nil if the kernel does not see yet, or at all, that the old
// server is dead.
func (f *FrontEnd) tryTakeOver(number int, id volume.ID, disk blockdev.Disk, o blockdev.Options) (*attachment, error) {
	// A process that is just being started has copies of all descriptors.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	kernelEnd, serverEnd, err := pair()
	if err != nil {
		return nil, err
	}
	err = f.kernel.reconfigure(number, f.backend(id), attributes(nil).
		u64(attrDeadTimeout, uint64(deadTimeout/time.Second)).
		u64(attrClientFlags, 0).
		nested(attrSockets, sockets(int(kernelEnd.Fd()))))
	kernelEnd.Close()
	refused := false
	if err == nil {
		refused, err = hungUp(serverEnd)
	}
	if refused || err != nil {
		serverEnd.Close()
		return nil, err
	}
	a := serve(f.serving, number, disk, o, serverEnd)
	a.settled = time.Now().Add(2 * retryAfter)
	f.set(id, a)
	return a, errors.Join(setRetry(number, retryAfter), makeNode(number))
}

// Find returns the devices of all volumes, those included that an earlier
// process left and nobody serves.
func (f *FrontEnd) Find(ctx context.Context) (map[volume.ID]blockdev.Device, error) {
	names, err := backends()
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	found := make(map[volume.ID]blockdev.Device)
	for name, number := range names {
		rest, ours := strings.CutPrefix(name, f.prefix())
		if !ours {
			continue
		}
		id, err := volume.ParseID(rest)
		if err != nil {
			continue
		}
		d, err := look(number)
		if err != nil {
			return nil, err
		}
		if a := f.live(id); a != nil {
			d.Discard = d.Discard && a.server.discard.Load()
		}
		found[id] = d
	}
	return found, ctx.Err()
}

// Resize has the device take the size of its disk, which has grown. NotFound if
// this process serves no device of the volume; Busy if its requests do not get
// answered within ctx.
//
// The kernel lets all requests end before it changes the size, and in that time
// gives a device neither a new server nor up. Requests that nobody answers would
// have it wait for ever, so the change begins when the disk is seen to answer.
func (f *FrontEnd) Resize(ctx context.Context, id volume.ID) error {
	release, err := f.hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(f.resize(ctx, id), "resize the nbd device of", string(id))
}

func (f *FrontEnd) resize(ctx context.Context, id volume.ID) error {
	a := f.live(id)
	if a == nil || !a.alive() {
		return fault.New(fault.NotFound, "it has no nbd device that this process serves")
	}
	d, err := look(a.number)
	size := a.server.disk.Size()
	if err != nil || d.SizeBytes == size {
		return err
	}
	select {
	case <-time.After(time.Until(a.settled)):
	case <-ctx.Done():
		return fault.As(fault.Busy, fmt.Errorf("%s was taken over just now: %w", d.Path, ctx.Err()))
	}
	if err := a.conn.settle(ctx); err != nil {
		return fault.As(fault.Busy, fmt.Errorf("%s has requests that are not answered: %w", d.Path, err))
	}
	return f.kernel.reconfigure(a.number, f.backend(id), attributes(nil).u64(attrSizeBytes, uint64(size)))
}

// Close ends the serving. The devices stay, and what is asked of them waits,
// until an engine attaches them again. Requests under way are answered first; if
// ctx ends meanwhile, they are given up, and are asked again then. When it
// returns, no call of a disk is under way. It never fails.
func (f *FrontEnd) Close(ctx context.Context) error {
	defer f.end()
	f.mu.Lock()
	f.closed = true
	changes := slices.Collect(maps.Values(f.held))
	f.mu.Unlock()
	for _, c := range changes {
		select {
		case <-c:
		case <-ctx.Done():
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	var stopped sync.WaitGroup
	for _, a := range f.attached {
		stopped.Go(func() { a.stop(ctx) })
	}
	stopped.Wait()
	clear(f.attached)
	return nil
}
