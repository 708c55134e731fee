package local

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateSnapshot implements backend.Backend.
func (b *Backend) CreateSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	s, err := b.createSnapshot(ctx, r)
	return s, fault.Wrap(err, "create snapshot", string(r.ID))
}

func (b *Backend) createSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	if err := validateSnapshot(r); err != nil {
		return backend.Snapshot{}, err
	}
	held, unlock, err := b.lockForCut(ctx, r)
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer unlock()
	open, away := b.stores(ctx)
	found, err := lookup[record.Snapshot](open, func(s *store) string { return s.snapshot(r.ID) })
	if err != nil {
		return backend.Snapshot{}, err
	}
	if len(found) > 0 {
		return cutBefore(r, found, away)
	}
	if err := fenced(open, string(r.ID)); err != nil {
		return backend.Snapshot{}, err
	}
	if r.Pause != "" && held == nil {
		return backend.Snapshot{}, fault.New(fault.Precondition, "pause %s does not hold volume %s: it was never begun here, or has ended", r.Pause, r.Volume)
	}
	from, err := b.findVolume(ctx, r.Volume)
	if err != nil {
		return backend.Snapshot{}, err
	}
	return b.snapshot(ctx, r, from, held)
}

func validateSnapshot(r backend.CreateSnapshotRequest) error {
	if _, err := volume.ParseSnapshotID(string(r.ID)); err != nil {
		return fault.As(fault.Invalid, err)
	}
	if c := r.Consistency; c != volume.FilesystemConsistent && c != volume.CrashConsistent {
		return fault.New(fault.Invalid, "consistency: %q: want %q or %q", c, volume.FilesystemConsistent, volume.CrashConsistent)
	}
	_, err := volume.ParseID(string(r.Volume))
	return err
}

// lockForCut locks the volume, or joins the pause that holds it, and then locks
// the snapshot. held is nil without a pause, and for one that is over.
func (b *Backend) lockForCut(ctx context.Context, r backend.CreateSnapshotRequest) (held *pause.Held[*hold], unlock func(), err error) {
	var leave func()
	if r.Pause != "" {
		held, leave = b.pauses.Join(r.Pause, r.Volume)
	} else if leave, err = b.lockVolumes(ctx, []volume.ID{r.Volume}, "snapshotting it as "+string(r.ID)); err != nil {
		return nil, nil, err
	}
	unlockCut, err := b.cutLocks.Lock(ctx, r.ID, "creating it")
	if err != nil {
		leave()
		return nil, nil, err
	}
	return held, func() { unlockCut(); leave() }, nil
}

// cutBefore answers a create whose snapshot is there.
func cutBefore(r backend.CreateSnapshotRequest, found []place[record.Snapshot], away error) (backend.Snapshot, error) {
	p, err := one(found, away, "snapshot", string(r.ID))
	if err != nil {
		return backend.Snapshot{}, err
	}
	if p.record.Volume != r.Volume || p.record.Request.Consistency != r.Consistency {
		return backend.Snapshot{}, fault.New(fault.Exists, "the id belongs to a snapshot of volume %s with consistency %q: want volume %s and %q",
			p.record.Volume, p.record.Request.Consistency, r.Volume, r.Consistency)
	}
	return replySnapshot(p.record), nil
}

func (b *Backend) snapshot(ctx context.Context, r backend.CreateSnapshotRequest, from place[record.Volume], held *pause.Held[*hold]) (backend.Snapshot, error) {
	if err := from.writable(); err != nil {
		return backend.Snapshot{}, err
	}
	from.space.ensure(r.Volume, accountOf(from))
	release, err := from.space.hold(r.Volume, claim{})
	if err != nil {
		return backend.Snapshot{}, from.wrap(err)
	}
	defer release()
	s, err := build(from.store, string(r.ID), from.snapshot(r.ID), func(tmp string) (record.Snapshot, error) {
		cut, err := b.cut(ctx, from, r.Consistency, held, tmp)
		return record.Snapshot{
			ID: r.ID, Volume: r.Volume, SizeBytes: from.record.SizeBytes, Consistency: cut.consistency,
			Filesystem: from.record.Filesystem, CreatedAt: cut.at, Pause: cut.pause, Predicted: cut.predicted,
			Request: record.SnapshotRequest{Consistency: r.Consistency},
		}, err
	})
	if err != nil {
		return backend.Snapshot{}, err
	}
	return replySnapshot(s), nil
}

// Snapshot implements backend.Backend.
func (b *Backend) Snapshot(ctx context.Context, id volume.SnapshotID) (backend.Snapshot, error) {
	p, err := b.findSnapshot(ctx, id)
	if err != nil {
		return backend.Snapshot{}, fault.Wrap(err, "look up snapshot", string(id))
	}
	return replySnapshot(p.record), nil
}

func replySnapshot(r record.Snapshot) backend.Snapshot {
	return backend.Snapshot{
		ID: r.ID, Volume: r.Volume, SizeBytes: r.SizeBytes, Consistency: r.Consistency, Filesystem: r.Filesystem,
		CreatedAt: r.CreatedAt, Pause: r.Pause, PredictedPause: r.Predicted,
	}
}
