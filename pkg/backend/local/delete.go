package local

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// DeleteVolume implements backend.Backend.
func (b *Backend) DeleteVolume(ctx context.Context, id volume.ID) error {
	return fault.Wrap(b.deleteVolume(ctx, id), "delete volume", string(id))
}

func (b *Backend) deleteVolume(ctx context.Context, id volume.ID) error {
	if _, err := volume.ParseID(string(id)); err != nil {
		return nil // no such volume can exist
	}
	unlock, err := b.lockVolumes(ctx, []volume.ID{id}, "deleting it")
	if err != nil {
		return err
	}
	defer unlock()
	open, away := b.stores(ctx)
	found, err := lookup[record.Volume](open, func(s *store) string { return s.volume(id) })
	if err != nil {
		return err
	}
	// A record that cannot be read does not keep a volume from being deleted.
	for _, p := range found {
		if err := p.writable(); err != nil {
			return err
		}
		if err := b.detach(ctx, p.layout, id); err != nil {
			return err
		}
		if err := p.discard(string(id), p.dir); err != nil {
			return err
		}
		p.space.drop(id)
		p.space.doubt(p.record.SizeBytes)
		p.cuts.forget(id)
	}
	return b.ended(open, away, string(id), len(found) > 0)
}

// DeleteSnapshot implements backend.Backend.
func (b *Backend) DeleteSnapshot(ctx context.Context, id volume.SnapshotID) error {
	return fault.Wrap(b.deleteSnapshot(ctx, id), "delete snapshot", string(id))
}

func (b *Backend) deleteSnapshot(ctx context.Context, id volume.SnapshotID) error {
	if _, err := volume.ParseSnapshotID(string(id)); err != nil {
		return nil // no such snapshot can exist
	}
	unlock, err := b.cutLocks.Lock(ctx, id, "deleting it")
	if err != nil {
		return err
	}
	defer unlock()
	open, away := b.stores(ctx)
	found, err := lookup[record.Snapshot](open, func(s *store) string { return s.snapshot(id) })
	if err != nil {
		return err
	}
	for _, p := range found {
		if err := p.writable(); err != nil {
			return err
		}
		if err := p.discard(string(id), p.dir); err != nil {
			return err
		}
		p.space.doubt(p.record.SizeBytes)
	}
	return b.ended(open, away, string(id), len(found) > 0)
}

// ended makes sure that a deleted id stays deleted, also if it was never seen. A
// pool that is away may hold it.
func (b *Backend) ended(open []*store, away error, id string, found bool) error {
	for _, s := range open {
		s.sweepTombstones(b.options.Now())
	}
	switch {
	case away != nil && !found:
		return fault.New(fault.Transient, "it may be in a pool that is away: %w", away)
	case found || fault.Is(fenced(open, id), fault.Fenced):
		return nil
	}
	return open[0].bury(id)
}
