package controller

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateGroup implements Service.
func (c *Controller) CreateGroup(ctx context.Context, r CreateGroupRequest) (repository.Group, []repository.Snapshot, error) {
	release, err := c.lock("group snapshot name", r.Name, "CreateGroup")
	if err != nil {
		return repository.Group{}, nil, err
	}
	defer release()
	for range creationRounds {
		g, err := c.groupRound(ctx, r)
		if errors.Is(err, errAgain) {
			continue
		}
		if err != nil {
			return repository.Group{}, nil, c.noted(fault.Wrap(err, "create group snapshot", r.Name))
		}
		members, err := c.members(ctx, g)
		return g, members, err
	}
	return repository.Group{}, nil, fault.New(fault.Busy, "create group snapshot %s: others are at work on this name: try again later", r.Name)
}

// groupRound does what comes next for a name. Cuts that an earlier attempt left
// are void, since nobody knows any more whether its pause held: they are undone,
// and new ones made under new ids.
func (c *Controller) groupRound(ctx context.Context, r CreateGroupRequest) (repository.Group, error) {
	f, err := c.groups.find(ctx, r.Name)
	if err != nil {
		return repository.Group{}, err
	}
	if f.phase != free {
		if err := matchGroup(f.name.Value.Request, r); err != nil {
			return repository.Group{}, err
		}
	}
	switch f.phase {
	case made:
		return f.record, nil
	case begun:
		g, completed, err := c.groups.abandon(ctx, f.name.Value)
		if err == nil && !completed {
			err = errAgain
		}
		return g, err
	}
	volumes, err := c.groupVolumes(ctx, r)
	if err != nil {
		return repository.Group{}, err
	}
	name, err := c.groups.take(ctx, f.name, groupIntent(r, volumes))
	if fault.Is(err, fault.Busy) {
		return repository.Group{}, errAgain
	}
	if err != nil {
		return repository.Group{}, err
	}
	g, err := c.makeGroup(ctx, name, volumes, r)
	if err != nil {
		return c.failGroup(ctx, name, err)
	}
	return g, nil
}

func matchGroup(stored repository.Request, r CreateGroupRequest) error {
	asked := slices.Sorted(slices.Values(r.Volumes))
	if had := slices.Sorted(maps.Keys(stored.Members)); !slices.Equal(had, asked) {
		return fault.New(fault.Exists, "source_volume_ids: the name exists with %q, and %q are asked for: want the same, or another name", had, asked)
	}
	if stored.Consistency != string(r.Consistency) {
		return differs("parameters.consistency", stored.Consistency, string(r.Consistency))
	}
	return nil
}

// groupVolumes reads the source volumes, in ascending order of id. The node of each
// is the one whose engine cuts it.
func (c *Controller) groupVolumes(ctx context.Context, r CreateGroupRequest) (volumes []repository.Volume, err error) {
	if len(r.Volumes) == 0 {
		return nil, fault.New(fault.Invalid, "source_volume_ids: none: want one or more")
	}
	for _, id := range slices.Sorted(slices.Values(r.Volumes)) {
		v, err := c.Volume(ctx, id)
		if err != nil {
			return nil, err
		}
		if v.Node, _, err = c.reach(ctx, whereIs(v)); err != nil {
			return nil, fault.Wrap(err, "volume", string(v.ID))
		}
		volumes = append(volumes, v)
	}
	return volumes, nil
}

func groupIntent(r CreateGroupRequest, volumes []repository.Volume) repository.Name {
	n := repository.Name{
		Name: r.Name, ID: string(volume.NewGroupID()), Backend: volumes[0].Class.Backend,
		Request:     repository.Request{Consistency: string(r.Consistency), Members: map[volume.ID]volume.SnapshotID{}},
		MemberNodes: map[volume.ID]volume.NodeID{},
	}
	backends := map[volume.ID]string{}
	for _, v := range volumes {
		n.Request.Members[v.ID] = volume.NewSnapshotID()
		n.MemberNodes[v.ID] = v.Node
		backends[v.ID] = v.Class.Backend
		if v.Class.Backend != volumes[0].Class.Backend {
			n.Backend, n.MemberBackends = "", backends
		}
	}
	return n
}

// makeGroup cuts all members, records them, and then the group.
func (c *Controller) makeGroup(ctx context.Context, n repository.Name, volumes []repository.Volume, r CreateGroupRequest) (repository.Group, error) {
	cuts, err := c.cutGroup(ctx, n, volumes, r)
	if err != nil {
		return repository.Group{}, err
	}
	crashpoint.Here("controller: group snapshot cut")
	g := repository.Group{ID: volume.GroupID(n.ID), State: repository.Ready, Name: n.Name, Changed: c.now()}
	for i, cut := range cuts {
		record := c.snapshotRecord(cut, volumes[i], "", g.ID)
		_, err := c.repository.Snapshots.Append(ctx, string(cut.ID), repository.Revision[repository.Snapshot]{}, record)
		if err != nil {
			return repository.Group{}, fault.Wrap(err, "record snapshot", string(cut.ID))
		}
		crashpoint.Here("controller: group member recorded")
		g.Members = append(g.Members, cut.ID)
		if cut.CreatedAt.After(g.Cut) {
			g.Cut = cut.CreatedAt
		}
	}
	return c.groups.commit(ctx, n, g)
}

// failGroup undoes an attempt, also one whose work may still run: its cuts could
// never be used. The caller may have gone, so the undo has a time of its own.
func (c *Controller) failGroup(ctx context.Context, n repository.Name, cause error) (repository.Group, error) {
	ctx, cancel := detached(ctx)
	defer cancel()
	// Another controller that undid this attempt ended its pause, too: a cut that
	// failed for that is no fault of the volumes.
	_, looked := c.repository.Groups.Latest(ctx, n.ID)
	g, completed, err := c.groups.abandon(ctx, n)
	switch {
	case err != nil:
		return repository.Group{}, fault.New(fault.Transient, "not undone yet: %w (after: %w)", err, cause)
	case completed:
		return g, nil
	case !fault.Is(looked, fault.NotFound), fault.Is(cause, fault.Fenced), fault.Is(cause, fault.Exists):
		cause = fault.New(fault.Busy, "this attempt was undone by another: try again: %w", cause)
	}
	return repository.Group{}, cause
}
