package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend/internal/freeze"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/durable"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// tombstoneAge is for how long a deleted id is remembered: far longer than any
// request travels.
const tombstoneAge = 24 * time.Hour

// tidy finishes or undoes what an earlier process left in a pool, and takes
// stock of it. Thawing comes first, since somebody is waiting for it.
func (b *Backend) tidy(ctx context.Context, s *store) error {
	if err := b.thawAll(ctx, s); err != nil {
		return err
	}
	if s.writable() == nil {
		if err := errors.Join(b.finishDeletes(ctx, s), b.empty(ctx, s, "tmp"), b.empty(ctx, s, "trash")); err != nil {
			return err
		}
		s.sweepTombstones(b.options.Now())
	}
	return b.takeStock(ctx, s)
}

// thawAll lets every filesystem go on that an earlier process may have left
// frozen.
func (b *Backend) thawAll(ctx context.Context, s *store) error {
	names, err := s.ids("frozen")
	if err != nil {
		return err
	}
	for _, name := range names {
		// Any other name is a temporary file's: the freeze had not begun.
		if id, err := volume.ParseID(name); err == nil {
			thawed, err := b.thawLeftover(ctx, s, id)
			if err != nil {
				return err
			}
			if !thawed {
				continue // its record stays, for the next try
			}
		}
		if err := durable.Remove(s.frozenRecord(volume.ID(name))); err != nil && s.writable() == nil {
			return err
		}
	}
	return nil
}

// thawLeftover thaws one volume's filesystem, and reports whether it is surely
// not frozen any more.
func (b *Backend) thawLeftover(ctx context.Context, s *store, id volume.ID) (bool, error) {
	d, _, err := b.device(ctx, s.layout, id)
	if err != nil {
		return false, err
	}
	return freeze.Leftover(ctx, id, d.Path, func() (volume.Filesystem, error) {
		v, err := record.Read[record.Volume](meta(s.volume(id)))
		return v.Filesystem.Type, err
	})
}

// finishDeletes deletes what has a tombstone.
func (b *Backend) finishDeletes(ctx context.Context, s *store) error {
	buried, err := s.ids("deleted")
	if err != nil {
		return err
	}
	for _, id := range buried {
		for _, dir := range []string{s.volume(volume.ID(id)), s.snapshot(volume.SnapshotID(id))} {
			if _, err := os.Lstat(dir); err != nil {
				continue
			}
			if err := b.detachUnder(ctx, dir); err != nil {
				klog.FromContext(ctx).Error(err, "Deleted volume is still in use", "volumeID", id)
				continue
			}
			if err := s.discard(id, dir); err != nil {
				return err
			}
		}
	}
	return nil
}

// empty removes all that is in one of a pool's folders, and its devices.
func (b *Backend) empty(ctx context.Context, s *store, folder string) error {
	names, err := s.ids(folder)
	if err != nil {
		return err
	}
	for _, name := range names {
		dir := filepath.Join(s.folder(folder), name)
		if err := b.detachUnder(ctx, dir); err != nil {
			klog.FromContext(ctx).Error(err, "Removed volume is still in use", "path", dir)
			continue
		}
		if err := s.medium.remove(dir); err != nil {
			return err
		}
	}
	return nil
}

func (b *Backend) detachUnder(ctx context.Context, dir string) error {
	found, err := b.options.Attacher.Find(ctx, dir)
	for backing := range found {
		err = errors.Join(err, b.options.Attacher.Detach(ctx, backing))
	}
	return err
}

// sweepEvery is how often old tombstones are looked for.
const sweepEvery = time.Hour

// sweepTime is when old tombstones were looked for last.
type sweepTime struct {
	mu sync.Mutex
	at time.Time
}

// due reports whether it is time to look, and if so notes that it was done.
func (t *sweepTime) due(now time.Time) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now.Sub(t.at).Abs() < sweepEvery {
		return false
	}
	t.at = now
	return true
}

// sweepTombstones forgets the ids that were deleted long ago, if it is time to.
// One that cannot be removed is looked at again next time.
func (s *store) sweepTombstones(now time.Time) {
	if !s.swept.due(now) {
		return
	}
	entries, err := os.ReadDir(s.folder("deleted"))
	if err != nil {
		return
	}
	for _, e := range entries {
		if info, err := e.Info(); err == nil && now.Sub(info.ModTime()) > tombstoneAge {
			_ = os.Remove(s.tombstone(e.Name()))
		}
	}
}

// takeStock opens the accounts of all volumes and notes the times of all
// snapshots. What cannot be read is somebody's trouble later, by name, and is
// counted as a thick volume until then.
func (b *Backend) takeStock(ctx context.Context, s *store) error {
	ids, err := volumeIDs([]*store{s})
	if err != nil {
		return err
	}
	for _, id := range ids {
		p := place[record.Volume]{store: s, dir: s.volume(id)}
		if p.record, err = record.Read[record.Volume](meta(p.dir)); err != nil {
			klog.FromContext(ctx).Error(err, "Volume's record cannot be read", "volumeID", id)
			p.record = record.Volume{Class: volume.Class{Provisioning: volume.Thick}}
		}
		if err := s.rollForward(&p); err != nil {
			return err
		}
		s.space.set(id, accountOf(p), false)
	}
	snapshots, err := s.ids("snapshots")
	for _, id := range snapshots {
		r, err := record.Read[record.Snapshot](meta(s.snapshot(volume.SnapshotID(id))))
		if err == nil {
			s.cuts.saw(r.Volume, r.CreatedAt)
		} else if !fault.Is(err, fault.NotFound) {
			klog.FromContext(ctx).Error(err, "Snapshot's record cannot be read", "snapshotID", id)
		}
	}
	return err
}

// rollForward records the size that a disk was given by an expansion which then
// came to its end before it could.
func (s *store) rollForward(p *place[record.Volume]) error {
	info, err := os.Stat(s.medium.disk(p.dir))
	if err != nil || info.Size() <= p.record.SizeBytes {
		return nil // a missing or short disk is the volume's own trouble
	}
	p.record.SizeBytes = info.Size()
	if p.record.ID == "" || s.writable() != nil {
		return nil // unreadable: only its account is wanted
	}
	return record.Write(meta(p.dir), p.record)
}
