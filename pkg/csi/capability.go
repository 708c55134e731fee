package csi

import (
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/volume"
)

// demands are what the capabilities of a request ask of a volume together.
type demands struct {
	// minimumBytes is the least size that its filesystem can have.
	minimumBytes int64
	// unsupported says what no volume can have of it, as Invalid.
	unsupported error
	// readers says that readers on many nodes are among them, and readersAlone that
	// there is nobody else.
	readers, readersAlone bool
	// block: it is used as raw block.
	block bool
}

// of says what of the demands a volume of a class cannot have, as Invalid.
func (d demands) of(class volume.Class) error {
	if d.unsupported == nil && d.readers && !class.Shared() {
		return fault.New(fault.Invalid, "volume_capabilities: access_mode: MULTI_NODE_READER_ONLY: a volume with %s %q is used on one node: want a SINGLE_NODE mode", volume.ParamBackend, class.Backend)
	}
	return d.unsupported
}

// demandsOf reads volume capabilities. Invalid if there are none, or if one lacks
// what it must have.
func demandsOf(all []*csi.VolumeCapability) (demands, error) {
	var d demands
	if len(all) == 0 {
		return d, fault.New(fault.Invalid, "volume_capabilities: none: want one or more")
	}
	var first node.Use
	d.readersAlone = true
	for i, c := range all {
		at := fmt.Sprintf("volume_capabilities[%d]", i)
		if err := complete(c); err != nil {
			return demands{}, fault.Wrap(err, "", at)
		}
		use, err := useAt(c)
		if i == 0 {
			first, d.block = use, use.Block
		}
		if err == nil {
			err = together(first, use)
		}
		if err != nil && d.unsupported == nil {
			d.unsupported = fault.Wrap(err, "", at)
		}
		if use.Filesystem != volume.NoFilesystem {
			first.Filesystem = use.Filesystem
		}
		d.minimumBytes = max(d.minimumBytes, minimumBytes(use))
		d.readers, d.readersAlone = d.readers || use.Shared, d.readersAlone && use.Shared
	}
	return d, nil
}

// complete sees that a capability has what the specification requires of it.
func complete(c *csi.VolumeCapability) error {
	if c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_UNKNOWN {
		return fault.New(fault.Invalid, "access_mode: none: want a SINGLE_NODE mode, or MULTI_NODE_READER_ONLY")
	}
	if c.GetAccessType() == nil {
		return fault.New(fault.Invalid, "access_type: none: want block or mount")
	}
	return nil
}

// together reports why one volume cannot be used in both ways.
func together(a, b node.Use) error {
	switch {
	case a.Block != b.Block:
		return fault.New(fault.Invalid, "access_type: both block and mount are asked for: want one of them for one volume")
	case a.Filesystem != b.Filesystem && a.Filesystem != volume.NoFilesystem && b.Filesystem != volume.NoFilesystem:
		return fault.New(fault.Invalid, "mount.fs_type: both %s and %s are asked for: want one of them for one volume", a.Filesystem, b.Filesystem)
	}
	return nil
}

// minimumBytes is the least size of a volume for a use. A volume that is mounted
// with no fs_type gets the default filesystem.
func minimumBytes(use node.Use) int64 {
	if use.Block {
		return volume.MinimumBytes
	}
	if use.Filesystem == volume.NoFilesystem {
		fs, _ := volume.ParseFilesystem("")
		return fs.MinimumBytes()
	}
	return use.Filesystem.MinimumBytes()
}

// useAt translates the capability of a controller's call. What no volume can have, and mount flags that the node would refuse, are Invalid. Flags
// for a filesystem that is not named are left to the node, which knows it.
func useAt(c *csi.VolumeCapability) (node.Use, error) {
	use, err := useOf(c)
	if err == nil && use.Filesystem != volume.NoFilesystem {
		err = fault.Wrap(node.ValidateMountFlags(use.Filesystem, use.MountFlags), "", "volume_capability.mount")
	}
	return use, fault.As(fault.Invalid, err)
}
