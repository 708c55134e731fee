package freeze

import (
	"context"
	"errors"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/mount-utils"

	"github.com/holkas-io/holkas/pkg/volume"
)

// Leftover thaws a filesystem that an earlier process may have left frozen, and
// reports whether it is surely not frozen any more. device is the volume's, empty
// if it has none; as is asked for what is on it, if that must be known.
func Leftover(ctx context.Context, id volume.ID, device string, as func() (volume.Filesystem, error)) (thawed bool, err error) {
	if device == "" {
		return true, nil
	}
	m, err := Find(device)
	if err != nil {
		return false, err
	}
	if m.Point == "" {
		return thawUnmounted(ctx, id, device, as), nil
	}
	thawAt(ctx, id, m.Point)
	return true, nil
}

func thawAt(ctx context.Context, id volume.ID, mountPoint string) {
	if exec.Command("fsfreeze", "--unfreeze", mountPoint).Run() == nil { // apart: this process may serve the device
		klog.FromContext(ctx).Info("Thawed a filesystem that an earlier process left frozen", "volumeID", id, "mountPoint", mountPoint)
	}
	// An error: it was not frozen.
}

// thawUnmounted thaws a filesystem that was unmounted while it was frozen: the
// freeze keeps it alive without any mount, with its device, and every later mount
// shows the same one. A mount for a moment gives the way to it.
func thawUnmounted(ctx context.Context, id volume.ID, device string, as func() (volume.Filesystem, error)) bool {
	if !isHeld(device) {
		return true // nothing is alive
	}
	err := func() error {
		filesystem, err := as()
		if err != nil {
			return err
		}
		dir, err := os.MkdirTemp("", "holkas-thaw-")
		if err != nil {
			return err
		}
		defer os.Remove(dir) // and nothing in it, should it still be mounted
		mounter := mount.New("")
		if err := mounter.Mount(device, dir, string(filesystem), nil); err != nil {
			return err
		}
		thawAt(ctx, id, dir)
		return mounter.Unmount(dir)
	}()
	if err != nil {
		klog.FromContext(ctx).Error(err, "Filesystem may have been left frozen, and cannot be reached: mount its device and thaw it with fsfreeze", "volumeID", id, "device", device)
	}
	return err == nil
}

// isHeld reports whether the kernel or a process has a device for itself.
func isHeld(device string) bool {
	fd, err := unix.Open(device, unix.O_RDONLY|unix.O_EXCL|unix.O_CLOEXEC, 0)
	if err == nil {
		_ = unix.Close(fd)
	}
	return errors.Is(err, unix.EBUSY)
}
