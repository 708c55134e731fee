package controller

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func (c *Controller) groupKind() kind[repository.Group] {
	return kind[repository.Group]{
		what:    "group snapshot",
		names:   c.repository.GroupNames,
		records: c.repository.Groups,
		now:     c.now,
		facts: func(g repository.Group) facts {
			return facts{string(g.ID), g.Name, g.State, g.Changed}
		},
		ended: func(id, name string) repository.Group {
			return repository.Group{ID: volume.GroupID(id), Name: name, State: repository.Ended, Changed: c.now()}
		},
		leaving: func(g repository.Group) repository.Group {
			g.State, g.Changed = repository.Deleting, c.now()
			return g
		},
		undo:    c.undoMembers,
		dispose: c.deleteMembers,
	}
}

// undoMembers takes back the members of a group snapshot that was not completed.
func (c *Controller) undoMembers(ctx context.Context, n repository.Name) error {
	c.release(ctx, n)
	for source, id := range n.Request.Members {
		member := repository.Name{
			ID: string(id), Node: n.MemberNodes[source], Backend: n.MemberBackend(source),
			Request: repository.Request{Source: repository.Source{Volume: source}},
		}
		if err := c.undoMember(ctx, member); err != nil {
			return fault.Wrap(err, "undo snapshot", string(id))
		}
	}
	return nil
}

// undoMember ends a member's record, so that no other controller can create it,
// and erases the cut even if there was none: it may be on its way.
func (c *Controller) undoMember(ctx context.Context, member repository.Name) error {
	if err := c.deleteMember(ctx, volume.SnapshotID(member.ID)); err != nil {
		return err
	}
	_, completed, err := c.snapshots.abandon(ctx, member)
	if completed {
		return fault.New(fault.Busy, "another controller is at work on it: try again")
	}
	return err
}

func (c *Controller) deleteMembers(ctx context.Context, g repository.Group) error {
	for _, id := range g.Members {
		if err := c.deleteMember(ctx, id); err != nil {
			return fault.Wrap(err, "delete snapshot", string(id))
		}
	}
	return nil
}

func (c *Controller) deleteMember(ctx context.Context, id volume.SnapshotID) error {
	return c.snapshots.delete(ctx, string(id), func(repository.Snapshot) error { return nil })
}

// GroupHandle implements Service.
func (c *Controller) GroupHandle(id volume.GroupID) volume.GroupHandle {
	return volume.GroupHandle{Repository: c.repository.ID(), Group: id}
}

// Group implements Service.
func (c *Controller) Group(ctx context.Context, h volume.GroupHandle) (repository.Group, []repository.Snapshot, error) {
	none := fault.New(fault.NotFound, "group snapshot %q: there is none of this id in this repository", h)
	if h.Repository != c.repository.ID() {
		return repository.Group{}, nil, none
	}
	record, err := c.repository.Groups.Latest(ctx, string(h.Group))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return repository.Group{}, nil, err
	}
	if err != nil || record.Value.State != repository.Ready {
		return repository.Group{}, nil, none
	}
	members, err := c.members(ctx, record.Value)
	return record.Value, members, err
}

// members reads the records of a Ready group's members. One that is missing is
// Corrupt, unless the group is being deleted meanwhile.
func (c *Controller) members(ctx context.Context, g repository.Group) ([]repository.Snapshot, error) {
	var members []repository.Snapshot
	for _, id := range g.Members {
		record, err := c.repository.Snapshots.Latest(ctx, string(id))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return nil, err
		}
		if err != nil || record.Value.State != repository.Ready {
			now, err := c.repository.Groups.Latest(ctx, string(g.ID))
			if err == nil && now.Value.State == repository.Ready {
				return nil, fault.New(fault.Corrupt, "group snapshot %s: the record of its member %s is missing", g.ID, id)
			}
			return nil, fault.New(fault.NotFound, "group snapshot %s: it is being deleted", g.ID)
		}
		members = append(members, record.Value)
	}
	return members, nil
}

// DeleteGroup implements Service.
func (c *Controller) DeleteGroup(ctx context.Context, h volume.GroupHandle, members []volume.Handle) error {
	if h.Repository != c.repository.ID() {
		return nil
	}
	release, err := c.lock("group snapshot", string(h.Group), "DeleteGroup")
	if err != nil {
		return err
	}
	defer release()
	err = c.groups.delete(ctx, string(h.Group), func(g repository.Group) error {
		return c.matchMembers(g, members)
	})
	return c.noted(fault.Wrap(err, "delete group snapshot", h.String()))
}

// matchMembers sees that the members that a caller names are the group's, in
// whatever order. None at all is a caller that does not name them.
func (c *Controller) matchMembers(g repository.Group, members []volume.Handle) error {
	if len(members) == 0 {
		return nil
	}
	var want, got []string
	for _, id := range g.Members {
		want = append(want, c.Handle(id).String())
	}
	for _, h := range members {
		got = append(got, h.String())
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(want, got) {
		return fault.New(fault.Invalid, "snapshot_ids: %q: want exactly the group's members, %q", got, want)
	}
	return nil
}
