package local

import (
	"cmp"
	"context"
	"errors"
	"os"
	"slices"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateVolume implements backend.Backend.
func (b *Backend) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	v, err := b.createVolume(ctx, r)
	return v, fault.Wrap(err, "create volume", string(r.ID))
}

func (b *Backend) createVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	if err := validate(r); err != nil {
		return backend.Volume{}, err
	}
	unlock, err := b.lockForCreate(ctx, r)
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	open, away := b.stores(ctx)
	found, err := lookup[record.Volume](open, func(s *store) string { return s.volume(r.ID) })
	if err != nil {
		return backend.Volume{}, err
	}
	if len(found) > 0 {
		return b.createdBefore(ctx, r, found, away)
	}
	if err := fenced(open, string(r.ID)); err != nil {
		return backend.Volume{}, err
	}
	for _, p := range b.pools {
		if p.had(r.ID) {
			return backend.Volume{}, fault.New(fault.Transient, "it is in a pool that is away: %w", away)
		}
	}
	if r.Source == (backend.Source{}) {
		return b.createBlank(ctx, r)
	}
	return b.createFrom(ctx, r)
}

// validate looks at what callers can get wrong, as Invalid.
func validate(r backend.CreateVolumeRequest) error {
	var faults []error
	say := func(format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...))
	}
	if _, err := volume.ParseID(string(r.ID)); err != nil {
		say("id: %w", err)
	}
	if r.SizeBytes < volume.MinimumBytes || r.SizeBytes > volume.MaximumBytes || r.SizeBytes%volume.SizeUnit != 0 {
		say("size: %d bytes: want a multiple of %d from %d to %d", r.SizeBytes, volume.SizeUnit, volume.MinimumBytes, volume.MaximumBytes)
	}
	if r.Source.Snapshot != "" && r.Source.Volume != "" {
		say("source: snapshot %s and volume %s: want one of the two", r.Source.Snapshot, r.Source.Volume)
	}
	if r.Source.Volume == r.ID && r.ID != "" {
		say("source: volume %s is the volume itself: want another", r.Source.Volume)
	}
	if r.Class.Backend != volume.BackendLocal {
		say("class.backend: %q: want %q", r.Class.Backend, volume.BackendLocal)
	}
	if p := r.Class.Provisioning; p != volume.Thick && p != volume.Thin {
		say("class.provisioning: %q: want %q or %q", p, volume.Thick, volume.Thin)
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

// lockForCreate locks the volume and what it is made from, volumes in ascending
// order and then the snapshot.
func (b *Backend) lockForCreate(ctx context.Context, r backend.CreateVolumeRequest) (unlock func(), err error) {
	ids := []volume.ID{r.ID}
	if r.Source.Volume != "" {
		ids = append(ids, r.Source.Volume)
	}
	unlockVolumes, err := b.lockVolumes(ctx, ids, "creating volume "+string(r.ID))
	if err != nil || r.Source.Snapshot == "" {
		return unlockVolumes, err
	}
	unlockSource, err := b.cutLocks.Lock(ctx, r.Source.Snapshot, "creating volume "+string(r.ID))
	if err != nil {
		unlockVolumes()
		return nil, fault.Wrap(err, "lock snapshot", string(r.Source.Snapshot))
	}
	return func() { unlockSource(); unlockVolumes() }, nil
}

// lockVolumes locks several volumes in ascending order.
func (b *Backend) lockVolumes(ctx context.Context, ids []volume.ID, holder string) (unlock func(), err error) {
	var unlocks []func()
	unlock = func() {
		for _, u := range slices.Backward(unlocks) {
			u()
		}
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		u, err := b.locks.Lock(ctx, id, holder)
		if err != nil {
			unlock()
			return nil, fault.Wrap(err, "lock volume", string(id))
		}
		unlocks = append(unlocks, u)
	}
	return unlock, nil
}

// createdBefore answers a create whose volume is there.
func (b *Backend) createdBefore(ctx context.Context, r backend.CreateVolumeRequest, found []place[record.Volume], away error) (backend.Volume, error) {
	p, err := one(found, away, "volume", string(r.ID))
	if err != nil {
		return backend.Volume{}, err
	}
	if want := requestOf(r); p.record.Request != want {
		return backend.Volume{}, fault.New(fault.Exists, "the id belongs to a volume that was created from %+v: want %+v", p.record.Request, want)
	}
	return b.replyWithDevice(ctx, p)
}

func requestOf(r backend.CreateVolumeRequest) record.VolumeRequest {
	return record.VolumeRequest{SizeBytes: r.SizeBytes, Class: r.Class, Source: r.Source}
}

// recordOf is the record of a new volume.
func (b *Backend) recordOf(r backend.CreateVolumeRequest, f backend.Filesystem) record.Volume {
	return record.Volume{
		ID: r.ID, SizeBytes: r.SizeBytes, Class: r.Class, Filesystem: f,
		CreatedAt: b.options.Now().UTC().Round(0), Request: requestOf(r),
	}
}

// createBlank makes the volume in the suitable pool that has the most room, or
// in the next if that fails.
func (b *Backend) createBlank(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	suitable, err := b.suitable(ctx, r.Class)
	if err != nil {
		return backend.Volume{}, err
	}
	room := map[*store]int64{}
	for _, s := range suitable {
		room[s] = s.space.roughlyLeft()
	}
	slices.SortStableFunc(suitable, func(i, j *store) int { return cmp.Compare(room[j], room[i]) })
	var full []error
	for _, s := range suitable {
		v, err := b.createBlankIn(s, r)
		if err == nil {
			return reply(place[record.Volume]{store: s, dir: s.volume(r.ID), record: v}, ""), nil
		}
		if !fault.Is(err, fault.Exhausted) {
			return backend.Volume{}, err
		}
		full = append(full, err)
	}
	return backend.Volume{}, fault.As(fault.Exhausted, errors.Join(full...))
}

func (b *Backend) createBlankIn(s *store, r backend.CreateVolumeRequest) (record.Volume, error) {
	if err := s.writable(); err != nil {
		return record.Volume{}, err
	}
	thick := r.Class.Provisioning == volume.Thick
	need := claim{thinOwed: r.SizeBytes}
	if thick {
		need = claim{takes: r.SizeBytes, thickSize: r.SizeBytes} // no debt: all of it is taken now
	}
	release, err := s.space.reserve(need)
	if err != nil {
		return record.Volume{}, s.wrap(err)
	}
	defer release()
	v, err := build(s, string(r.ID), s.volume(r.ID), func(tmp string) (record.Volume, error) {
		if err := s.medium.create(tmp); err != nil {
			return record.Volume{}, err
		}
		return b.recordOf(r, backend.Filesystem{}), s.size(tmp, r.SizeBytes, thick)
	})
	if err != nil {
		return record.Volume{}, err
	}
	a := account{dir: s.volume(r.ID), size: r.SizeBytes, thick: thick, owed: need.thinOwed}
	s.space.set(r.ID, a, true)
	return v, nil
}

// size brings a disk that is being built to its size, without holes if thick. A
// source's disk may be larger, where its expansion came to its end.
func (s *store) size(tmp string, sizeBytes int64, thick bool) error {
	disk := s.medium.disk(tmp)
	if err := os.Truncate(disk, sizeBytes); err != nil || !thick {
		return err
	}
	if err := preallocate(disk, 0, sizeBytes); err != nil {
		return err
	}
	return s.medium.settle()
}

// suitable returns the accessible pools that a class allows.
func (b *Backend) suitable(ctx context.Context, class volume.Class) ([]*store, error) {
	var stores []*store
	var away error
	for _, p := range b.pools {
		if !p.suits(class) {
			continue
		}
		s, err := p.use(ctx)
		switch {
		case err != nil && away == nil:
			away = err
		case err == nil && (class.PoolType == volume.AnyPool || class.PoolType == s.pool.Type):
			stores = append(stores, s)
		}
	}
	switch {
	case len(stores) > 0:
		return stores, nil
	case away != nil:
		return nil, away
	}
	return nil, fault.New(fault.Exhausted, "no pool here suits %s %q and %s %q: this node has %s", volume.ParamPool, class.Pool, volume.ParamPoolType, class.PoolType, b.poolsInWords())
}
