package main

import (
	"context"
	"iter"
	"sync"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// late is the controller's service, which is there when its repository is open. A
// call waits for the first attempt to open it; while it could not be opened, calls
// are Transient with the reason.
type late struct {
	tried chan struct{} // closed after the first attempt
	once  sync.Once

	mu      sync.Mutex
	service controller.Service // nil until the repository is open
	away    error              // why it could not be opened
}

var _ controller.Service = (*late)(nil)

func newLate() *late { return &late{tried: make(chan struct{})} }

func (l *late) opened(s controller.Service) { l.tell(s, nil) }

func (l *late) failed(err error) { l.tell(nil, err) }

func (l *late) tell(s controller.Service, away error) {
	l.mu.Lock()
	l.service, l.away = s, away
	l.mu.Unlock()
	l.once.Do(func() { close(l.tried) })
}

// there returns the service.
func (l *late) there(ctx context.Context) (controller.Service, error) {
	select {
	case <-l.tried:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.service == nil {
		return nil, fault.New(fault.Transient, "the repository is not open: %w", l.away)
	}
	return l.service, nil
}

// via makes a call of the service.
func via[T any](ctx context.Context, l *late, call func(controller.Service) (T, error)) (T, error) {
	s, err := l.there(ctx)
	if err != nil {
		var none T
		return none, err
	}
	return call(s)
}

func (l *late) do(ctx context.Context, call func(controller.Service) error) error {
	s, err := l.there(ctx)
	if err != nil {
		return err
	}
	return call(s)
}

func (l *late) CreateVolume(ctx context.Context, r controller.CreateVolumeRequest) (repository.Volume, error) {
	return via(ctx, l, func(s controller.Service) (repository.Volume, error) { return s.CreateVolume(ctx, r) })
}

func (l *late) DeleteVolume(ctx context.Context, id volume.ID) error {
	return l.do(ctx, func(s controller.Service) error { return s.DeleteVolume(ctx, id) })
}

func (l *late) Volume(ctx context.Context, id volume.ID) (repository.Volume, error) {
	return via(ctx, l, func(s controller.Service) (repository.Volume, error) { return s.Volume(ctx, id) })
}

func (l *late) Volumes(ctx context.Context, after volume.ID, limit int) (page []repository.Volume, next volume.ID, err error) {
	err = l.do(ctx, func(s controller.Service) error { page, next, err = s.Volumes(ctx, after, limit); return err })
	return page, next, err
}

func (l *late) ExpandVolume(ctx context.Context, id volume.ID, r volume.Range) (repository.Volume, error) {
	return via(ctx, l, func(s controller.Service) (repository.Volume, error) { return s.ExpandVolume(ctx, id, r) })
}

func (l *late) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) error {
	return l.do(ctx, func(s controller.Service) error { return s.ModifyVolume(ctx, id, m) })
}

func (l *late) Publish(ctx context.Context, r controller.PublishRequest) (repository.Volume, error) {
	return via(ctx, l, func(s controller.Service) (repository.Volume, error) { return s.Publish(ctx, r) })
}

func (l *late) Unpublish(ctx context.Context, id volume.ID, node volume.NodeID) error {
	return l.do(ctx, func(s controller.Service) error { return s.Unpublish(ctx, id, node) })
}

func (l *late) VolumeHealth(ctx context.Context, id volume.ID) (controller.VolumeHealth, error) {
	return via(ctx, l, func(s controller.Service) (controller.VolumeHealth, error) { return s.VolumeHealth(ctx, id) })
}

func (l *late) Capacity(ctx context.Context, class volume.Class, t controller.Topology) (backend.Capacity, error) {
	return via(ctx, l, func(s controller.Service) (backend.Capacity, error) { return s.Capacity(ctx, class, t) })
}

func (l *late) CreateSnapshot(ctx context.Context, r controller.CreateSnapshotRequest) (repository.Snapshot, error) {
	return via(ctx, l, func(s controller.Service) (repository.Snapshot, error) { return s.CreateSnapshot(ctx, r) })
}

func (l *late) DeleteSnapshot(ctx context.Context, h volume.Handle) error {
	return l.do(ctx, func(s controller.Service) error { return s.DeleteSnapshot(ctx, h) })
}

func (l *late) Snapshot(ctx context.Context, h volume.Handle) (repository.Snapshot, error) {
	return via(ctx, l, func(s controller.Service) (repository.Snapshot, error) { return s.Snapshot(ctx, h) })
}

func (l *late) Snapshots(ctx context.Context, after volume.SnapshotID, limit int) (page []repository.Snapshot, next volume.SnapshotID, err error) {
	err = l.do(ctx, func(s controller.Service) error { page, next, err = s.Snapshots(ctx, after, limit); return err })
	return page, next, err
}

func (l *late) CheckKey(ctx context.Context, snapshot repository.Snapshot, secrets volume.Secrets) error {
	return l.do(ctx, func(s controller.Service) error { return s.CheckKey(ctx, snapshot, secrets) })
}

// Handle names what a call returned; so the service is there.
func (l *late) Handle(id volume.SnapshotID) volume.Handle { return l.service.Handle(id) }

// GroupHandle names what a call returned; so the service is there.
func (l *late) GroupHandle(id volume.GroupID) volume.GroupHandle { return l.service.GroupHandle(id) }

func (l *late) CreateGroup(ctx context.Context, r controller.CreateGroupRequest) (g repository.Group, members []repository.Snapshot, err error) {
	err = l.do(ctx, func(s controller.Service) error { g, members, err = s.CreateGroup(ctx, r); return err })
	return g, members, err
}

func (l *late) Group(ctx context.Context, h volume.GroupHandle) (g repository.Group, members []repository.Snapshot, err error) {
	err = l.do(ctx, func(s controller.Service) error { g, members, err = s.Group(ctx, h); return err })
	return g, members, err
}

func (l *late) DeleteGroup(ctx context.Context, h volume.GroupHandle, members []volume.Handle) error {
	return l.do(ctx, func(s controller.Service) error { return s.DeleteGroup(ctx, h, members) })
}

func (l *late) Allocated(ctx context.Context, h volume.Handle, offset int64) (sizeBytes int64, extents iter.Seq2[backend.Extent, error], err error) {
	err = l.do(ctx, func(s controller.Service) error {
		sizeBytes, extents, err = s.Allocated(ctx, h, offset)
		return err
	})
	return sizeBytes, extents, err
}

func (l *late) Delta(ctx context.Context, base, target volume.Handle, offset int64) (sizeBytes int64, extents iter.Seq2[backend.Extent, error], err error) {
	err = l.do(ctx, func(s controller.Service) error {
		sizeBytes, extents, err = s.Delta(ctx, base, target, offset)
		return err
	})
	return sizeBytes, extents, err
}
