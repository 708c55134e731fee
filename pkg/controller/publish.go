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
// the volume's record, and so is everything that it could race with. On a node
// that can have only so many volumes it takes two: the first takes a place, the
// second confirms it, or gives it back when more places are taken than there are.
// The places are counted once, in between, since that reads every volume.
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
	r.ReadOnly = r.ReadOnly || v.Request.ReadOnly
	there, err := admits(v, r.Publication)
	if err == nil && !there {
		v, err = c.takePlace(ctx, r, node.Value)
	}
	if err != nil {
		return repository.Volume{}, err
	}
	return c.confirm(ctx, v, node.Value)
}

// takePlace records a publication. Precondition if the node is retired, or has not
// the backend; others as admits says.
func (c *Controller) takePlace(ctx context.Context, r PublishRequest, node repository.Node) (repository.Volume, error) {
	if node.Retired {
		return repository.Volume{}, fault.New(fault.Precondition, "node %q was retired by the operator: start its engine again to bring it back", r.Node)
	}
	record, err := c.repository.Volumes.Update(ctx, string(r.Volume), func(v repository.Volume) (repository.Volume, error) {
		if v.State != repository.Ready {
			return v, noVolume(v.ID, v.State)
		}
		if there, err := admits(v, r.Publication); there || err != nil {
			return v, err
		}
		if v.Class.Shared() {
			if !slices.Contains(node.Backends, v.Class.Backend) {
				return v, fault.New(fault.Precondition, "node %q: it has no backend %q, but %q: want a node whose engine has it", node.ID, v.Class.Backend, node.Backends)
			}
			v.Node = node.ID
		}
		p := r.Publication
		p.Pending = node.MaxVolumes > 0
		v.Publications = append(slices.Clip(v.Publications), p)
		v.Changed = c.now()
		return v, nil
	})
	crashpoint.Here("controller: publication recorded")
	return record.Value, err
}

// confirm counts now that the publication is recorded: of those that race
// for a node's last place each sees the others, and none keeps a place too many.
// Only a pending publication is taken back, and whoever finds one may confirm
// it, so one that anybody was told of stays.
func (c *Controller) confirm(ctx context.Context, v repository.Volume, node repository.Node) (repository.Volume, error) {
	at := func(p repository.Publication) bool { return p.Node == node.ID }
	if i := slices.IndexFunc(v.Publications, at); i >= 0 && !v.Publications[i].Pending {
		return v, nil
	}
	full := c.roomFor(ctx, node, v.ID)
	if full != nil && !fault.Is(full, fault.Exhausted) {
		return repository.Volume{}, full
	}
	record, err := c.repository.Volumes.Update(ctx, string(v.ID), func(v repository.Volume) (repository.Volume, error) {
		i := slices.IndexFunc(v.Publications, at)
		switch {
		case i < 0:
			return v, fault.New(fault.Busy, "its publication to node %q was taken back meanwhile: try again", node.ID)
		case !v.Publications[i].Pending:
			full = nil
			return v, nil
		}
		v.Publications, v.Changed = slices.Clone(v.Publications), c.now()
		if full != nil {
			v.Publications = slices.Delete(v.Publications, i, i+1)
		} else {
			v.Publications[i].Pending = false
		}
		return v, nil
	})
	if err == nil {
		err = full
	}
	if err != nil {
		return repository.Volume{}, err
	}
	crashpoint.Here("controller: publication confirmed")
	return record.Value, nil
}

// admits reports whether a volume's record already has a publication, or why it
// cannot have it.
func admits(v repository.Volume, p repository.Publication) (there bool, err error) {
	for _, other := range v.Publications {
		switch {
		case other.Node == p.Node && other.AccessMode == p.AccessMode && other.ReadOnly == p.ReadOnly:
			return true, nil
		case other.Node == p.Node:
			return false, fault.New(fault.Exists, "it is published to node %q with access mode %s and readonly %t, and %s and %t are asked for: want the same, or unpublish it first", p.Node, other.AccessMode, other.ReadOnly, p.AccessMode, p.ReadOnly)
		}
	}
	if v.Class.Shared() {
		return false, alongside(v, p)
	}
	if p.AccessMode == repository.MultiNodeReaderOnly {
		return false, fault.New(fault.Invalid, "volume_capability.access_mode: %s: a volume with %s %q is used on one node: want a SINGLE_NODE mode", p.AccessMode, volume.ParamBackend, v.Class.Backend)
	}
	if p.Node == v.Node {
		return false, nil
	}
	if len(v.Publications) > 0 {
		return false, fault.New(fault.InUse, "it is published to %s: want it unpublished there first, and then published to the node that has its data, %q", publishedTo(v), v.Node)
	}
	return false, fault.New(fault.Precondition, "node %q: its data are on node %q, and a local volume can be used only there", p.Node, v.Node)
}

// alongside reports, as InUse, that a shared volume cannot be published as well to
// where it is published already: it can to readers on any number of nodes, or else
// to one node.
func alongside(v repository.Volume, p repository.Publication) error {
	for _, other := range append(slices.Clip(v.Publications), p) {
		if len(v.Publications) > 0 && other.AccessMode != repository.MultiNodeReaderOnly {
			return fault.New(fault.InUse, "it is published to %s, and %s is asked for on node %q: want %s for both, or want it unpublished there first", publishedTo(v), p.AccessMode, p.Node, repository.MultiNodeReaderOnly)
		}
	}
	return nil
}

// roomFor counts a node's publications of other volumes. Exhausted if it cannot
// have one more. A damaged record of some other volume is no reason to keep this
// one from its users: then nothing is counted, and the node's own limits hold.
func (c *Controller) roomFor(ctx context.Context, node repository.Node, id volume.ID) error {
	if node.MaxVolumes == 0 {
		return nil
	}
	var others int64
	err := each(ctx, c.repository.Volumes, func(v repository.Volume) error {
		if v.ID != id && slices.ContainsFunc(v.Publications, func(p repository.Publication) bool { return p.Node == node.ID }) {
			others++
		}
		return nil
	})
	if fault.Is(err, fault.Corrupt) {
		klog.FromContext(ctx).Error(err, "Publications of a node cannot be counted", "node", node.ID)
		return nil
	}
	if err == nil && others >= node.MaxVolumes {
		return fault.New(fault.Exhausted, "node %q has %d other volumes published and can have %d: want one unpublished first", node.ID, others, node.MaxVolumes)
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
