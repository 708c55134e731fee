package nbd

import (
	"context"
	"fmt"
	"os/exec"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// openerLimit is how long Detach waits for those who look at the device for a
// moment, as udev's probes do, and for an open of a device that nobody serves.
const openerLimit = 2 * time.Second

// Detach takes a volume's device away. None is success. What was written to it
// and not yet sent is sent first, and an error of that is returned, the device
// still attached. InUse if it is open elsewhere, or if nobody serves it and
// requests wait in it: it is then still attached.
func (f *FrontEnd) Detach(ctx context.Context, id volume.ID) error {
	release, err := f.hold(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(f.detach(ctx, id), "detach the nbd device of", string(id))
}

func (f *FrontEnd) detach(ctx context.Context, id volume.ID) error {
	deadline := time.Now().Add(openerLimit)
	for {
		number, err := f.number(id)
		if err != nil {
			return err
		}
		if number == none {
			if a := f.live(id); a != nil {
				f.gone(id, a.number)
			}
			return nil
		}
		if err = f.release(ctx, id, number); err == nil {
			f.gone(id, number)
			return nil
		}
		if !fault.Is(err, fault.InUse) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(100 * time.Millisecond): // poll
		}
	}
}

// release disconnects a device that nobody has open. The kernel disconnects it
// whoever has it open, but it can be told to do so at the last close. So it is,
// then the device is opened and closed, and if it is still there somebody else
// has it open.
func (f *FrontEnd) release(ctx context.Context, id volume.ID, number int) error {
	if a := f.live(id); a != nil && a.alive() {
		// A disconnection would drop what the kernel has not written yet, or could
		// not write and has told nobody.
		if err := run(ctx, "sync", path(number)); err != nil {
			return err
		}
	}
	setFlags := func(flags uint64) error {
		return f.kernel.reconfigure(number, f.backend(id), attributes(nil).u64(attrClientFlags, flags))
	}
	if err := setFlags(disconnectOnClose); err != nil {
		return err
	}
	// It reads nothing.
	limited, cancel := context.WithTimeout(ctx, openerLimit)
	oerr := run(limited, "dd", "if="+path(number), "count=0", "status=none")
	cancel()
	if still, err := f.number(id); err != nil || still != number {
		return err
	}
	// An error here may also mean that it was closed, and is gone, just now.
	if err := setFlags(0); err != nil {
		if still, nerr := f.number(id); nerr == nil && still != number {
			return nil
		}
		return err
	}
	if oerr != nil && limited.Err() == nil {
		return oerr
	}
	return fault.New(fault.InUse, "%s is open elsewhere, or waits for its server: let it be unmounted or closed, or attach the volume, first", path(number))
}

// run has another process touch a device. Each of its calls may have to wait for
// the device, in the kernel, where nothing can end it, and a process that waits
// so does not end either when it is killed. This one has to end, for its sockets
// to be closed and the device to be given to another.
func run(ctx context.Context, program string, args ...string) error {
	cmd := exec.Command(program, args...)
	message := new(limited)
	cmd.Stderr = message
	if err := cmd.Start(); err != nil {
		return fault.As(fault.Internal, err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // which may be long after this returns
	select {
	case err := <-ended:
		if err != nil {
			return fault.As(fault.Internal, fmt.Errorf("%s: %w: %s", program, err, *message))
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%s has to wait: %w", program, ctx.Err())
	}
}

// limited keeps the beginning of what is written to it.
type limited []byte

func (l *limited) Write(p []byte) (int, error) {
	*l = append(*l, p[:min(len(p), 512-len(*l))]...)
	return len(p), nil
}
