package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// place is where something is, or was found not to be.
type place[R record.Record] struct {
	*store
	dir    string
	record R
	err    error // the record's: Corrupt, Unsupported
}

// stores returns the accessible pools, and the first reason why one is not.
func (b *Backend) stores(ctx context.Context) (open []*store, away error) {
	for _, p := range b.pools {
		s, err := p.use(ctx)
		if err != nil {
			if away == nil {
				away = err
			}
			continue
		}
		open = append(open, s)
	}
	return open, away
}

// lookup finds every place that has the folder dirOf names. A record that cannot
// be read is no reason to call its volume absent.
func lookup[R record.Record](open []*store, dirOf func(*store) string) (found []place[R], err error) {
	for _, s := range open {
		dir := dirOf(s)
		if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
			if err := errors.Join(s.present(), s.hasFolder(filepath.Dir(dir))); err != nil {
				return nil, s.wrap(err)
			}
			continue
		} else if err != nil {
			return nil, s.wrap(err)
		}
		r, err := record.Read[R](meta(dir))
		if fault.Is(err, fault.NotFound) {
			if _, gone := os.Lstat(dir); errors.Is(gone, fs.ErrNotExist) {
				continue // deleted in between
			}
			err = fault.New(fault.Corrupt, "%s is missing, but its folder is there", meta(dir))
		}
		found = append(found, place[R]{s, dir, r, access(err)})
	}
	return found, nil
}

// one returns the only place, or says why there is none to work with. what and
// id are for the message.
func one[R record.Record](found []place[R], away error, what, id string) (place[R], error) {
	switch {
	case len(found) > 1:
		return place[R]{}, fault.New(fault.Corrupt, "%s %s is in pool %s and in pool %s: want it in one: it was created again while a pool was away; move the folder that is not the true one out of its pool", what, id, found[0].name, found[1].name)
	case len(found) == 1:
		return found[0], found[0].err
	case away != nil:
		return place[R]{}, fault.New(fault.Transient, "%s %s may be in a pool that is away: %w", what, id, away)
	}
	return place[R]{}, fault.New(fault.NotFound, "%s %s does not exist on this node", what, id)
}

// findVolume finds a volume. NotFound only if every pool was looked at.
func (b *Backend) findVolume(ctx context.Context, id volume.ID) (place[record.Volume], error) {
	if _, err := volume.ParseID(string(id)); err != nil {
		return place[record.Volume]{}, err
	}
	open, away := b.stores(ctx)
	found, err := lookup[record.Volume](open, func(s *store) string { return s.volume(id) })
	if err != nil {
		return place[record.Volume]{}, err
	}
	p, err := one(found, away, "volume", string(id))
	if err == nil && p.record.ID != id {
		err = fault.New(fault.Corrupt, "%s is of volume %s: want %s", meta(p.dir), p.record.ID, id)
	}
	return p, err
}

// findSnapshot finds a snapshot, as findVolume does.
func (b *Backend) findSnapshot(ctx context.Context, id volume.SnapshotID) (place[record.Snapshot], error) {
	if _, err := volume.ParseSnapshotID(string(id)); err != nil {
		return place[record.Snapshot]{}, err
	}
	open, away := b.stores(ctx)
	found, err := lookup[record.Snapshot](open, func(s *store) string { return s.snapshot(id) })
	if err != nil {
		return place[record.Snapshot]{}, err
	}
	p, err := one(found, away, "snapshot", string(id))
	if err == nil && p.record.ID != id {
		err = fault.New(fault.Corrupt, "%s is of snapshot %s: want %s", meta(p.dir), p.record.ID, id)
	}
	return p, err
}

// fenced reports that an id was deleted.
func fenced(open []*store, id string) error {
	for _, s := range open {
		_, err := os.Lstat(s.tombstone(id))
		if err == nil {
			return fault.New(fault.Fenced, "%s was deleted: an id is never used again", id)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return s.wrap(err)
		}
	}
	return nil
}

// reply renders a volume as the contract has it.
func reply(p place[record.Volume], device string) backend.Volume {
	r := p.record
	v := backend.Volume{
		ID: r.ID, SizeBytes: r.SizeBytes, Class: r.Class, Source: r.Request.Source, Pool: p.name,
		Filesystem: r.Filesystem, CreatedAt: r.CreatedAt, Device: device,
	}
	if used, err := allocatedBytes(p.medium.disk(p.dir)); err == nil {
		v.UsedBytes = used
	}
	return v
}
