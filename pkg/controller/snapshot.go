package controller

import (
	"context"
	"iter"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func (c *Controller) snapshotKind() kind[repository.Snapshot] {
	return kind[repository.Snapshot]{
		what:    "snapshot",
		names:   c.repository.SnapshotNames,
		records: c.repository.Snapshots,
		now:     c.now,
		facts: func(s repository.Snapshot) facts {
			return facts{string(s.ID), s.Name, s.State, s.Changed}
		},
		ended: func(id, name string) repository.Snapshot {
			return repository.Snapshot{ID: volume.SnapshotID(id), Name: name, State: repository.Ended, Changed: c.now()}
		},
		leaving: func(s repository.Snapshot) repository.Snapshot {
			s.State, s.Changed = repository.Deleting, c.now()
			return s
		},
		undo: func(ctx context.Context, n repository.Name) error {
			w, err := c.whereSnapshot(ctx, where{backend: n.Backend, node: n.Node}, n.Request.Source.Volume)
			if err != nil {
				return err
			}
			return c.erase(ctx, w, repository.Tombstone{Snapshot: volume.SnapshotID(n.ID)})
		},
		dispose: func(ctx context.Context, s repository.Snapshot) error {
			w, err := c.whereSnapshot(ctx, where{backend: s.Class.Backend, node: s.Node}, s.Volume)
			if err != nil {
				return err
			}
			return c.erase(ctx, w, repository.Tombstone{Snapshot: s.ID})
		},
	}
}

// Handle implements Service.
func (c *Controller) Handle(id volume.SnapshotID) volume.Handle {
	return volume.Handle{Repository: c.repository.ID(), Snapshot: id}
}

// DeleteSnapshot implements Service. A snapshot of another repository is none of
// ours to delete.
func (c *Controller) DeleteSnapshot(ctx context.Context, h volume.Handle) error {
	if h.Repository != c.repository.ID() {
		return nil
	}
	release, err := c.lock("snapshot", string(h.Snapshot), "DeleteSnapshot")
	if err != nil {
		return err
	}
	defer release()
	err = c.snapshots.delete(ctx, string(h.Snapshot), func(s repository.Snapshot) error {
		if s.Group == "" {
			return nil
		}
		return fault.New(fault.Invalid, "it is part of group snapshot %s and cannot be deleted alone: delete the group snapshot", c.GroupHandle(s.Group))
	})
	return c.noted(fault.Wrap(err, "delete snapshot", h.String()))
}

// Snapshot implements Service.
func (c *Controller) Snapshot(ctx context.Context, h volume.Handle) (repository.Snapshot, error) {
	if h.Repository != c.repository.ID() {
		return repository.Snapshot{}, fault.New(fault.NotFound, "snapshot %q: it is of repository %s, and this is %s: it has none to import", h, h.Repository, c.repository.ID())
	}
	record, err := c.repository.Snapshots.Latest(ctx, string(h.Snapshot))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return repository.Snapshot{}, err
	}
	visible := false
	if err == nil {
		if visible, err = c.visible(ctx, record.Value); err != nil {
			return repository.Snapshot{}, err
		}
	}
	switch {
	case visible:
		return record.Value, nil
	case record.Value.State == repository.Deleting:
		return repository.Snapshot{}, fault.New(fault.NotFound, "snapshot %q: it is being deleted", h)
	}
	return repository.Snapshot{}, fault.New(fault.NotFound, "snapshot %q: there is none of this id", h)
}

// visible reports whether a snapshot is there for users: it is Ready, and so is
// its group if it has one, since the group's record is what completes them all.
func (c *Controller) visible(ctx context.Context, s repository.Snapshot) (bool, error) {
	if s.State != repository.Ready || s.Group == "" {
		return s.State == repository.Ready, nil
	}
	group, err := c.repository.Groups.Latest(ctx, string(s.Group))
	if fault.Is(err, fault.NotFound) {
		return false, nil
	}
	return group.Value.State == repository.Ready, err
}

// Snapshots implements Service. Those that are being deleted are not listed.
func (c *Controller) Snapshots(ctx context.Context, after volume.SnapshotID, limit int) (page []repository.Snapshot, next volume.SnapshotID, err error) {
	page, position, err := list(ctx, c.repository.Snapshots, string(after), limit, func(s repository.Snapshot) (bool, error) {
		return c.visible(ctx, s)
	})
	return page, volume.SnapshotID(position), err
}

// reader returns an engine that can tell of a snapshot.
func (c *Controller) reader(ctx context.Context, s repository.Snapshot) (backend.Backend, error) {
	w, err := c.whereSnapshot(ctx, where{backend: s.Class.Backend, node: s.Node}, s.Volume)
	if err != nil {
		return nil, err
	}
	_, b, err := c.reach(ctx, w)
	return b, err
}

// Allocated implements Service.
func (c *Controller) Allocated(ctx context.Context, h volume.Handle, offset int64) (sizeBytes int64, extents iter.Seq2[backend.Extent, error], err error) {
	s, err := c.Snapshot(ctx, h)
	if err != nil {
		return 0, nil, err
	}
	b, err := c.reader(ctx, s)
	if err != nil {
		return 0, nil, err
	}
	return s.SizeBytes, b.Allocated(ctx, s.ID, offset), nil
}

// Delta implements Service.
func (c *Controller) Delta(ctx context.Context, base, target volume.Handle, offset int64) (sizeBytes int64, extents iter.Seq2[backend.Extent, error], err error) {
	from, err := c.Snapshot(ctx, base)
	if err != nil {
		return 0, nil, err
	}
	to, err := c.Snapshot(ctx, target)
	if err != nil {
		return 0, nil, err
	}
	if from.Volume != to.Volume {
		return 0, nil, fault.New(fault.Invalid, "base_snapshot_id: %s is of volume %s and target_snapshot_id is of volume %s: want two snapshots of one volume", base, from.Volume, to.Volume)
	}
	b, err := c.reader(ctx, to)
	if err != nil {
		return 0, nil, err
	}
	return to.SizeBytes, b.Delta(ctx, from.ID, to.ID, offset), nil
}
