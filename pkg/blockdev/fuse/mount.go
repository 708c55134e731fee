package fuse

import (
	"errors"
	"os"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Probe reports whether the kernel has what a Server needs: nil, or Precondition
// or Unsupported with what is missing.
func Probe() error {
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		return fault.New(fault.Precondition, "loop devices: %w: load the kernel's module loop", err)
	}
	device, root, err := mount(payload)
	if err != nil {
		return err
	}
	_ = unix.Close(root)
	_ = unix.Close(device)
	return nil
}

// mount makes a filesystem that stands nowhere: no path leads to it, only the
// descriptor root of its folder. So nobody who walks the mount table (df,
// kubelet, a collector of metrics) waits for it while no engine answers.
func mount(maxRead int) (device, root int, err error) {
	device, err = unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, 0, fault.New(fault.Precondition, "/dev/fuse: %w: load the kernel's module fuse", err)
	}
	if root, err = mountOn(device, maxRead); err == nil {
		err = shakeHands(device)
	}
	if err != nil {
		if root > 0 {
			_ = unix.Close(root)
		}
		_ = unix.Close(device)
		return 0, 0, err
	}
	return device, root, nil
}

func mountOn(device, maxRead int) (root int, err error) {
	context, err := unix.Fsopen("fuse", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return 0, fault.New(fault.Unsupported, "a FUSE filesystem that is mounted nowhere: %w: want Linux 5.4 or later, and the right to mount", err)
	}
	defer unix.Close(context)
	for _, option := range [][2]string{
		{"source", "holkas"},
		{"fd", strconv.Itoa(device)},
		{"rootmode", "40000"},
		{"user_id", "0"}, {"group_id", "0"},
		{"max_read", strconv.Itoa(maxRead)},
	} {
		if err := unix.FsconfigSetString(context, option[0], option[1]); err != nil {
			return 0, fault.As(fault.Internal, os.NewSyscallError("fsconfig "+option[0], err))
		}
	}
	if err := unix.FsconfigCreate(context); err != nil {
		return 0, fault.As(fault.Internal, os.NewSyscallError("fsconfig create", err))
	}
	root, err = unix.Fsmount(context, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC)
	return root, fault.As(fault.Internal, os.NewSyscallError("fsmount", err))
}

// shakeHands answers the kernel's first request, which it sends before mount
// returns.
func shakeHands(device int) error {
	b := make([]byte, 8192+payload)
	n, err := unix.Read(device, b)
	switch {
	case err != nil:
		return fault.As(fault.Internal, os.NewSyscallError("read handshake", err))
	case n < requestHeader+16 || order.Uint32(b[4:]) != opInit:
		return fault.New(fault.Internal, "/dev/fuse: operation %d in %d bytes: want the handshake", order.Uint32(b[4:]), n)
	}
	major, minor, flags := order.Uint32(b[requestHeader:]), order.Uint32(b[requestHeader+4:]), order.Uint32(b[requestHeader+12:])
	if major != protocolMajor || minor < protocolMinor || flags&wanted != wanted {
		return fault.New(fault.Unsupported, "/dev/fuse: protocol %d.%d with flags %#x: want %d.%d or later with %#x, Linux 5.4 or later", major, minor, flags, protocolMajor, protocolMinor, wanted)
	}
	reply := make([]byte, replyHeader+64)
	putHeader(reply, order.Uint64(b[8:]), 0, 64)
	putInit(reply[replyHeader:], flags, payload)
	_, err = unix.Write(device, reply)
	return fault.As(fault.Internal, os.NewSyscallError("write handshake", err))
}

// connected reports whether the kernel still has the filesystem of a descriptor
// of /dev/fuse.
func connected(device int) bool {
	poll := []unix.PollFd{{Fd: int32(device), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(poll, 0)
		if !errors.Is(err, unix.EINTR) {
			return err == nil && poll[0].Revents&(unix.POLLERR|unix.POLLNVAL) == 0
		}
	}
}
