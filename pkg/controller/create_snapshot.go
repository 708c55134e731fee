package controller

import (
	"context"
	"errors"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateSnapshot implements Service.
func (c *Controller) CreateSnapshot(ctx context.Context, r CreateSnapshotRequest) (repository.Snapshot, error) {
	release, err := c.lock("snapshot name", r.Name, "CreateSnapshot")
	if err != nil {
		return repository.Snapshot{}, err
	}
	defer release()
	for range creationRounds {
		s, err := c.snapshotRound(ctx, r)
		if !errors.Is(err, errAgain) {
			return s, c.noted(fault.Wrap(err, "create snapshot", r.Name))
		}
	}
	return repository.Snapshot{}, fault.New(fault.Busy, "create snapshot %s: others are at work on this name: try again later", r.Name)
}

func (c *Controller) snapshotRound(ctx context.Context, r CreateSnapshotRequest) (repository.Snapshot, error) {
	f, err := c.snapshots.find(ctx, r.Name)
	if err != nil {
		return repository.Snapshot{}, err
	}
	if f.phase != free {
		if err := matchSnapshot(f.name.Value.Request, r); err != nil {
			return repository.Snapshot{}, err
		}
	}
	if f.phase == made {
		return f.record, nil
	}
	v, err := c.Volume(ctx, r.Volume)
	if err == nil && !v.Class.Shared() && !r.Topology.allows(v.Node) {
		err = fault.New(fault.Exhausted, "volume %s is on node %q, and so are its snapshots, but the topology requirement excludes it: want it to include that node", v.ID, v.Node)
	}
	if err != nil && f.phase == begun {
		return c.snapshots.fail(ctx, f.name.Value, err)
	}
	if err != nil {
		return repository.Snapshot{}, err
	}
	if f.phase == begun {
		return c.cutSnapshot(ctx, f.name.Value, v, r)
	}
	if v.Node, _, err = c.reach(ctx, whereIs(v)); err != nil {
		return repository.Snapshot{}, err
	}
	name, err := c.snapshots.take(ctx, f.name, repository.Name{
		Name: r.Name, ID: string(volume.NewSnapshotID()), Node: v.Node, Backend: v.Class.Backend,
		Request: repository.Request{Source: repository.Source{Volume: r.Volume}, Consistency: string(r.Consistency)},
	})
	if fault.Is(err, fault.Busy) {
		return repository.Snapshot{}, errAgain
	}
	if err != nil {
		return repository.Snapshot{}, err
	}
	return c.cutSnapshot(ctx, name, v, r)
}

func matchSnapshot(stored repository.Request, r CreateSnapshotRequest) error {
	switch {
	case stored.Source.Volume != r.Volume:
		return differs("source_volume_id", string(stored.Source.Volume), string(r.Volume))
	case stored.Consistency != string(r.Consistency):
		return differs("parameters.consistency", stored.Consistency, string(r.Consistency))
	}
	return nil
}

// cutSnapshot has the engine cut the snapshot, and completes or undoes the
// intent. The intent of a shared backend goes on wherever its volume is now.
func (c *Controller) cutSnapshot(ctx context.Context, n repository.Name, v repository.Volume, r CreateSnapshotRequest) (repository.Snapshot, error) {
	w := where{n.Backend, n.Node, true}
	if v.Class.Shared() {
		w = whereIs(v)
	}
	node, b, err := c.reach(ctx, w)
	var cut backend.Snapshot
	if err == nil {
		cut, err = b.CreateSnapshot(ctx, backend.CreateSnapshotRequest{
			ID: volume.SnapshotID(n.ID), Volume: r.Volume, Consistency: r.Consistency, Secrets: r.Secrets,
		})
	}
	if err != nil {
		err = c.lost(err, node, func() error { _, err := c.Volume(ctx, r.Volume); return err })
		return c.snapshots.fail(ctx, n, fault.Wrap(err, "node", string(node)))
	}
	v.Node = node
	crashpoint.Here("controller: engine cut the snapshot")
	return c.snapshots.commit(ctx, n, c.snapshotRecord(cut, v, n.Name, ""))
}

func (c *Controller) snapshotRecord(cut backend.Snapshot, v repository.Volume, name string, group volume.GroupID) repository.Snapshot {
	return repository.Snapshot{
		ID: cut.ID, State: repository.Ready, Name: name, Volume: v.ID, Node: v.Node, Group: group, SizeBytes: cut.SizeBytes,
		Class: v.Class, Consistency: cut.Consistency, Filesystem: cut.Filesystem, Cut: cut.CreatedAt, Changed: c.now(),
	}
}
