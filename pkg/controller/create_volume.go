package controller

import (
	"context"
	"errors"
	"slices"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateVolume implements Service.
func (c *Controller) CreateVolume(ctx context.Context, r CreateVolumeRequest) (repository.Volume, error) {
	release, err := c.lock("volume name", r.Name, "CreateVolume")
	if err != nil {
		return repository.Volume{}, err
	}
	defer release()
	if r, err = c.atHome(r); err != nil {
		return repository.Volume{}, fault.Wrap(err, "create volume", r.Name)
	}
	v, err := (&volumeCreation{c: c, r: r}).run(ctx)
	return v, c.noted(fault.Wrap(err, "create volume", r.Name))
}

// atHome completes a request for a shared volume: its repository is the home one,
// and no topology limits where it is made. Invalid for another repository.
func (c *Controller) atHome(r CreateVolumeRequest) (CreateVolumeRequest, error) {
	if !r.Class.Shared() {
		return r, nil
	}
	home := c.repository.ID()
	if r.Class.Repository != "" && r.Class.Repository != home {
		return r, fault.New(fault.Invalid, "parameter %s: %q: want %q, which is the home repository, or leave it out", volume.ParamRepository, r.Class.Repository, home)
	}
	r.Class.Repository = home
	r.Topology.Requisite = nil
	return r, nil
}

// creationRounds bounds how often a creation begins again because other
// controllers are at work on the same name; full nodes are not counted.
const creationRounds = 64

// volumeCreation is one call of CreateVolume.
type volumeCreation struct {
	c *Controller
	r CreateVolumeRequest

	placed bool            // whether nodes were looked for
	nodes  []volume.NodeID // in the order in which to try them
	tried  []volume.NodeID // those that were full
	full   []error         // what they said
}

func (v *volumeCreation) run(ctx context.Context) (repository.Volume, error) {
	for round := 0; round < creationRounds+len(v.tried); round++ {
		created, err := v.round(ctx)
		if !errors.Is(err, errAgain) {
			return created, err
		}
	}
	return repository.Volume{}, fault.New(fault.Busy, "others are at work on this name: try again later")
}

// errAgain asks for another round.
var errAgain = errors.New("again")

// round looks at what the name stands for, and does what comes next.
func (v *volumeCreation) round(ctx context.Context) (repository.Volume, error) {
	f, err := v.c.volumes.find(ctx, v.r.Name)
	if err != nil {
		return repository.Volume{}, err
	}
	switch f.phase {
	case made:
		return f.record, v.accept(f)
	case begun:
		return v.resume(ctx, f.name.Value)
	}
	return v.begin(ctx, f.name)
}

// accept sees that a volume that exists is the one that is asked for.
func (v *volumeCreation) accept(f found[repository.Volume]) error {
	if err := match(f.name.Value.Request, v.r.Request, f.record.SizeBytes); err != nil {
		return err
	}
	if !f.record.Class.Shared() && !v.r.Topology.allows(f.record.Node) {
		return differs("accessibility_requirements", "a volume on node "+string(f.record.Node), "another node")
	}
	return nil
}

// begin stores an intent for the best node that was not tried yet, and goes to
// work.
func (v *volumeCreation) begin(ctx context.Context, previous repository.Revision[repository.Name]) (repository.Volume, error) {
	o, err := v.c.origin(ctx, v.r.Request.Source)
	if err == nil {
		err = o.suits(v.r.Class)
	}
	if err != nil {
		return repository.Volume{}, err
	}
	sizeBytes, err := o.size(v.r.Request.Range, v.r.MinimumBytes)
	if err == nil {
		err = v.r.Class.CheckSize(sizeBytes)
	}
	if err != nil {
		return repository.Volume{}, err
	}
	node, err := v.next(ctx, o)
	if err != nil {
		return repository.Volume{}, err
	}
	name, err := v.c.volumes.take(ctx, previous, repository.Name{
		Name: v.r.Name, ID: string(volume.NewID()), Node: node, Backend: v.r.Class.Backend, Request: v.r.Request,
	})
	if fault.Is(err, fault.Busy) {
		return repository.Volume{}, errAgain
	}
	if err != nil {
		return repository.Volume{}, err
	}
	return v.work(ctx, name, o, sizeBytes)
}

// next chooses a node. Exhausted if all have been tried.
func (v *volumeCreation) next(ctx context.Context, o origin) (volume.NodeID, error) {
	if !v.placed {
		topology, err := o.pin(v.r.Topology)
		if err != nil {
			return "", err
		}
		if v.nodes, err = v.c.place(ctx, v.r.Class, topology); err != nil {
			return "", err
		}
		v.placed = true
	}
	for _, node := range v.nodes {
		if !slices.Contains(v.tried, node) {
			return node, nil
		}
	}
	return "", fault.New(fault.Exhausted, "no suitable node has room: %w", joined(v.full))
}

// resume goes on with an intent, at the same node and with the same id: a
// volume may be there already. One of a shared backend goes on at any node that
// answers. An intent that can't be followed any more is taken back.
func (v *volumeCreation) resume(ctx context.Context, n repository.Name) (repository.Volume, error) {
	o, err := v.c.origin(ctx, n.Request.Source)
	if fault.Is(err, fault.NotFound) {
		return v.c.volumes.fail(ctx, n, err)
	}
	if err != nil {
		return repository.Volume{}, err
	}
	sizeBytes, err := o.size(n.Request.Range, v.r.MinimumBytes)
	if err != nil {
		return v.c.volumes.fail(ctx, n, err)
	}
	if err := match(n.Request, v.r.Request, sizeBytes); err != nil {
		return repository.Volume{}, err
	}
	stays, err := v.stays(ctx, n)
	if err != nil {
		return repository.Volume{}, err
	}
	if !stays {
		record, ok, err := v.c.volumes.abandon(ctx, n)
		if err == nil && !ok {
			err = errAgain
		}
		return record, err
	}
	if v.c.now().Sub(n.Created) > v.c.intentTimeout/4 {
		if err := v.c.volumes.renew(ctx, n); err != nil {
			return repository.Volume{}, err
		}
	}
	return v.work(ctx, n, o, sizeBytes)
}

// stays reports whether an intent's node is still one for the volume.
func (v *volumeCreation) stays(ctx context.Context, n repository.Name) (bool, error) {
	if v.r.Class.Shared() {
		return true, nil
	}
	node, err := v.c.node(ctx, n.Node)
	return !node.Retired && v.r.Topology.allows(n.Node), err
}

// work has the engine make the volume, and completes or undoes the intent.
func (v *volumeCreation) work(ctx context.Context, n repository.Name, o origin, sizeBytes int64) (repository.Volume, error) {
	w := where{n.Backend, n.Node, !v.r.Class.Shared()}
	if o.alone {
		w = o.where
	}
	node, b, err := v.c.reach(ctx, w)
	var made backend.Volume
	if err == nil {
		made, err = b.CreateVolume(ctx, backend.CreateVolumeRequest{
			ID: volume.ID(n.ID), SizeBytes: sizeBytes, Class: v.r.Class, Source: o.Source, ReadOnly: n.Request.ReadOnly && !v.r.Block, Secrets: v.r.Secrets,
		})
	}
	if err != nil {
		return v.failed(ctx, n, node, err)
	}
	crashpoint.Here("controller: engine made the volume")
	now := v.c.now()
	return v.c.volumes.commit(ctx, n, repository.Volume{
		ID: volume.ID(n.ID), State: repository.Ready, Name: n.Name, Node: node, SizeBytes: made.SizeBytes,
		Class: v.r.Class, Request: n.Request, Created: now, Changed: now,
	})
}

// failed undoes what can be undone; after a full node the next one is tried.
func (v *volumeCreation) failed(ctx context.Context, n repository.Name, node volume.NodeID, cause error) (repository.Volume, error) {
	if n.Request.Source != (repository.Source{}) {
		cause = v.c.lost(cause, node, func() error { _, err := v.c.origin(ctx, n.Request.Source); return err })
	}
	record, err := v.c.volumes.fail(ctx, n, fault.Wrap(cause, "node", string(node)))
	switch {
	case err == nil:
		return record, v.accept(found[repository.Volume]{name: repository.Revision[repository.Name]{Value: n}, record: record})
	case mayRun(err), !fault.Is(err, fault.Exhausted) && !errors.Is(err, errRetired):
		return repository.Volume{}, err
	}
	v.tried, v.full = append(v.tried, n.Node, node), append(v.full, err)
	return repository.Volume{}, errAgain
}
