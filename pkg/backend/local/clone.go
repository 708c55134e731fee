package local

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// createFrom makes a volume from a snapshot or another volume, in the same pool
// and sharing its bytes.
func (b *Backend) createFrom(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	if r.Source.Snapshot != "" {
		from, err := b.findSnapshot(ctx, r.Source.Snapshot)
		if err != nil {
			return backend.Volume{}, err
		}
		reserve := func(c claim) (func(), error) { return from.space.reserve(c) }
		share := func(tmp string) error { return from.medium.share(from.dir, tmp) }
		return b.clone(r, source{from.store, from.record.SizeBytes, from.record.Filesystem, reserve, share})
	}
	from, err := b.findVolume(ctx, r.Source.Volume)
	if err != nil {
		return backend.Volume{}, err
	}
	from.space.ensure(from.record.ID, accountOf(from))
	reserve := func(c claim) (func(), error) { return from.space.hold(from.record.ID, c) }
	share := func(tmp string) error {
		_, err := b.cut(ctx, from, volume.FilesystemConsistent, nil, tmp)
		return err
	}
	return b.clone(r, source{from.store, from.record.SizeBytes, from.record.Filesystem, reserve, share})
}

// source is what a volume is made from.
type source struct {
	*store
	sizeBytes  int64
	filesystem backend.Filesystem
	reserve    func(claim) (release func(), err error) // what sharing it takes
	share      func(tmp string) error
}

func (b *Backend) clone(r backend.CreateVolumeRequest, from source) (backend.Volume, error) {
	if err := from.suits(r); err != nil {
		return backend.Volume{}, err
	}
	if err := from.writable(); err != nil {
		return backend.Volume{}, err
	}
	thick := r.Class.Provisioning == volume.Thick
	release, err := from.reserve(claimOf(thick, r.SizeBytes, r.SizeBytes))
	if err != nil {
		return backend.Volume{}, from.wrap(err)
	}
	defer release()
	dir := from.volume(r.ID)
	v, err := build(from.store, string(r.ID), dir, func(tmp string) (record.Volume, error) {
		if err := from.share(tmp); err != nil {
			return record.Volume{}, err
		}
		return b.recordOf(r, cloned(from.filesystem)), from.size(tmp, r.SizeBytes, thick)
	})
	if err != nil {
		return backend.Volume{}, err
	}
	from.space.set(r.ID, account{dir: dir, size: r.SizeBytes, thick: thick, owed: r.SizeBytes}, false)
	return reply(place[record.Volume]{store: from.store, dir: dir, record: v}, ""), nil
}

// suits reports what of a request does not go with its source.
func (from source) suits(r backend.CreateVolumeRequest) error {
	if r.SizeBytes < from.sizeBytes {
		return fault.New(fault.OutOfRange, "size: %d bytes: want at least the %d of its source", r.SizeBytes, from.sizeBytes)
	}
	if c := r.Class; c.Pool != "" && c.Pool != from.name {
		return fault.New(fault.Invalid, "parameter %s: %q: want %q or none: a clone shares its source's bytes, and lives in its pool", volume.ParamPool, c.Pool, from.name)
	}
	if c := r.Class; c.PoolType != volume.AnyPool && c.PoolType != from.pool.Type {
		return fault.New(fault.Invalid, "parameter %s: %q: want %q or none: a clone shares its source's bytes, and lives in its pool", volume.ParamPoolType, c.PoolType, from.pool.Type)
	}
	return nil
}

// cloned is the filesystem state of a volume that is made from one in state f.
func cloned(f backend.Filesystem) backend.Filesystem {
	if f.State == backend.Formatted {
		f.State = backend.Cloned
	}
	return f
}
