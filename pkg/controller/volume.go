package controller

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func (c *Controller) volumeKind() kind[repository.Volume] {
	return kind[repository.Volume]{
		what:    "volume",
		names:   c.repository.VolumeNames,
		records: c.repository.Volumes,
		now:     c.now,
		facts: func(v repository.Volume) facts {
			return facts{string(v.ID), v.Name, v.State, v.Changed}
		},
		ended: func(id, name string) repository.Volume {
			now := c.now()
			return repository.Volume{ID: volume.ID(id), Name: name, State: repository.Ended, Created: now, Changed: now}
		},
		leaving: func(v repository.Volume) repository.Volume {
			v.State, v.Changed = repository.Deleting, c.now()
			return v
		},
		undo: func(ctx context.Context, n repository.Name) error {
			return c.erase(ctx, where{n.Backend, n.Node, !volume.Shared(n.Backend)}, repository.Tombstone{Volume: volume.ID(n.ID)})
		},
		dispose: func(ctx context.Context, v repository.Volume) error {
			return c.erase(ctx, whereIs(v), repository.Tombstone{Volume: v.ID})
		},
	}
}

// DeleteVolume implements Service.
func (c *Controller) DeleteVolume(ctx context.Context, id volume.ID) error {
	release, err := c.lock("volume", string(id), "DeleteVolume")
	if err != nil {
		return err
	}
	defer release()
	err = c.volumes.delete(ctx, string(id), func(v repository.Volume) error {
		if len(v.Publications) == 0 {
			return nil
		}
		return fault.New(fault.InUse, "published to %s: want it unpublished first", publishedTo(v))
	})
	return c.noted(fault.Wrap(err, "delete volume", string(id)))
}

func publishedTo(v repository.Volume) string {
	var nodes []string
	for _, p := range v.Publications {
		nodes = append(nodes, fmt.Sprintf("node %q", p.Node))
	}
	return strings.Join(slices.Compact(nodes), ", ")
}

// Volume implements Service.
func (c *Controller) Volume(ctx context.Context, id volume.ID) (repository.Volume, error) {
	record, err := c.repository.Volumes.Latest(ctx, string(id))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return repository.Volume{}, err
	}
	if err != nil || record.Value.State != repository.Ready {
		return repository.Volume{}, noVolume(id, record.Value.State)
	}
	return record.Value, nil
}

func noVolume(id volume.ID, state repository.State) error {
	if state == repository.Deleting {
		return fault.New(fault.NotFound, "volume %q: it is being deleted", id)
	}
	return fault.New(fault.NotFound, "volume %q: there is none of this id", id)
}

// Volumes implements Service. A volume that is being deleted is not listed: its
// deletion was asked for, will be finished, and nothing can be done with it.
func (c *Controller) Volumes(ctx context.Context, after volume.ID, limit int) (page []repository.Volume, next volume.ID, err error) {
	ready := func(v repository.Volume) (bool, error) { return v.State == repository.Ready, nil }
	page, position, err := list(ctx, c.repository.Volumes, string(after), limit, ready)
	return page, volume.ID(position), err
}

// VolumeHealth implements Service. Absence is an error: a volume that its node
// does not have is lost data. An engine that hangs is told of in time, as one that
// is down is.
func (c *Controller) VolumeHealth(ctx context.Context, id volume.ID) (VolumeHealth, error) {
	v, err := c.Volume(ctx, id)
	if err != nil {
		return VolumeHealth{}, err
	}
	var health []backend.Health
	node, b, err := c.reach(ctx, whereIs(v))
	if err == nil {
		asked, cancel := context.WithTimeout(ctx, probeTimeout)
		health, err = b.VolumeHealth(asked, id)
		cancel()
	}
	switch {
	case ctx.Err() != nil:
		return VolumeHealth{}, ctx.Err()
	case fault.Is(err, fault.NotFound):
		if _, err := c.Volume(ctx, id); err != nil { // deleted meanwhile
			return VolumeHealth{}, err
		}
		message := fmt.Sprintf("node %q has no volume %s, though the repository has its record: was its pool replaced? Restore the pool, or delete the volume", node, id)
		if v.Class.Shared() {
			message = fmt.Sprintf("the repository has no data of volume %s, though it has its record: were objects deleted? Put them back, or delete the volume", id)
		}
		health = []backend.Health{{Severity: backend.DataLoss, Reason: "VolumeMissing", Message: message}}
	case err != nil:
		health = []backend.Health{{
			Severity: backend.Inaccessible, Reason: "NodeUnreachable",
			Message: fmt.Sprintf("the engine of node %q does not answer: %v", node, err),
		}}
	}
	return VolumeHealth{Volume: id, Health: health}, nil
}

// lost turns an engine's NotFound into what it is: Corrupt, if the thing's
// record still says that it is there.
func (c *Controller) lost(err error, node volume.NodeID, look func() error) error {
	if !fault.Is(err, fault.NotFound) {
		return err
	}
	if gone := look(); gone != nil {
		return gone
	}
	return fault.New(fault.Corrupt, "the repository has its record, but node %q does not have it: %w", node, err)
}
