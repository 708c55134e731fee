package controller

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// ExpandVolume implements Service.
func (c *Controller) ExpandVolume(ctx context.Context, id volume.ID, r volume.Range) (repository.Volume, error) {
	v, err := c.Volume(ctx, id)
	if err != nil {
		return repository.Volume{}, err
	}
	sizeBytes, err := expansion(v, r)
	if err == nil && sizeBytes > v.SizeBytes && v.Request.ReadOnly {
		err = fault.New(fault.Precondition, "it is for readers alone, and nothing can use more of it: want a new volume from its snapshot")
	}
	if err == nil && sizeBytes > v.SizeBytes {
		v, err = c.change(ctx, id, "ExpandVolume", func(_ repository.Volume, b backend.Backend) error {
			_, err := b.ExpandVolume(ctx, id, sizeBytes)
			return err
		})
		if err == nil { // an earlier call that was not repeated may have gone further
			_, err = expansion(v, r)
		}
	}
	return v, fault.Wrap(err, "expand volume", string(id))
}

// expansion is the size that a volume is to have: never less than now.
func expansion(v repository.Volume, r volume.Range) (int64, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	if r.LimitBytes > 0 && r.LimitBytes < v.SizeBytes {
		return 0, fault.New(fault.OutOfRange, "capacity_range.limit_bytes: %d: the volume has %d and cannot shrink: want at least that", r.LimitBytes, v.SizeBytes)
	}
	if r.RequiredBytes <= v.SizeBytes {
		return v.SizeBytes, nil
	}
	sizeBytes, err := r.Size(volume.MinimumBytes)
	if err == nil {
		err = v.Class.CheckSize(sizeBytes)
	}
	return sizeBytes, err
}

// ModifyVolume implements Service.
func (c *Controller) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) error {
	_, err := c.change(ctx, id, "ModifyVolume", func(v repository.Volume, b backend.Backend) error {
		if _, err := v.Class.Apply(m); err != nil {
			return err
		}
		_, err := b.ModifyVolume(ctx, id, m)
		return err
	})
	return fault.Wrap(err, "modify volume", string(id))
}

// change has the engine change a volume, and then copies the engine's state into
// the record. Whoever copies reads the engine after the record that it replaces,
// so after any race, the last change at the engine is the last in the record.
func (c *Controller) change(ctx context.Context, id volume.ID, operation string, do func(repository.Volume, backend.Backend) error) (repository.Volume, error) {
	release, err := c.lock("volume", string(id), operation)
	if err != nil {
		return repository.Volume{}, err
	}
	defer release()
	v, err := c.Volume(ctx, id)
	if err != nil {
		return repository.Volume{}, err
	}
	look := func() error { _, err := c.Volume(ctx, id); return err }
	node, b, err := c.reach(ctx, whereIs(v))
	if err == nil {
		err = do(v, b)
	}
	if err != nil {
		return repository.Volume{}, c.lost(err, node, look)
	}
	crashpoint.Here("controller: engine changed the volume")
	record, err := c.repository.Volumes.Update(ctx, string(id), func(v repository.Volume) (repository.Volume, error) {
		if v.State != repository.Ready {
			return v, noVolume(v.ID, v.State)
		}
		now, err := b.Volume(ctx, id)
		if err != nil {
			return v, c.lost(err, node, look)
		}
		return c.withState(v, now), nil
	})
	return record.Value, err
}

// withState returns the record with what may change of a volume as its engine
// has it.
func (c *Controller) withState(v repository.Volume, now backend.Volume) repository.Volume {
	class := v.Class.Renewed(now.Class)
	if v.SizeBytes != now.SizeBytes || v.Class != class {
		v.SizeBytes, v.Class, v.Changed = now.SizeBytes, class, c.now()
	}
	return v
}
