package node

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// backends are those of the node's engine. A call for a volume goes to the one that
// has it: they are asked in order, since most calls of CSI's Node service name a
// volume and nothing else. One that the engine does not have is passed over.
type backends []backend.Backend

// of returns the backend that has a volume, and the volume. NotFound if none does.
// One that cannot say is an error: the volume may be there.
func (all backends) of(ctx context.Context, id volume.ID) (backend.Backend, backend.Volume, error) {
	absent := fault.New(fault.NotFound, "volume %s: unknown to this node's engine", id)
	for _, b := range all {
		v, err := b.Volume(ctx, id)
		if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unsupported) {
			return b, v, err
		}
	}
	return nil, backend.Volume{}, absent
}

func (all backends) volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	_, v, err := all.of(ctx, id)
	return v, err
}

func (all backends) recordFilesystem(ctx context.Context, id volume.ID, f backend.Filesystem) error {
	b, _, err := all.of(ctx, id)
	if err != nil {
		return err
	}
	return b.RecordFilesystem(ctx, id, f)
}

func (all backends) expand(ctx context.Context, id volume.ID, sizeBytes int64) error {
	b, _, err := all.of(ctx, id)
	if err == nil {
		_, err = b.ExpandVolume(ctx, id, sizeBytes)
	}
	return err
}

func (all backends) attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	b, _, err := all.of(ctx, r.ID)
	if err != nil {
		return backend.Device{}, err
	}
	return b.Attach(ctx, r)
}

// detach asks all of them: a volume that was deleted meanwhile may have a device
// here still, and none of them needs to look it up.
func (all backends) detach(ctx context.Context, id volume.ID) error {
	for _, b := range all {
		err := b.Detach(ctx, id)
		if err != nil && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Unsupported) {
			return err
		}
	}
	return nil
}

func (all backends) volumeHealth(ctx context.Context, id volume.ID) ([]backend.Health, error) {
	b, _, err := all.of(ctx, id)
	if err != nil {
		return nil, err
	}
	return b.VolumeHealth(ctx, id)
}

// health is what is wrong with any of them.
func (all backends) health(ctx context.Context) (health []backend.Health, err error) {
	for _, b := range all {
		found, err := b.Health(ctx)
		if err != nil && !fault.Is(err, fault.Unsupported) {
			return nil, err
		}
		health = append(health, found...)
	}
	return health, nil
}
