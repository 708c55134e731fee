package object

import (
	"context"
	"errors"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateSnapshot implements backend.Backend. Precondition, for good, if the snapshot
// was begun and its cut is void or nobody knows of it any more: an id of its own
// makes another one.
func (b *Backend) CreateSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	s, err := b.createSnapshot(ctx, r)
	return s, fault.Wrap(err, "create snapshot", string(r.ID))
}

func (b *Backend) createSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	if err := validateSnapshot(r); err != nil {
		return backend.Snapshot{}, err
	}
	s, err := b.site(ctx)
	if err != nil {
		return backend.Snapshot{}, err
	}
	var held *pause.Held[*member]
	var leave func()
	if r.Pause != "" {
		held, leave = b.pauses.Join(r.Pause, r.Volume)
	} else if leave, err = b.lock(ctx, r.Volume, "snapshotting it as "+string(r.ID)); err != nil {
		return backend.Snapshot{}, err
	}
	defer leave()
	return b.cutLocked(ctx, s, r, held)
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

// errFailed marks a snapshot that will never be.
var errFailed = errors.New("it failed for good: delete it, and ask for one with another id")

func isFailed(err error) bool { return errors.Is(err, errFailed) }

// cutLocked makes a snapshot of a volume that the caller has locked, or that a pause
// holds.
func (b *Backend) cutLocked(ctx context.Context, s *site, r backend.CreateSnapshotRequest, held *pause.Held[*member]) (backend.Snapshot, error) {
	unlock, err := b.cutLocks.Lock(ctx, r.ID, "creating it")
	if err != nil {
		return backend.Snapshot{}, fault.Wrap(err, "lock snapshot", string(r.ID))
	}
	defer unlock()
	of, err := s.volume(ctx, r.Volume)
	if fault.Is(err, fault.NotFound) || err == nil && r.Pause != "" && held == nil {
		before, e := s.Repository.ObjectSnapshots.Latest(ctx, string(r.ID))
		switch {
		case e == nil && before.Value.State != repository.Creating:
			return cutBefore(r, before.Value)
		case e != nil && !fault.Is(e, fault.NotFound):
			return backend.Snapshot{}, e
		case err == nil:
			err = fault.New(fault.Precondition, "pause %s does not hold volume %s: it was never begun here, or has ended", r.Pause, r.Volume)
		}
	}
	if err != nil {
		return backend.Snapshot{}, err
	}
	if err := check(of.Value, r.Secrets); err != nil {
		return backend.Snapshot{}, err
	}
	c := &cutting{site: s, b: b, r: r, of: of.Value, held: held}
	return c.run(ctx)
}

// cutBefore answers a create whose snapshot has a record already.
func cutBefore(r backend.CreateSnapshotRequest, s repository.ObjectSnapshot) (backend.Snapshot, error) {
	switch {
	case s.State == repository.Ended:
		return backend.Snapshot{}, fault.New(fault.Fenced, "%s was deleted: an id is never used again", s.ID)
	case s.Volume != r.Volume || s.Asked != r.Consistency:
		return backend.Snapshot{}, fault.New(fault.Exists, "the id belongs to a snapshot of volume %s with consistency %q: want volume %s and %q", s.Volume, s.Asked, r.Volume, r.Consistency)
	case s.State == repository.Failed:
		return backend.Snapshot{}, fault.New(fault.Precondition, "%s: %w", s.Why, errFailed)
	}
	return replySnapshot(s), nil
}

// DeleteSnapshot implements backend.Backend. Its data goes after the grace period,
// when no volume needs it.
func (b *Backend) DeleteSnapshot(ctx context.Context, id volume.SnapshotID) error {
	if _, err := volume.ParseSnapshotID(string(id)); err != nil {
		return nil // no such snapshot can exist
	}
	s, err := b.site(ctx)
	if err == nil {
		var unlock func()
		if unlock, err = b.cutLocks.Lock(ctx, id, "deleting it"); err == nil {
			defer unlock()
			err = b.deleteSnapshot(ctx, s, id)
		}
	}
	return fault.Wrap(err, "delete snapshot", string(id))
}

// deleteSnapshot trashes what a snapshot has, and leaves a tombstone.
func (b *Backend) deleteSnapshot(ctx context.Context, s *site, id volume.SnapshotID) error {
	ledger := s.Repository.ObjectSnapshots
	for {
		r, err := ledger.Latest(ctx, string(id))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if r.Value.State == repository.Ended {
			return nil
		}
		if r.Number > 0 {
			if err := b.trash(ctx, s, claim.Subject(id)); err != nil {
				return err
			}
			crashpoint.Here("object: snapshot in the trash")
		}
		ended := r.Value
		ended.ID, ended.State, ended.Changed = id, repository.Ended, b.now()
		_, err = ledger.Append(ctx, string(id), r, ended)
		if err == nil {
			crashpoint.Here("object: snapshot ended")
			klog.FromContext(ctx).V(2).Info("Snapshot is deleted; its data goes later", "snapshotID", id, "volumeID", ended.Volume)
			b.forgetCut(id)
			return nil
		}
		if !fault.Is(err, fault.Busy) {
			return err
		}
	}
}

// trash asks for a deletion that the collector carries out.
func (b *Backend) trash(ctx context.Context, s *site, subject claim.Subject) error {
	_, err := s.claims.Trash(ctx, subject, string(b.options.Node))
	if fault.Is(err, fault.NotFound) {
		err = nil // it went already
	}
	if err == nil {
		b.collectAfter(b.options.Grace)
	}
	return err
}
