package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Attacher gives loop devices to files. The zero value is ready for use. One
// process at a time may attach a given file.
type Attacher struct {
	mu sync.Mutex // held by whatever changes devices
}

var _ blockdev.Attacher = (*Attacher)(nil)

// attempts bounds how often a free device is asked for: between the answer and
// its use another process may take it.
const attempts = 64

// Attach gives a device to a file, see blockdev.Attacher.
func (a *Attacher) Attach(ctx context.Context, backing string, o blockdev.Options) (blockdev.Device, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, err := identify(backing)
	if err != nil {
		return blockdev.Device{}, err
	}
	number, err := find(backing, id)
	if err != nil {
		return blockdev.Device{}, err
	}
	if number == none {
		if number, err = configureFree(ctx, backing, o); err != nil {
			return blockdev.Device{}, fault.Wrap(err, "attach", backing)
		}
	}
	d, err := look(number)
	if err != nil {
		return blockdev.Device{}, err
	}
	switch {
	case d.ReadOnly != o.ReadOnly:
		return blockdev.Device{}, fault.New(fault.InUse, "%s: %s is attached to it with read-only %t: detach it first", backing, d.Path, d.ReadOnly)
	case o.Discard && d.discardOff:
		return blockdev.Device{}, fault.New(fault.InUse, "%s: %s is attached to it without discard, which cannot be switched on: detach it first", backing, d.Path)
	case !o.Discard && d.Discard:
		if err := switchDiscardOff(number); err != nil {
			return blockdev.Device{}, err
		}
		d.Discard = false
	}
	return d.Device, nil
}

// configureFree takes a free device for a file.
func configureFree(ctx context.Context, backing string, o blockdev.Options) (int, error) {
	mode := os.O_RDWR
	if o.ReadOnly {
		mode = os.O_RDONLY
	}
	file, err := os.OpenFile(backing, mode, 0)
	if err != nil {
		return none, fault.As(fault.Internal, err)
	}
	defer file.Close()
	for range attempts {
		if err := ctx.Err(); err != nil {
			return none, err
		}
		number, err := free()
		if err != nil {
			return none, err
		}
		switch err := configure(number, file, o.ReadOnly); {
		case err == nil && o.Discard && spoilt(number):
			if err := renew(number); err != nil {
				return none, err
			}
		case err == nil:
			return number, nil
		case errors.Is(err, unix.EBUSY), errors.Is(err, unix.ENXIO):
			continue // another process took it, or removed it
		default:
			return none, fault.As(fault.Internal, err)
		}
	}
	return none, fault.New(fault.Exhausted, "no free loop device in %d attempts: other processes take them", attempts)
}

func configure(number int, file *os.File, readOnly bool) error {
	device, err := openDevice(number, os.O_RDWR)
	if err != nil {
		return err
	}
	defer device.Close()
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: 512}
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	if readOnly {
		config.Info.Flags |= unix.LO_FLAGS_READ_ONLY
	}
	copy(config.Info.File_name[:len(config.Info.File_name)-1], file.Name())
	if err := unix.IoctlLoopConfigure(int(device.Fd()), &config); err != nil {
		return fmt.Errorf("configure %s: %w", path(number), err)
	}
	return nil
}

// Find returns the devices of the files below a directory.
func (a *Attacher) Find(ctx context.Context, dir string) (map[string]blockdev.Device, error) {
	numbers, err := attached()
	if err != nil {
		return nil, err
	}
	found := make(map[string]blockdev.Device)
	for _, number := range numbers {
		backing, ok := below(dir, number)
		if !ok {
			continue
		}
		if d, err := look(number); err == nil {
			found[backing] = d.Device
		}
	}
	return found, ctx.Err()
}

// below returns the file below a directory that backs a device. The kernel names
// a file as it was opened: through a mount that is gone since, as that of a
// container before its restart, it names only what was below that mount. So each
// end of the name is tried, and the file's identity decides.
func below(dir string, number int) (backing string, ok bool) {
	name, err := backingFile(number)
	if err != nil {
		return "", false
	}
	rest := strings.TrimPrefix(name, dir+"/")
	for {
		backing = filepath.Join(dir, rest)
		if id, err := identify(backing); err == nil && isBackedBy(number, id) {
			return backing, true
		}
		if _, rest, ok = strings.Cut(rest, "/"); !ok {
			return "", false // unlinked, or another's
		}
	}
}

// Resize tells the device that its file has grown.
func (a *Attacher) Resize(_ context.Context, backing string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, err := identify(backing)
	if err != nil {
		return err
	}
	number, err := find(backing, id)
	if err != nil {
		return err
	}
	if number == none {
		return fault.New(fault.NotFound, "%s: has no loop device", backing)
	}
	device, err := openDevice(number, os.O_RDONLY)
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	defer device.Close()
	return fault.As(fault.Internal, retryBusy(func() error {
		return os.NewSyscallError("resize "+path(number), ioctl(device, unix.LOOP_SET_CAPACITY))
	}))
}

// openerLimit is how long Detach waits for those who look at the device for a
// moment, as udev's probes do.
const openerLimit = 2 * time.Second

// Detach frees the device of a file.
func (a *Attacher) Detach(ctx context.Context, backing string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, err := identify(backing)
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	deadline := time.Now().Add(openerLimit)
	for {
		number, err := find(backing, id)
		if err != nil || number == none {
			return err
		}
		if err = clear(number, id); !fault.Is(err, fault.InUse) || time.Now().After(deadline) {
			return fault.Wrap(err, "detach", path(number)+" of "+backing)
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// clear frees a device that nobody else has open. The kernel does not refuse to
// clear one that is open: it marks it to be cleared at the last close, behind the
// caller's back. The mark is taken away again.
func clear(number int, id identity) error {
	device, err := openDevice(number, os.O_RDONLY|unix.O_EXCL)
	if errors.Is(err, unix.EBUSY) {
		return fault.New(fault.InUse, "it is mounted or held: unmount it first")
	}
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	err = ioctl(device, unix.LOOP_CLR_FD)
	device.Close()
	if err != nil && !errors.Is(err, unix.ENXIO) {
		if errors.Is(err, unix.EBUSY) {
			return fault.New(fault.InUse, "it is in use: %w", err)
		}
		return fault.As(fault.Internal, os.NewSyscallError("clear", err))
	}
	if !isBackedBy(number, id) {
		remove(number)
		return nil
	}
	if device, err = openDevice(number, os.O_RDONLY); err != nil {
		return fault.As(fault.Internal, err)
	}
	defer device.Close()
	info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
	if errors.Is(err, unix.ENXIO) {
		return nil // the other one closed it meanwhile
	}
	if err == nil {
		info.Flags &^= unix.LO_FLAGS_AUTOCLEAR
		err = unix.IoctlLoopSetStatus64(int(device.Fd()), info)
	}
	if err != nil {
		return fault.As(fault.Internal, os.NewSyscallError("keep "+path(number), err))
	}
	return fault.New(fault.InUse, "another process has it open: let it end first")
}

// retryBusy repeats what the kernel refuses for a moment.
func retryBusy(do func() error) error {
	deadline := time.Now().Add(openerLimit)
	for {
		err := do()
		if !(errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EBUSY)) || time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond)
	}
}
