package csi

import (
	"cmp"
	"context"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// fakeService notes what it is asked to do, and answers what it holds.
type fakeService struct {
	asked any
	err   error
	panic any
	// wait, if not nil, holds up every call.
	wait func(ctx context.Context)

	volumes   []repository.Volume
	snapshots []repository.Snapshot
	group     repository.Group
	health    map[volume.ID][]backend.Health
	capacity  backend.Capacity
	sizeBytes int64
	extents   iter.Seq2[backend.Extent, error]
	mu        sync.Mutex // of asked, where calls come at once
}

var _ controller.Service = (*fakeService)(nil)

var (
	home = volume.NewRepositoryID()
	cut  = time.Date(2026, 11, 24, 12, 0, 0, 5, time.UTC)
)

func (f *fakeService) ask(ctx context.Context, what any) error {
	f.mu.Lock()
	f.asked = what
	f.mu.Unlock()
	if f.wait != nil {
		f.wait(ctx)
	}
	if f.panic != nil {
		panic(f.panic)
	}
	return f.err
}

func (f *fakeService) add(v repository.Volume) repository.Volume {
	v.ID, v.State = volume.NewID(), repository.Ready
	f.volumes = append(f.volumes, v)
	slices.SortFunc(f.volumes, func(a, b repository.Volume) int { return cmp.Compare(a.ID, b.ID) })
	return v
}

func (f *fakeService) addSnapshot(s repository.Snapshot) repository.Snapshot {
	s.ID, s.State, s.Cut = volume.NewSnapshotID(), repository.Ready, cut
	f.snapshots = append(f.snapshots, s)
	slices.SortFunc(f.snapshots, func(a, b repository.Snapshot) int { return cmp.Compare(a.ID, b.ID) })
	return s
}

func page[R any, ID cmp.Ordered](all []R, id func(R) ID, after ID, limit int) (page []R, next ID) {
	for _, r := range all {
		if id(r) <= after {
			continue
		}
		if limit > 0 && len(page) == limit {
			return page, id(page[limit-1])
		}
		page = append(page, r)
	}
	return page, next
}

func (f *fakeService) one() repository.Volume {
	if len(f.volumes) == 0 {
		return repository.Volume{ID: volume.NewID(), Node: "n1", SizeBytes: 1 << 40}
	}
	return f.volumes[0]
}

func (f *fakeService) CreateVolume(ctx context.Context, r controller.CreateVolumeRequest) (repository.Volume, error) {
	err := f.ask(ctx, r)
	v := f.one()
	v.Request = r.Request
	return v, err
}

func (f *fakeService) DeleteVolume(ctx context.Context, id volume.ID) error { return f.ask(ctx, id) }

func (f *fakeService) Volume(ctx context.Context, id volume.ID) (repository.Volume, error) {
	if err := f.ask(ctx, id); err != nil {
		return repository.Volume{}, err
	}
	for _, v := range f.volumes {
		if v.ID == id {
			return v, nil
		}
	}
	return repository.Volume{}, fault.New(fault.NotFound, "volume %q: there is none of this id", id)
}

type listed struct {
	after string
	limit int
}

func (f *fakeService) Volumes(ctx context.Context, after volume.ID, limit int) ([]repository.Volume, volume.ID, error) {
	if err := f.ask(ctx, listed{string(after), limit}); err != nil {
		return nil, "", err
	}
	all, next := page(f.volumes, func(v repository.Volume) volume.ID { return v.ID }, after, limit)
	return all, next, nil
}

type expanded struct {
	id volume.ID
	r  volume.Range
}

func (f *fakeService) ExpandVolume(ctx context.Context, id volume.ID, r volume.Range) (repository.Volume, error) {
	return f.one(), f.ask(ctx, expanded{id, r})
}

type modified struct {
	id           volume.ID
	provisioning volume.Provisioning
	pause        time.Duration
}

func (f *fakeService) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) error {
	asked := modified{id: id}
	if m.Provisioning != nil {
		asked.provisioning = *m.Provisioning
	}
	if m.MaxSnapshotPause != nil {
		asked.pause = *m.MaxSnapshotPause
	}
	return f.ask(ctx, asked)
}

func (f *fakeService) Publish(ctx context.Context, r controller.PublishRequest) (repository.Volume, error) {
	v := f.one()
	r.ReadOnly = r.ReadOnly || v.Request.ReadOnly
	v.Publications = []repository.Publication{{Node: "another", ReadOnly: !r.ReadOnly}, r.Publication}
	return v, f.ask(ctx, r)
}

