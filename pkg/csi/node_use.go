package csi

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/volume"
)

// useOf translates a volume capability into how a node is to use the volume.
// Invalid if it is missing or not understood; Precondition if no volume can have
// it, as CSI wants it of the Node service.
func useOf(c *csi.VolumeCapability) (node.Use, error) {
	var use node.Use
	switch mode := c.GetAccessMode().GetMode(); mode {
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER,
		csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER:
		use.Exclusive = true
	case csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:
		use.ReadOnly = true
	case csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:
		use.ReadOnly, use.Shared = true, true
	case csi.VolumeCapability_AccessMode_MULTI_NODE_SINGLE_WRITER,
		csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:
		return use, fault.New(fault.Precondition, "volume_capability.access_mode: %s: a volume is written on one node, and then used on no other: want a SINGLE_NODE mode, or MULTI_NODE_READER_ONLY", mode)
	default:
		return use, fault.New(fault.Invalid, "volume_capability.access_mode: %s: want a SINGLE_NODE mode, or MULTI_NODE_READER_ONLY", mode)
	}
	switch access := c.GetAccessType().(type) {
	case *csi.VolumeCapability_Block:
		use.Block = true
		return use, nil
	case *csi.VolumeCapability_Mount:
		return mountUse(use, access.Mount)
	}
	return use, fault.New(fault.Invalid, "volume_capability.access_type: none: want block or mount")
}

func mountUse(use node.Use, m *csi.VolumeCapability_MountVolume) (node.Use, error) {
	if m.GetVolumeMountGroup() != "" {
		return use, fault.New(fault.Invalid, "volume_capability.mount.volume_mount_group: %q: the node has no VOLUME_MOUNT_GROUP capability: want it empty", m.GetVolumeMountGroup())
	}
	if m.GetFsType() != "" { // empty is whatever the volume has
		fs, err := volume.ParseFilesystem(m.GetFsType())
		if err != nil {
			return use, err
		}
		use.Filesystem = fs
	}
	use.MountFlags = m.GetMountFlags()
	return use, nil
}
