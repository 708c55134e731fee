package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"slices"

	"k8s.io/klog/v2"
	"k8s.io/mount-utils"

	"github.com/holkas-io/holkas/pkg/backend/local/internal/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// mountDevice mounts a pool's device, formatted first if it is blank, the
// configuration says so, and no pool is expected on it (mayFormat).
func mountDevice(ctx context.Context, c PoolConfig, mayFormat bool) error {
	mounter := mount.New("")
	mounted, err := mounter.IsMountPoint(c.MountPath)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Precondition, "mountPath %s: does not exist: want an existing folder", c.MountPath)
	}
	if err != nil {
		return fault.New(fault.Transient, "mountPath %s: %w", c.MountPath, err)
	}
	if mounted {
		return isDeviceMounted(mounter, c)
	}
	content, err := disk.Content(ctx, c.Device)
	if err != nil {
		return err
	}
	if content == "" {
		if content, err = format(ctx, c, mayFormat); err != nil {
			return err
		}
	}
	if content != string(volume.XFSPool) && content != string(volume.BtrfsPool) {
		return fault.New(fault.Precondition, "device %s: holds %s: want xfs or btrfs, or a blank device: Holkas never overwrites what is there", c.Device, content)
	}
	if err := mounter.Mount(c.Device, c.MountPath, content, []string{"noatime"}); err != nil {
		return fault.New(fault.Transient, "mount %s at %s: %w", c.Device, c.MountPath, err)
	}
	return nil
}

func format(ctx context.Context, c PoolConfig, mayFormat bool) (content string, err error) {
	switch {
	case !mayFormat:
		return "", fault.New(fault.Transient, "device %s: is blank, but pool %s was on it: is it the right device?", c.Device, c.Name)
	case c.Format == "":
		return "", fault.New(fault.Precondition, "device %s: is blank, and format is empty: want format xfs or btrfs to have it formatted", c.Device)
	}
	klog.FromContext(ctx).Info("Formatting a blank device", "device", c.Device, "as", c.Format, "pool", c.Name)
	return string(c.Format), disk.Format(ctx, c.Device, c.Format)
}

// isDeviceMounted checks that what is mounted at the mount path is the device.
func isDeviceMounted(mounter mount.Interface, c PoolConfig) error {
	points, err := mounter.List()
	if err != nil {
		return fault.New(fault.Transient, "list of mounts: %w", err)
	}
	for _, p := range slices.Backward(points) {
		if p.Path == c.MountPath {
			if sameDevice(p.Device, c.Device) {
				return nil
			}
			return fault.New(fault.Precondition, "mountPath %s: %s is mounted there: want %s, or nothing", c.MountPath, p.Device, c.Device)
		}
	}
	return fault.New(fault.Transient, "mountPath %s: was unmounted meanwhile", c.MountPath)
}

func sameDevice(a, b string) bool {
	i, err := os.Stat(a)
	j, errJ := os.Stat(b)
	return err == nil && errJ == nil && sameRdev(i, j)
}
