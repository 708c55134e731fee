package controller

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// probeTimeout is how long a node may take to tell its capacity, or the health of
// a volume, before it counts as down.
const probeTimeout = 3 * time.Second

// allows reports whether the topology lets a node be used.
func (t Topology) allows(node volume.NodeID) bool {
	return t.Requisite == nil || slices.Contains(t.Requisite, node)
}

// rank is a node's place among the preferred ones; the others share the last.
func (t Topology) rank(node volume.NodeID) int {
	if i := slices.Index(t.Preferred, node); i >= 0 {
		return i
	}
	return len(t.Preferred)
}

// unsuitable says why a node cannot have a volume of a class, or nothing.
func unsuitable(n repository.Node, class volume.Class) string {
	hasPool := func(p repository.Pool) bool {
		return (class.Pool == "" || p.Name == class.Pool) && (class.PoolType == volume.AnyPool || p.Type == class.PoolType)
	}
	switch {
	case n.Retired:
		return "it was retired"
	case !slices.Contains(n.Backends, class.Backend):
		return fmt.Sprintf("it has no backend %q", class.Backend)
	case (class.Pool != "" || class.PoolType != volume.AnyPool) && !slices.ContainsFunc(n.Pools, hasPool):
		return fmt.Sprintf("it has no pool with pool=%q and poolType=%q", class.Pool, class.PoolType)
	}
	return ""
}

// suitable returns the nodes that can have a volume of a class, and why the
// others cannot: those that the topology allows first, and one by one.
func (c *Controller) suitable(ctx context.Context, class volume.Class, t Topology) (nodes []repository.Node, why []error, err error) {
	excluded := 0
	err = each(ctx, c.repository.Nodes, func(n repository.Node) error {
		reason := unsuitable(n, class)
		switch {
		case !t.allows(n.ID):
			excluded++
		case reason != "":
			why = append(why, fmt.Errorf("node %q: %s", n.ID, reason))
		default:
			nodes = append(nodes, n)
		}
		return nil
	})
	switch {
	case err == nil && len(nodes)+len(why)+excluded == 0:
		why = append(why, errors.New("no node has announced itself yet: start an engine"))
	case excluded > 0:
		why = append(why, fmt.Errorf("the topology requirement %q excludes %d others", t.Requisite, excluded))
	}
	return nodes, why, err
}

// probe is what a node says of its room, or why it doesn't.
type probe struct {
	node     volume.NodeID
	capacity backend.Capacity
	err      error
}

// probe asks nodes for their capacity, all at once.
func (c *Controller) probe(ctx context.Context, nodes []repository.Node, class volume.Class) []probe {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	probes := make([]probe, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		wg.Go(func() {
			b, err := c.engines.Backend(n, class.Backend)
			var capacity backend.Capacity
			if err == nil {
				capacity, err = b.Capacity(ctx, class)
			}
			probes[i] = probe{n.ID, capacity, fault.Wrap(err, "node", string(n.ID))}
		})
	}
	wg.Wait()
	return probes
}

// place returns the nodes to try a volume on, the best first: the preferred
// ones in their order, then those with the most room. Nodes that do not answer
// are left out, so that nothing is begun on them: Transient if none answers.
// Exhausted if no node suits.
func (c *Controller) place(ctx context.Context, class volume.Class, t Topology) ([]volume.NodeID, error) {
	nodes, why, err := c.suitable(ctx, class, t)
	if err != nil {
		return nil, err
	}
	if len(nodes) == 0 {
		return nil, fault.New(fault.Exhausted, "no node suits: %w", joined(why))
	}
	probes := c.probe(ctx, nodes, class)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	slices.SortStableFunc(probes, func(a, b probe) int {
		return cmp.Or(cmp.Compare(t.rank(a.node), t.rank(b.node)), cmp.Compare(b.capacity.AvailableBytes, a.capacity.AvailableBytes))
	})
	var order []volume.NodeID
	var faults []error
	for _, p := range probes {
		if p.err == nil {
			order = append(order, p.node)
		} else {
			faults = append(faults, p.err)
		}
	}
	if len(order) > 0 {
		return order, nil
	}
	if i := slices.IndexFunc(faults, mayRun); i >= 0 {
		return nil, fault.New(fault.Transient, "no suitable node answers: %w", joined(faults))
	}
	return nil, fault.New(fault.Exhausted, "no suitable node has room: %w", joined(faults))
}

// joined is errors.Join on one line and bounded.
func joined(errs []error) error {
	const most = 8
	if len(errs) > most {
		errs = append(slices.Clip(errs[:most]), fmt.Errorf("and %d more", len(errs)-most))
	}
	var all error
	for _, err := range errs {
		if all == nil {
			all = err
		} else {
			all = fmt.Errorf("%w; %w", all, err)
		}
	}
	return all
}

// Capacity implements Service. A node that does not answer has none, since
// nothing could be created on it. A shared backend has any, everywhere, if a node
// has it at all: the scheduler asks for every class and every node, and what it is
// told of must not keep a pod from one.
func (c *Controller) Capacity(ctx context.Context, class volume.Class, t Topology) (backend.Capacity, error) {
	if class.Shared() {
		t = Topology{}
	}
	nodes, _, err := c.suitable(ctx, class, t)
	if err != nil {
		return backend.Capacity{}, err
	}
	if class.Shared() {
		if home := c.repository.ID(); len(nodes) == 0 || class.Repository != "" && class.Repository != home {
			return backend.Capacity{}, nil
		}
		return backend.Capacity{AvailableBytes: math.MaxInt64, MaximumVolumeBytes: class.MaximumBytes()}, nil
	}
	var sum backend.Capacity
	for _, p := range c.probe(ctx, nodes, class) {
		if p.err != nil {
			logUnreachable(ctx, p)
			continue
		}
		sum.AvailableBytes += p.capacity.AvailableBytes
		sum.MaximumVolumeBytes = max(sum.MaximumVolumeBytes, p.capacity.MaximumVolumeBytes)
	}
	return sum, ctx.Err()
}
