package loop

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// none is no device's number.
const none = -1

func path(number int) string { return "/dev/loop" + strconv.Itoa(number) }

func sysfs(number int, name string) string {
	return filepath.Join("/sys/block/loop"+strconv.Itoa(number), name)
}

// identity is what a file is, whatever it is called.
type identity struct{ device, inode uint64 }

func identify(backing string) (identity, error) {
	var st unix.Stat_t
	err := unix.Stat(backing, &st)
	switch {
	case errors.Is(err, unix.ENOENT):
		return identity{}, fault.New(fault.NotFound, "backing file %s: does not exist", backing)
	case err != nil:
		return identity{}, fault.As(fault.Internal, &fs.PathError{Op: "stat", Path: backing, Err: err})
	}
	return identity{st.Dev, st.Ino}, nil
}

// attached returns the numbers of the devices that have a backing file now.
func attached() ([]int, error) {
	dirs, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, err
	}
	var numbers []int
	for _, dir := range dirs {
		if number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(dir)), "loop")); err == nil {
			numbers = append(numbers, number)
		}
	}
	return numbers, nil
}

// backingFile is the name under which a device's file was opened. One that was
// unlinked ends with " (deleted)".
func backingFile(number int) (string, error) {
	b, err := os.ReadFile(sysfs(number, "loop/backing_file"))
	return strings.TrimSuffix(string(b), "\n"), err
}

// find returns the number of the device that a file has, or none. The name is
// only a hint of where to look first: another mount namespace sees another one.
func find(backing string, id identity) (int, error) {
	numbers, err := attached()
	if err != nil {
		return none, fault.As(fault.Internal, err)
	}
	base := filepath.Base(backing)
	var rest []int
	for _, number := range numbers {
		name, err := backingFile(number)
		switch {
		case err != nil || filepath.Base(name) != base:
		case name == backing && isBackedBy(number, id):
			return number, nil
		case name != backing:
			rest = append(rest, number)
		}
	}
	for _, number := range rest {
		if isBackedBy(number, id) {
			return number, nil
		}
	}
	return none, nil
}

// isBackedBy reports whether a device is backed by a file.
func isBackedBy(number int, id identity) bool {
	device, err := openDevice(number, os.O_RDONLY)
	if err != nil {
		return false
	}
	defer device.Close()
	info, err := unix.IoctlLoopGetStatus64(int(device.Fd()))
	return err == nil && info.Device == id.device && info.Inode == id.inode
}

// device is an attached device.
type device struct {
	blockdev.Device
	discardOff bool // it could discard, and was told not to
}

// look describes an attached device.
func look(number int) (device, error) {
	f, err := openDevice(number, os.O_RDONLY)
	if err != nil {
		return device{}, fault.As(fault.Internal, err)
	}
	defer f.Close()
	info, err := unix.IoctlLoopGetStatus64(int(f.Fd()))
	if err != nil {
		return device{}, fault.As(fault.Internal, os.NewSyscallError("status of "+path(number), err))
	}
	var sectors, can, may int64
	for name, value := range map[string]*int64{"size": &sectors, "queue/discard_max_hw_bytes": &can, "queue/discard_max_bytes": &may} {
		if *value, err = readNumber(sysfs(number, name)); err != nil {
			return device{}, err
		}
	}
	return device{blockdev.Device{
		Path: path(number), SizeBytes: sectors * 512,
		ReadOnly: info.Flags&unix.LO_FLAGS_READ_ONLY != 0,
		DirectIO: info.Flags&unix.LO_FLAGS_DIRECT_IO != 0,
		Discard:  may > 0,
	}, can > 0 && may == 0}, nil
}

func readNumber(file string) (int64, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return 0, fault.As(fault.Internal, err)
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64)
	return n, fault.As(fault.Internal, err)
}

// switchDiscardOff makes the device say that it has no discard. The kernel keeps
// that with the number, whatever file it is given next, and then refuses to take
// it back: see remove.
func switchDiscardOff(number int) error {
	return fault.As(fault.Internal, os.WriteFile(sysfs(number, "queue/discard_max_bytes"), []byte("0"), 0o644))
}

// spoilt reports whether discard was switched off for a device that could have
// it.
func spoilt(number int) bool {
	d, err := look(number)
	return err == nil && d.discardOff
}

// renew frees a device that was just configured and removes it, so that the
// next of its number is as new.
func renew(number int) error {
	device, err := openDevice(number, os.O_RDONLY)
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	err = ioctl(device, unix.LOOP_CLR_FD)
	device.Close()
	if err != nil {
		return fault.As(fault.Internal, os.NewSyscallError("clear "+path(number), err))
	}
	remove(number)
	return nil
}

// remove removes a free device, so that what was switched off for it does not
// meet the next who is given its number. One that somebody has taken meanwhile
// is refused by the kernel, and left.
func remove(number int) {
	if control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0); err == nil {
		_ = unix.IoctlSetInt(int(control.Fd()), unix.LOOP_CTL_REMOVE, number)
		control.Close()
	}
}

// free asks the kernel for a free device, which it makes if there is none.
func free() (int, error) {
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		return none, fault.New(fault.Precondition, "loop devices: %w: load the kernel's module loop", err)
	}
	defer control.Close()
	number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return none, fault.New(fault.Exhausted, "no free loop device: %w: raise the kernel's limit max_loop, or move volumes to other nodes", err)
	}
	return number, nil
}

const loopMajor = 7

// openDevice opens a device's node. Where nothing makes nodes for new devices,
// as in a container with a /dev of its own, it is made.
func openDevice(number int, flags int) (*os.File, error) {
	f, err := os.OpenFile(path(number), flags, 0)
	if !errors.Is(err, fs.ErrNotExist) {
		return f, err
	}
	for range 20 {
		time.Sleep(5 * time.Millisecond)
		if f, err = os.OpenFile(path(number), flags, 0); !errors.Is(err, fs.ErrNotExist) {
			return f, err
		}
	}
	if err := unix.Mknod(path(number), unix.S_IFBLK|0o660, int(unix.Mkdev(loopMajor, uint32(number)))); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, &fs.PathError{Op: "mknod", Path: path(number), Err: err}
	}
	return os.OpenFile(path(number), flags, 0)
}

// ioctl makes a request without an argument.
func ioctl(f *os.File, request uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, 0); errno != 0 {
		return errno
	}
	return nil
}
