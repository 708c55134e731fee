package node

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// growStaged grows a filesystem that was just mounted, if its device is larger:
// it was restored into a larger volume, or an earlier growth was lost.
func (n *Node) growStaged(at *place, d backend.Device) error {
	t, err := mounts()
	if err != nil {
		return err
	}
	m, mounted := t.at(at.real)
	if !mounted || m.readOnly {
		return nil
	}
	larger, err := outgrown(d.Path)
	if err != nil || !larger {
		return err
	}
	return n.grow(d.Path, m, at)
}

// outgrown reports whether a device is larger than the filesystem on it.
func outgrown(device string) (bool, error) {
	d, err := lookAtDevice(device)
	if err != nil {
		return false, fault.As(fault.Internal, err)
	}
	found, err := inspect(device)
	return found.sizeBytes < d.sizeBytes, err
}

// grow makes a mounted filesystem as large as its device.
func (n *Node) grow(device string, m mount, at *place) error {
	_, err := n.resizer.Resize(device, at.real)
	switch {
	case err == nil:
		return nil
	case volume.Filesystem(m.fstype) == volume.Ext4 && !mayGrowMountedExt4():
		return fault.New(fault.Precondition, "grow the filesystem at %s: a mounted ext4 grows only for a process with CAP_SYS_RESOURCE, which the node service lacks: run it privileged, or unstage the volume and stage it again", at.real)
	}
	return fault.New(fault.Internal, "grow the filesystem at %s: %w", at.real, err)
}

const capSysResource = 24

// mayGrowMountedExt4 reports whether this process has CAP_SYS_RESOURCE, which
// the kernel demands for ext4 and for no other filesystem.
func mayGrowMountedExt4() bool {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	err := unix.Capget(&header, &data[0])
	return err == nil && data[0].Effective&(1<<capSysResource) != 0
}

// growUnmounted grows an ext4 that is not mounted, where it could not be grown
// mounted. That takes a full check first, so it is the second choice. The
// resizing must not be cut short, and is not when this process dies; the device
// is then busy for the next one until it is done.
func growUnmounted(ctx context.Context, fs volume.Filesystem, device string) error {
	if fs != volume.Ext4 || mayGrowMountedExt4() {
		return nil
	}
	larger, err := outgrown(device)
	if err != nil || !larger {
		return err
	}
	if err := checkExt4(ctx, device, "-f", "-p"); err != nil {
		return err
	}
	r, err := survivingTool(ctx, "resize2fs", device)
	if err == nil && r.code != 0 {
		err = fault.New(fault.Internal, "resize2fs %s: exit code %d: %s", device, r.code, r.output)
	}
	return err
}
