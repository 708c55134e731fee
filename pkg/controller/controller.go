package controller

import (
	"context"
	"errors"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Options of New.
type Options struct {
	Repository *repository.Repository
	Engines    Engines
	Now        func() time.Time // nil: time.Now
	// IntentTimeout is how old a creation that nobody repeats may become before
	// it is undone; 0: 5 minutes. Each repetition makes it young again.
	IntentTimeout time.Duration
	// Grace is how long ended names and records are kept; 0: 24 hours.
	Grace time.Duration
}

// Validate reports every fault of the options at once, as Invalid.
func (o Options) Validate() error {
	var faults []error
	if o.Repository == nil {
		faults = append(faults, fault.New(fault.Invalid, "Repository: none: want one"))
	}
	if o.Engines == nil {
		faults = append(faults, fault.New(fault.Invalid, "Engines: none: want some"))
	}
	if o.IntentTimeout < 0 {
		faults = append(faults, fault.New(fault.Invalid, "IntentTimeout: %s: want 0 or more", o.IntentTimeout))
	}
	if o.Grace < 0 {
		faults = append(faults, fault.New(fault.Invalid, "Grace: %s: want 0 or more", o.Grace))
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

// Controller implements Service. It keeps nothing between calls but its locks,
// and whether a sweep is due: several may run on one repository.
type Controller struct {
	repository    *repository.Repository
	engines       Engines
	now           func() time.Time
	intentTimeout time.Duration
	grace         time.Duration
	locks         locks
	left          chan struct{} // holds one word, when a call may have left work

	volumes   kind[repository.Volume]
	snapshots kind[repository.Snapshot]
	groups    kind[repository.Group]
}

var _ Service = (*Controller)(nil)

// New returns a controller. Nothing runs until Run is called.
func New(o Options) (*Controller, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.IntentTimeout == 0 {
		o.IntentTimeout = 5 * time.Minute
	}
	if o.Grace == 0 {
		o.Grace = 24 * time.Hour
	}
	c := &Controller{
		repository:    o.Repository,
		engines:       o.Engines,
		now:           func() time.Time { return o.Now().UTC().Round(0) },
		intentTimeout: o.IntentTimeout,
		grace:         o.Grace,
		left:          make(chan struct{}, 1),
	}
	c.volumes = c.volumeKind()
	c.snapshots = c.snapshotKind()
	c.groups = c.groupKind()
	return c, nil
}

// errRetired marks what cannot be done because the operator retired a node.
var errRetired = errors.New("retired")

// engine returns a backend of a node. Precondition (errRetired) if the operator
// retired it; Transient if there is no record of it.
func (c *Controller) engine(ctx context.Context, id volume.NodeID, name string) (backend.Backend, error) {
	node, err := c.node(ctx, id)
	if err != nil {
		return nil, err
	}
	if node.Retired {
		return nil, fault.New(fault.Precondition, "node %q was %w by the operator: start its engine again to bring it back", id, errRetired)
	}
	b, err := c.engines.Backend(node, name)
	return b, fault.Wrap(err, "reach the engine of node", string(id))
}

func (c *Controller) node(ctx context.Context, id volume.NodeID) (repository.Node, error) {
	node, err := c.repository.Nodes.Latest(ctx, string(id))
	if fault.Is(err, fault.NotFound) {
		return repository.Node{}, fault.New(fault.Transient, "node %q: the repository has no record of it: want its engine to announce itself", id)
	}
	return node.Value, err
}

// erase removes the volume or snapshot that a tombstone names, or, if the only node
// that has it is retired, leaves the tombstone for it. A backend remembers what it
// erased, so nothing delayed can make it again.
func (c *Controller) erase(ctx context.Context, w where, t repository.Tombstone) error {
	if volume.Shared(w.backend) {
		node, b, err := c.reach(ctx, w)
		if err == nil {
			err = erase(ctx, b, t)
		}
		return fault.Wrap(err, "node", string(node))
	}
	node, err := c.node(ctx, w.node)
	if err != nil {
		return err
	}
	if !node.Retired {
		return c.eraseAt(ctx, node, w.backend, t)
	}
	t.Node = w.node
	t.Created = c.now()
	if err := c.repository.Bury(ctx, t); err != nil {
		return err
	}
	crashpoint.Here("controller: tombstone written")
	// A node that came back just before the tombstone did not see it.
	if node, err = c.node(ctx, w.node); err != nil || node.Retired {
		return err
	}
	if err := c.eraseAt(ctx, node, w.backend, t); err != nil {
		return err
	}
	return c.repository.Exhume(ctx, t)
}

func (c *Controller) eraseAt(ctx context.Context, node repository.Node, backendName string, t repository.Tombstone) error {
	b, err := c.engines.Backend(node, backendName)
	if err == nil {
		err = erase(ctx, b, t)
	}
	return fault.Wrap(err, "node", string(node.ID))
}

func erase(ctx context.Context, b backend.Backend, t repository.Tombstone) error {
	if t.Snapshot != "" {
		return b.DeleteSnapshot(ctx, t.Snapshot)
	}
	return b.DeleteVolume(ctx, t.Volume)
}

// mayRun reports whether the work behind an error may still be under way, or
// may be begun by a delayed message.
func mayRun(err error) bool {
	switch fault.KindOf(err) {
	case fault.Transient, fault.Busy, fault.Canceled, fault.Deadline:
		return true
	}
	return false
}
