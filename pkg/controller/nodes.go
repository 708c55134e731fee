package controller

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Exhume executes a node's tombstones: what was deleted while it was retired. An
// engine calls it before it announces itself, so that nothing deleted is ever
// seen again, and once more afterwards, for those that were written just then.
// It goes on after an error, and returns all of them. A volume that is still
// attached, since its node was not gone but out of reach, does not keep the node
// from coming back: its tombstone stays for the controllers' sweeps.
func Exhume(ctx context.Context, r *repository.Repository, node volume.NodeID, backends map[string]backend.Backend) error {
	buried, err := r.Buried(ctx, node)
	if err != nil {
		return err
	}
	var left []error
	for _, t := range buried {
		err := exhume(ctx, r, t, backends)
		if fault.Is(err, fault.InUse) {
			klog.FromContext(ctx).Error(err, "Volume was deleted while its node was retired, and is in use there: it goes when it is unstaged", "node", node, "volume", t.Volume)
			continue
		}
		left = append(left, err)
	}
	return errors.Join(left...)
}

func exhume(ctx context.Context, r *repository.Repository, t repository.Tombstone, backends map[string]backend.Backend) error {
	pinned := own(slices.Sorted(maps.Keys(backends)))
	if len(pinned) == 0 {
		return nil
	}
	for _, name := range pinned {
		if err := erase(ctx, backends[name], t); err != nil {
			return fault.Wrap(err, "execute tombstone", string(t.Volume)+string(t.Snapshot))
		}
	}
	crashpoint.Here("controller: tombstone executed")
	return r.Exhume(ctx, t)
}

// own returns those of a node's backends whose volumes are there: what tombstones are
// for. A node that came back without any keeps its tombstones until it has one again.
func own(backends []string) []string {
	return slices.DeleteFunc(slices.Clone(backends), volume.Shared)
}

// Announce writes a node's record if it says anything new, and ends the node's
// retirement. node.Changed is when. In a repository in a directory (dirStore) it
// refuses, as Precondition, a node of another machine than that of a node which
// is not retired: a directory serves one machine.
func Announce(ctx context.Context, r *repository.Repository, node repository.Node, dirStore bool) error {
	node.Retired = false
	if dirStore {
		if err := sameMachine(ctx, r, node); err != nil {
			return err
		}
	}
	if err := writeNode(ctx, r, node); err != nil || !dirStore {
		return fault.Wrap(err, "announce node", string(node.ID))
	}
	crashpoint.Here("controller: node announced")
	// Two that announced themselves at once see each other now, and both yield.
	err := sameMachine(ctx, r, node)
	if fault.Is(err, fault.Precondition) {
		if err := Retire(ctx, r, node.ID, node.Changed); err != nil {
			return err
		}
	}
	return err
}

func sameMachine(ctx context.Context, r *repository.Repository, node repository.Node) error {
	return each(ctx, r.Nodes, func(other repository.Node) error {
		if other.ID == node.ID || other.Retired || other.Machine == node.Machine {
			return nil
		}
		return fault.New(fault.Precondition, "node %q: the repository is a directory, which serves one machine, and node %q is on another one (boot id %s, here %s): use an object store, or retire that node if its machine is gone or was started again", node.ID, other.ID, other.Machine, node.Machine)
	})
}

// writeNode makes node the newest revision, unless but for the time it is.
func writeNode(ctx context.Context, r *repository.Repository, node repository.Node) error {
	for {
		_, err := r.Nodes.Update(ctx, string(node.ID), func(old repository.Node) (repository.Node, error) {
			was := node
			was.Changed = old.Changed
			if sameNode(old, was) {
				return old, nil
			}
			return node, nil
		})
		if !fault.Is(err, fault.NotFound) {
			return err
		}
		if _, err := volume.ParseNodeID(string(node.ID)); err != nil {
			return err
		}
		_, err = r.Nodes.Append(ctx, string(node.ID), repository.Revision[repository.Node]{}, node)
		if !fault.Is(err, fault.Busy) {
			return err
		}
	}
}

func sameNode(a, b repository.Node) bool {
	if !slices.Equal(a.Backends, b.Backends) || !slices.Equal(a.Pools, b.Pools) {
		return false
	}
	a.Backends, b.Backends, a.Pools, b.Pools = nil, nil, nil, nil
	return reflect.DeepEqual(a, b)
}

// Retire says on the operator's behalf that a node is gone: deletions of what it
// has succeed, and wait for it as tombstones. It ends when the node announces
// itself again. NotFound if there is no such node.
func Retire(ctx context.Context, r *repository.Repository, node volume.NodeID, now time.Time) error {
	_, err := r.Nodes.Update(ctx, string(node), func(n repository.Node) (repository.Node, error) {
		if !n.Retired {
			n.Retired, n.Changed = true, now.UTC().Round(0)
		}
		return n, nil
	})
	return fault.Wrap(err, "retire node", string(node))
}
