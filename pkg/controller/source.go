package controller

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// origin is what a volume starts from, and where that is. The zero origin is
// nothing: a blank volume, anywhere.
type origin struct {
	backend.Source
	where
	sizeBytes int64
	what      string // for messages
}

// origin finds the source of a volume. NotFound if there is none such.
func (c *Controller) origin(ctx context.Context, s repository.Source) (origin, error) {
	switch {
	case s.Snapshot != "":
		h, err := volume.ParseHandle(s.Snapshot)
		if err != nil {
			return origin{}, err
		}
		snapshot, err := c.Snapshot(ctx, h)
		if err != nil {
			return origin{}, err
		}
		shared := snapshot.Class.Shared()
		return origin{backend.Source{Snapshot: snapshot.ID}, where{snapshot.Class.Backend, snapshot.Node, !shared}, snapshot.SizeBytes, "snapshot " + s.Snapshot}, nil
	case s.Volume != "":
		v, err := c.Volume(ctx, s.Volume)
		if err != nil {
			return origin{}, err
		}
		return origin{backend.Source{Volume: v.ID}, whereIs(v), v.SizeBytes, "volume " + string(v.ID)}, nil
	}
	return origin{}, nil
}

// size is the size of a volume that starts from the origin. OutOfRange if the
// range does not reach the origin's own size.
func (o origin) size(r volume.Range, minimumBytes int64) (int64, error) {
	if o.sizeBytes > 0 && r.RequiredBytes == 0 {
		minimumBytes = max(minimumBytes, o.sizeBytes)
		r.RequiredBytes = o.sizeBytes
		if r.LimitBytes > 0 && r.LimitBytes < o.sizeBytes {
			return 0, fault.New(fault.OutOfRange, "capacity_range.limit_bytes: %d: want at least the %d bytes of %s", r.LimitBytes, o.sizeBytes, o.what)
		}
	}
	sizeBytes, err := r.Size(minimumBytes)
	if err == nil && sizeBytes < o.sizeBytes {
		return 0, fault.New(fault.OutOfRange, "capacity_range.required_bytes: %d: want at least the %d bytes of %s", r.RequiredBytes, o.sizeBytes, o.what)
	}
	return sizeBytes, err
}

// suits reports, as Invalid, an origin of another backend than the class's.
func (o origin) suits(class volume.Class) error {
	if o.what == "" || o.backend == class.Backend {
		return nil
	}
	return fault.New(fault.Invalid, "volume_content_source: %s has %s %q and the class has %q: want a class with %q: a volume cannot be made from one of another backend yet", o.what, volume.ParamBackend, o.backend, class.Backend, o.backend)
}

// pin narrows a topology to the origin's node if it is only there: a local volume is
// cloned where it is. Exhausted, naming the node, if the topology excludes it. What
// is shared is best made where its origin was used last.
func (o origin) pin(t Topology) (Topology, error) {
	if o.node == "" {
		return t, nil
	}
	if !o.alone {
		t.Preferred = append(slices.Clip(t.Preferred), o.node)
		return t, nil
	}
	if !t.allows(o.node) {
		return t, fault.New(fault.Exhausted, "%s is on node %q and can be cloned only there, but the topology requirement excludes it: want it to include that node", o.what, o.node)
	}
	return Topology{Requisite: []volume.NodeID{o.node}}, nil
}
