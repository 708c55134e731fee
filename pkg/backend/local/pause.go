package local

import (
	"context"
	"maps"
	"slices"
	"sync"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Pause implements backend.Backend.
func (b *Backend) Pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	return fault.Wrap(b.pauses.Begin(ctx, id, volumes, func(h *pause.Hold[*hold], ids []volume.ID) error {
		return b.holdAll(ctx, h, ids)
	}), "pause", string(id))
}

// holdAll locks all volumes, and freezes those that are mounted; the others cannot
// be attached meanwhile.
func (b *Backend) holdAll(ctx context.Context, h *pause.Hold[*hold], volumes []volume.ID) error {
	unlock, err := b.lockVolumes(ctx, volumes, "a pause for a group snapshot")
	if err != nil {
		return err
	}
	h.Unlock = unlock
	for _, id := range volumes {
		f, err := b.readyMember(ctx, id)
		if err != nil {
			return fault.Wrap(err, "pause volume", string(id))
		}
		if f != nil {
			h.Members[id] = f
		}
	}
	freezes := slices.Collect(maps.Values(h.Members))
	if err := settleAll(freezes); err != nil {
		return err
	}
	for _, f := range freezes {
		if err := f.Arm(b.options.PauseLimit); err != nil {
			return fault.Wrap(err, "pause volume", string(f.Volume()))
		}
	}
	h.Watch(ctx, b.options.PauseLimit)
	for _, f := range freezes {
		if err := f.Begin(); err != nil {
			return fault.Wrap(err, "pause volume", string(f.Volume()))
		}
	}
	return nil
}

// settleAll settles all at once: what one dirties while another is settled would
// be written while the first is frozen already.
func settleAll(freezes []*hold) error {
	errs := make([]error, len(freezes))
	var all sync.WaitGroup
	for i, f := range freezes {
		all.Go(func() { errs[i] = fault.Wrap(f.Settle(), "pause volume", string(f.Volume())) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readyMember prepares the freezing of one volume; nil if it needs none.
func (b *Backend) readyMember(ctx context.Context, id volume.ID) (*hold, error) {
	from, err := b.findVolume(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := from.writable(); err != nil {
		return nil, err
	}
	u, err := b.usage(ctx, from.store, id)
	if err != nil || !u.writable {
		return nil, err
	}
	if u.mountPoint == "" {
		return nil, fault.New(fault.Precondition, "it is attached as a raw block device, which nothing can freeze: snapshot it by itself, or detach it")
	}
	return b.readyToFreeze(from, u.mountPoint)
}

// Resume implements backend.Backend.
func (b *Backend) Resume(ctx context.Context, id backend.PauseID) error {
	return fault.Wrap(b.pauses.Resume(ctx, id), "resume", string(id))
}
