package node

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// ExpandRequest says what to grow on the node.
type ExpandRequest struct {
	ID volume.ID
	// VolumePath is where the volume is staged or published.
	VolumePath string
	Range      volume.Range
	// Block, if not nil, says how the caller believes that it is used.
	Block *bool
}

// Expand grows a staged volume's filesystem to its device, or sees that its
// device has grown, and returns the device's size. NotFound if the volume is not
// at the path; OutOfRange if the device does not have the size that is asked
// for; Invalid if the volume is used in another way than the caller believes.
func (n *Node) Expand(ctx context.Context, r ExpandRequest) (int64, error) {
	if err := r.Range.Validate(); err != nil {
		return 0, fault.Wrap(err, "expand", string(r.ID))
	}
	grown := make(chan int64, 1)
	err := n.exclusively(ctx, "expand", r.ID, r.VolumePath, func(ctx context.Context) error {
		sizeBytes, err := n.expand(ctx, r)
		grown <- sizeBytes
		return err
	})
	if err != nil {
		return 0, err
	}
	return <-grown, nil
}

func (n *Node) expand(ctx context.Context, r ExpandRequest) (int64, error) {
	v, at, m, err := n.located(ctx, r.ID, r.VolumePath)
	if err != nil {
		return 0, err
	}
	defer at.Close()
	block := m.shows(v.Device)
	if r.Block != nil && *r.Block != block {
		return 0, fault.New(fault.Invalid, "volume_capability: block %t, but at %s it is %t: want the one that the volume is published with", *r.Block, r.VolumePath, block)
	}
	d, err := n.grownDevice(ctx, v)
	if err != nil {
		return 0, err
	}
	if !r.Range.Holds(d.sizeBytes) {
		return 0, fault.New(fault.OutOfRange, "capacity_range: from %d to %d (0: any), but the volume has %d bytes: expand it in the controller first, and want a range that holds its size", r.Range.RequiredBytes, r.Range.LimitBytes, d.sizeBytes)
	}
	if block {
		return d.sizeBytes, nil
	}
	if m.superReadOnly {
		return 0, fault.New(fault.Precondition, "the filesystem at %s is mounted read-only and cannot grow: it will when it is staged for writing", r.VolumePath)
	}
	return d.sizeBytes, n.grow(v.Device, m, at)
}

// grownDevice looks at a volume's device, which the engine is asked to see to if
// it died between growing the volume and growing the device.
func (n *Node) grownDevice(ctx context.Context, v backend.Volume) (blockDevice, error) {
	d, err := lookAtDevice(v.Device)
	if err == nil && d.sizeBytes < v.SizeBytes {
		if err := n.engine.expand(ctx, v.ID, v.SizeBytes); err != nil {
			return d, err
		}
		d, err = lookAtDevice(v.Device)
	}
	return d, fault.As(fault.Internal, err)
}

// located returns a volume and the mount of it that is at a path. NotFound if it
// is not there, whatever else is wrong with the path.
func (n *Node) located(ctx context.Context, id volume.ID, path string) (backend.Volume, *place, mount, error) {
	v, err := n.volume(ctx, id)
	if err != nil {
		return v, nil, mount{}, err
	}
	at, err := n.tree.find("volume_path", path)
	if err != nil {
		return v, nil, mount{}, fault.As(fault.NotFound, err)
	}
	t, err := mounts()
	if err != nil {
		at.Close()
		return v, nil, mount{}, err
	}
	m, mounted := t.at(at.real)
	if !mounted || v.Device == "" || !m.holds(v.Device) && !m.shows(v.Device) {
		at.Close()
		return v, nil, mount{}, fault.New(fault.NotFound, "volume_path: the volume is neither staged nor published at %s", path)
	}
	return v, at, m, nil
}
