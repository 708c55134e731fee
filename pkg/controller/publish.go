package controller

import (
	"context"
	"slices"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Publish implements Service. It needs no lock: a publication is one revision of
// the volume's record, and so is everything that it could race with.
func (c *Controller) Publish(ctx context.Context, r PublishRequest) (repository.Volume, error) {
	v, err := c.publish(ctx, r)
	return v, fault.Wrap(err, "publish volume", string(r.Volume))
}

func (c *Controller) publish(ctx context.Context, r PublishRequest) (repository.Volume, error) {
	v, err := c.Volume(ctx, r.Volume)
	if err != nil {
		return repository.Volume{}, err
	}
	node, err := c.repository.Nodes.Latest(ctx, string(r.Node))
	if fault.Is(err, fault.NotFound) {
		return repository.Volume{}, fault.New(fault.NotFound, "node %q: the repository has no record of it: want a node whose engine has announced itself", r.Node)
	}
	if err != nil {
		return repository.Volume{}, err
	}
	if done, err := admits(v, r.Publication); done || err != nil {
		return v, err
	}
	if node.Value.Retired {
		return repository.Volume{}, fault.New(fault.Precondition, "node %q was retired by the operator: start its engine again to bring it back", r.Node)
	}
	if err := c.roomFor(ctx, node.Value, 1); err != nil {
		return repository.Volume{}, err
	}
	record, err := c.repository.Volumes.Update(ctx, string(r.Volume), func(v repository.Volume) (repository.Volume, error) {
		if v.State != repository.Ready {
			return v, noVolume(v.ID, v.State)
		}
		if done, err := admits(v, r.Publication); done || err != nil {
			return v, err
		}
		v.Publications = append(slices.Clip(v.Publications), r.Publication)
		v.Changed = c.now()
		return v, nil
	})
	if err != nil {
		return repository.Volume{}, err
	}
	crashpoint.Here("controller: publication recorded")
	return record.Value, c.withdrawIfFull(ctx, r, node.Value)
}

// admits reports whether a volume's record already has a publication, or why it
// cannot have it.
func admits(v repository.Volume, p repository.Publication) (done bool, err error) {
	for _, other := range v.Publications {
		switch {
		case other == p:
			return true, nil
		case other.Node == p.Node:
			return false, fault.New(fault.Exists, "it is published to node %q with access mode %s and readonly %t, and %s and %t are asked for: want the same, or unpublish it first", p.Node, other.AccessMode, other.ReadOnly, p.AccessMode, p.ReadOnly)
		}
	}
	if p.Node == v.Node {
		return false, nil
	}
	if len(v.Publications) > 0 {
		return false, fault.New(fault.InUse, "it is published to %s: want it unpublished there first, and then published to the node that has its data, %q", publishedTo(v), v.Node)
	}
	return false, fault.New(fault.Precondition, "node %q: its data are on node %q, and a local volume can be used only there", p.Node, v.Node)
}

// roomFor counts a node's publications. Exhausted if it cannot have more. A
// damaged record of some other volume is no reason to keep this one from its
// users: then nothing is counted, and the node's own limits hold.
func (c *Controller) roomFor(ctx context.Context, node repository.Node, more int64) error {
	if node.MaxVolumes == 0 {
		return nil
	}
	var published int64
	err := each(ctx, c.repository.Volumes, func(v repository.Volume) error {
		if slices.ContainsFunc(v.Publications, func(p repository.Publication) bool { return p.Node == node.ID }) {
			published++
		}
		return nil
	})
	if fault.Is(err, fault.Corrupt) {
		klog.FromContext(ctx).Error(err, "Publications of a node cannot be counted", "node", node.ID)
		return nil
	}
	if err == nil && published+more > node.MaxVolumes {
		return fault.New(fault.Exhausted, "node %q has %d volumes published and can have %d: want one unpublished first", node.ID, published, node.MaxVolumes)
	}
	return err
}

// withdrawIfFull counts again now that the publication is recorded: of those
// that race for a node's last place each sees the others, and none keeps a place
// too many.
func (c *Controller) withdrawIfFull(ctx context.Context, r PublishRequest, node repository.Node) error {
	err := c.roomFor(ctx, node, 0)
	if !fault.Is(err, fault.Exhausted) {
		return err
	}
	if undone := c.Unpublish(ctx, r.Volume, r.Node); undone != nil {
		return undone
	}
	return err
}

// Unpublish implements Service. The record is all that there is to it, so a node
// that is down, retired or gone does not matter; on such a node it is no proof
// of a clean close.
func (c *Controller) Unpublish(ctx context.Context, id volume.ID, node volume.NodeID) error {
	_, err := c.repository.Volumes.Update(ctx, string(id), func(v repository.Volume) (repository.Volume, error) {
		kept := slices.DeleteFunc(slices.Clone(v.Publications), func(p repository.Publication) bool {
			return node == "" || p.Node == node
		})
		if len(kept) < len(v.Publications) {
			v.Publications, v.Changed = kept, c.now()
		}
		return v, nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return fault.Wrap(err, "unpublish volume", string(id))
}