type unpublished struct {
	id   volume.ID
	node volume.NodeID
}

func (f *fakeService) Unpublish(ctx context.Context, id volume.ID, node volume.NodeID) error {
	return f.ask(ctx, unpublished{id, node})
}

func (f *fakeService) VolumeHealth(ctx context.Context, id volume.ID) (controller.VolumeHealth, error) {
	return controller.VolumeHealth{Volume: id, Health: f.health[id]}, f.ask(ctx, id)
}

type measured struct {
	class    volume.Class
	topology controller.Topology
}

func (f *fakeService) Capacity(ctx context.Context, class volume.Class, t controller.Topology) (backend.Capacity, error) {
	return f.capacity, f.ask(ctx, measured{class, t})
}

func (f *fakeService) oneSnapshot() repository.Snapshot {
	if len(f.snapshots) == 0 {
		return repository.Snapshot{ID: volume.NewSnapshotID(), Volume: volume.NewID(), Node: "n1", Cut: cut}
	}
	return f.snapshots[0]
}

func (f *fakeService) CreateSnapshot(ctx context.Context, r controller.CreateSnapshotRequest) (repository.Snapshot, error) {
	return f.oneSnapshot(), f.ask(ctx, r)
}

func (f *fakeService) DeleteSnapshot(ctx context.Context, h volume.Handle) error {
	return f.ask(ctx, h)
}

func (f *fakeService) Snapshot(ctx context.Context, h volume.Handle) (repository.Snapshot, error) {
	if err := f.ask(ctx, h); err != nil {
		return repository.Snapshot{}, err
	}
	for _, s := range f.snapshots {
		if f.Handle(s.ID) == h {
			return s, nil
		}
	}
	return repository.Snapshot{}, fault.New(fault.NotFound, "snapshot %q: there is none of this id", h)
}

func (f *fakeService) Snapshots(ctx context.Context, after volume.SnapshotID, limit int) ([]repository.Snapshot, volume.SnapshotID, error) {
	if err := f.ask(ctx, listed{string(after), limit}); err != nil {
		return nil, "", err
	}
	all, next := page(f.snapshots, func(s repository.Snapshot) volume.SnapshotID { return s.ID }, after, limit)
	return all, next, nil
}

// CheckKey knows one key.
func (f *fakeService) CheckKey(_ context.Context, _ repository.Snapshot, secrets volume.Secrets) error {
	if key, given := secrets["encryptionKey"]; given && key != "right" {
		return fault.New(fault.Precondition, "another key")
	}
	return nil
}

func (f *fakeService) Handle(id volume.SnapshotID) volume.Handle {
	return volume.Handle{Repository: home, Snapshot: id}
}

func (f *fakeService) GroupHandle(id volume.GroupID) volume.GroupHandle {
	return volume.GroupHandle{Repository: home, Group: id}
}

func (f *fakeService) CreateGroup(ctx context.Context, r controller.CreateGroupRequest) (repository.Group, []repository.Snapshot, error) {
	return f.group, f.snapshots, f.ask(ctx, r)
}

func (f *fakeService) Group(_ context.Context, h volume.GroupHandle) (repository.Group, []repository.Snapshot, error) {
	if h != f.GroupHandle(f.group.ID) {
		return repository.Group{}, nil, fault.New(fault.NotFound, "group snapshot %q: there is none of this id", h)
	}
	return f.group, f.snapshots, f.err
}

type groupDeleted struct {
	h       volume.GroupHandle
	members []volume.Handle
}

func (f *fakeService) DeleteGroup(ctx context.Context, h volume.GroupHandle, members []volume.Handle) error {
	return f.ask(ctx, groupDeleted{h, members})
}

type streamed struct {
	base, target volume.Handle
	offset       int64
}

func (f *fakeService) Allocated(ctx context.Context, h volume.Handle, offset int64) (int64, iter.Seq2[backend.Extent, error], error) {
	return f.sizeBytes, f.extents, f.ask(ctx, streamed{target: h, offset: offset})
}

func (f *fakeService) Delta(ctx context.Context, base, target volume.Handle, offset int64) (int64, iter.Seq2[backend.Extent, error], error) {
	return f.sizeBytes, f.extents, f.ask(ctx, streamed{base, target, offset})
}
