package nbd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// The kernel's interface, as linux/nbd-netlink.h has it.
const (
	familyName = "nbd"

	genlConnect     = 1
	genlDisconnect  = 2
	genlReconfigure = 3

	attrIndex       = 1  // u32
	attrSizeBytes   = 2  // u64
	attrBlockBytes  = 3  // u64
	attrTimeout     = 4  // u64, seconds
	attrServerFlags = 5  // u64
	attrClientFlags = 6  // u64
	attrSockets     = 7  // nested, of sockItem
	attrDeadTimeout = 8  // u64, seconds
	attrBackend     = 10 // text, since Linux 5.14

	sockItem = 1 // nested
	sockFD   = 1 // u32

	disconnectOnClose = 1 << 1
)

const (
	// deadTimeout is how long the kernel keeps the requests of a device whose
	// server is gone, before it fails them.
	deadTimeout = 7 * 24 * time.Hour
	// retryAfter is how often the kernel looks whether a request went to a server
	// that has since been replaced, to send it again: how long a request waits at
	// most that was under way when a server died. Each time it says so in the
	// kernel's log, as it does of a request that is merely slow.
	retryAfter = 5 * time.Second
	// kernelRetry is the kernel's own choice for it.
	kernelRetry = 30 * time.Second
)

// none is no device's number.
const none = -1

func path(number int) string { return "/dev/nbd" + strconv.Itoa(number) }

func sysfs(number int, name string) string {
	return filepath.Join("/sys/block/nbd"+strconv.Itoa(number), name)
}

// resolve returns the number of the kernel's nbd family.
func resolve() (uint16, error) {
	reply, err := call(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, attributes(nil).text(unix.CTRL_ATTR_FAMILY_NAME, familyName))
	switch {
	case errors.Is(err, unix.ENOENT):
		return 0, fault.New(fault.Unsupported, "the kernel has no nbd: load its module nbd, with max_part=0 and nbds_max=0")
	case err != nil:
		return 0, fault.As(fault.Internal, fmt.Errorf("look for the kernel's nbd: %w", err))
	}
	id, attrs := reply[unix.CTRL_ATTR_FAMILY_ID], reply[unix.CTRL_ATTR_MAXATTR]
	if len(id) != 2 || len(attrs) != 4 {
		return 0, fault.New(fault.Internal, "look for the kernel's nbd: an answer without its number")
	}
	if native.Uint32(attrs) < attrBackend {
		return 0, fault.New(fault.Unsupported, "the kernel's nbd does not remember whose a device is: want Linux 5.14 or later")
	}
	return native.Uint16(id), nil
}

// load has the kernel load its module if it is not there: without a scan for
// partitions, and without devices in stock. It may be built in, or be loaded
// from elsewhere, so what follows decides.
func load() {
	if _, err := os.Stat("/sys/module/nbd"); err != nil {
		_ = exec.Command("modprobe", "nbd", "max_part=0", "nbds_max=0").Run()
	}
}

// kernel talks to the kernel's nbd.
type kernel struct{ family uint16 }

// open finds the kernel's nbd, and loads it if need be. Unsupported if there is
// none that will do.
func open() (kernel, error) {
	load()
	family, err := resolve()
	return kernel{family}, err
}

func sockets(fd int) attributes {
	return attributes(nil).nested(sockItem, attributes(nil).bytes(sockFD, native.AppendUint32(nil, uint32(fd))))
}

func index(number int) attributes {
	return attributes(nil).bytes(attrIndex, native.AppendUint32(nil, uint32(number)))
}

// connect makes a device of a disk's size that sends its requests to a socket,
// and returns its number. The kernel keeps the socket.
func (k kernel) connect(fd int, backend string, sizeBytes int64, flags uint16) (int, error) {
	reply, err := call(k.family, genlConnect, attributes(nil).
		u64(attrSizeBytes, uint64(sizeBytes)).
		u64(attrBlockBytes, sectorBytes).
		u64(attrTimeout, 0).
		u64(attrDeadTimeout, uint64(deadTimeout/time.Second)).
		u64(attrServerFlags, uint64(flags)).
		u64(attrClientFlags, 0).
		nested(attrSockets, sockets(fd)).
		text(attrBackend, backend))
	if err != nil {
		return none, fault.As(fault.Internal, fmt.Errorf("connect an nbd device: %w", err))
	}
	if len(reply[attrIndex]) != 4 {
		return none, fault.New(fault.Internal, "connect an nbd device: an answer without its number")
	}
	return int(native.Uint32(reply[attrIndex])), nil
}

// reconfigure changes a device whose backend must be this one.
func (k kernel) reconfigure(number int, backend string, change attributes) error {
	_, err := call(k.family, genlReconfigure, append(index(number).text(attrBackend, backend), change...))
	if err != nil {
		return fault.As(fault.Internal, fmt.Errorf("reconfigure %s: %w", path(number), err))
	}
	return nil
}

// disconnect takes a device away, whoever has it open.
func (k kernel) disconnect(number int) error {
	_, err := call(k.family, genlDisconnect, index(number))
	return err
}

// backends returns the devices that have a backend, by its name.
func backends() (map[string]int, error) {
	files, err := filepath.Glob("/sys/block/nbd*/backend")
	if err != nil {
		return nil, err
	}
	found := make(map[string]int)
	for _, file := range files {
		number, err := strconv.Atoi(strings.TrimPrefix(filepath.Base(filepath.Dir(file)), "nbd"))
		if err != nil {
			continue
		}
		if b, err := os.ReadFile(file); err == nil {
			found[strings.TrimSuffix(string(b), "\n")] = number
		}
	}
	return found, nil
}

// look describes a connected device.
func look(number int) (blockdev.Device, error) {
	var sectors, ro, discard int64
	for name, value := range map[string]*int64{"size": &sectors, "ro": &ro, "queue/discard_max_bytes": &discard} {
		b, err := os.ReadFile(sysfs(number, name))
		if err != nil {
			return blockdev.Device{}, fault.As(fault.Internal, err)
		}
		if *value, err = strconv.ParseInt(strings.TrimSpace(string(b)), 10, 64); err != nil {
			return blockdev.Device{}, fault.As(fault.Internal, fmt.Errorf("%s: %w", sysfs(number, name), err))
		}
	}
	return blockdev.Device{
		Path: path(number), SizeBytes: sectors * sectorBytes,
		ReadOnly: ro != 0, Discard: discard > 0, DirectIO: true,
	}, nil
}

// setRetry says how soon requests of a server that died are sent again.
func setRetry(number int, after time.Duration) error {
	return fault.As(fault.Internal, os.WriteFile(sysfs(number, "queue/io_timeout"), []byte(strconv.FormatInt(after.Milliseconds(), 10)), 0o644))
}

// makeNode sees to a device's node where nothing else does, as in a container
// with a /dev of its own.
func makeNode(number int) error {
	b, err := os.ReadFile(sysfs(number, "dev"))
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	var major, minor uint32
	if _, err := fmt.Sscanf(string(b), "%d:%d", &major, &minor); err != nil {
		return fault.As(fault.Internal, fmt.Errorf("%s: %w", sysfs(number, "dev"), err))
	}
	want := unix.Mkdev(major, minor)
	for range 20 {
		var st unix.Stat_t
		if unix.Stat(path(number), &st) == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == want {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // poll
	}
	// One of another number is left from when the module had other parameters.
	_ = os.Remove(path(number))
	err = unix.Mknod(path(number), unix.S_IFBLK|0o660, int(want))
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fault.As(fault.Internal, &fs.PathError{Op: "mknod", Path: path(number), Err: err})
	}
	return nil
}
