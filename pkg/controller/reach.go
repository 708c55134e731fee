package controller

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// where says which engines may act on a volume or a snapshot: that of the node
// alone, or that of any node with the backend, this one first.
type where struct {
	backend string
	node    volume.NodeID
	alone   bool
}

// whereIs says where a volume is. That of a shared backend is wherever the backend
// is, unless it is published to a node for writing: then the node's engine has
// what is not in the repository yet.
func whereIs(v repository.Volume) where {
	if v.Class.Shared() {
		if i := slices.IndexFunc(v.Publications, func(p repository.Publication) bool { return !p.ReadOnly }); i >= 0 {
			return where{v.Class.Backend, v.Publications[i].Node, true}
		}
	}
	return where{v.Class.Backend, v.Node, !v.Class.Shared()}
}

// whereSnapshot says where a snapshot is, or one that was begun: of a shared backend
// where its volume is, as long as there is one.
func (c *Controller) whereSnapshot(ctx context.Context, w where, source volume.ID) (where, error) {
	if !volume.Shared(w.backend) {
		w.alone = true
		return w, nil
	}
	v, err := c.Volume(ctx, source)
	if fault.Is(err, fault.NotFound) {
		return w, nil
	}
	return whereIs(v), err
}

// reach returns the engine that is to act, and its node. One that must be a
// certain node's may turn out not to answer, as Transient at the first call;
// of any others one is chosen that does. Transient if none does.
func (c *Controller) reach(ctx context.Context, w where) (volume.NodeID, backend.Backend, error) {
	if w.alone {
		b, err := c.engine(ctx, w.node, w.backend)
		return w.node, b, err
	}
	node, err := c.answering(ctx, w)
	if err != nil {
		return w.node, nil, err
	}
	b, err := c.engine(ctx, node, w.backend)
	return node, b, err
}

// answering finds a node with a shared backend whose engine answers.
func (c *Controller) answering(ctx context.Context, w where) (volume.NodeID, error) {
	class := volume.Class{Backend: w.backend}
	if first, err := c.repository.Nodes.Latest(ctx, string(w.node)); err == nil && unsuitable(first.Value, class) == "" {
		if c.probe(ctx, []repository.Node{first.Value}, class)[0].err == nil {
			return w.node, nil
		}
	}
	nodes, err := c.place(ctx, class, Topology{})
	if fault.Is(err, fault.Exhausted) {
		err = fault.New(fault.Transient, "no node that could do it is there: %w", err)
	}
	if err != nil {
		return "", err
	}
	return nodes[0], nil
}
