package loop

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Named returns the device whose backing file the kernel names so. It asks
// nothing of the file, whose filesystem may not answer.
func Named(name string) (d blockdev.Device, found bool, err error) {
	number, err := named(name)
	if err != nil || number == none {
		return blockdev.Device{}, false, err
	}
	var sectors, readOnly, direct, discard int64
	for attribute, value := range map[string]*int64{"size": &sectors, "ro": &readOnly, "loop/dio": &direct, "queue/discard_max_bytes": &discard} {
		if *value, err = readNumber(sysfs(number, attribute)); err != nil {
			return blockdev.Device{}, false, err
		}
	}
	return blockdev.Device{Path: path(number), SizeBytes: sectors * 512, ReadOnly: readOnly != 0, DirectIO: direct != 0, Discard: discard > 0}, true, nil
}

// InFlight returns how many requests the device is at work on whose backing file
// the kernel names so.
func InFlight(name string) (int64, error) {
	number, err := named(name)
	if err != nil || number == none {
		return 0, err
	}
	b, err := os.ReadFile(sysfs(number, "inflight"))
	if err != nil {
		return 0, fault.As(fault.Internal, err)
	}
	var reads, writes int64
	if _, err := fmt.Sscan(string(b), &reads, &writes); err != nil {
		return 0, fault.New(fault.Internal, "%s: %q: %w", sysfs(number, "inflight"), b, err)
	}
	return reads + writes, nil
}

func named(name string) (int, error) {
	numbers, err := attached()
	if err != nil {
		return none, fault.As(fault.Internal, err)
	}
	for _, number := range numbers {
		if got, err := backingFile(number); err == nil && got == name {
			return number, nil
		}
	}
	return none, nil
}

// Abandon frees the device whose backing file the kernel names so, and which is
// gone: nothing can be read or written any more. If the device is open, it is
// freed when the last one closes it.
func Abandon(name string) error {
	number, err := named(name)
	if err != nil || number == none {
		return err
	}
	device, err := openDevice(number, os.O_RDONLY)
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	defer device.Close()
	// While it is open here it cannot be given another file.
	if now, err := backingFile(number); err != nil || now != name {
		return nil
	}
	if err := ioctl(device, unix.LOOP_CLR_FD); err != nil {
		return fault.As(fault.Internal, os.NewSyscallError("clear "+path(number), err))
	}
	return nil
}
