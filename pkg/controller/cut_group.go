package controller

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// undoTimeout is how long an undo may take whose caller has gone.
const undoTimeout = 20 * time.Second

func detached(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), undoTimeout)
}

// paused is a backend of a node that holds some of a group's volumes.
type paused struct {
	node    volume.NodeID
	name    string
	backend backend.Backend
	volumes []volume.ID
}

// cutGroup cuts one snapshot of each volume at one moment of all writes. No cut
// begins before every engine has paused, and none counts unless every engine
// then confirms that its pause held until it was told to end it: at each moment
// between the last pause and the first resumption no volume was written to. A pause
// of a shared volume holds where it was asked for; so that nobody wrote elsewhere,
// its record must say afterwards what it said before.
func (c *Controller) cutGroup(ctx context.Context, n repository.Name, volumes []repository.Volume, r CreateGroupRequest) ([]backend.Snapshot, error) {
	engines, err := c.groupEngines(ctx, volumes)
	if err != nil {
		return nil, err
	}
	pause := backend.PauseID(n.ID) // of this attempt alone
	cuts, held, err := c.cutPaused(ctx, n, engines, pause, volumes, r)
	crashpoint.Here("controller: group members cut")
	// That its pause had lapsed says more than what became of a cut by then.
	if resumed := resume(ctx, engines, pause); held && resumed != nil && (err == nil || mayRun(err) || fault.Is(err, fault.Precondition)) {
		err = resumed
	}
	if err == nil {
		err = c.unmoved(ctx, volumes)
	}
	return cuts, err
}

// unmoved reports, as Transient, that a shared volume was published or otherwise
// changed while it was cut.
func (c *Controller) unmoved(ctx context.Context, volumes []repository.Volume) error {
	for _, v := range volumes {
		if !v.Class.Shared() {
			continue
		}
		now, err := c.Volume(ctx, v.ID)
		if err != nil {
			return err
		}
		if !slices.Equal(now.Publications, v.Publications) || !now.Changed.Equal(v.Changed) {
			return fault.New(fault.Transient, "volume %s was published or changed while it was cut: try again", v.ID)
		}
	}
	return nil
}

func (p paused) holds(v repository.Volume) bool { return p.node == v.Node && p.name == v.Class.Backend }

func (c *Controller) groupEngines(ctx context.Context, volumes []repository.Volume) (engines []paused, err error) {
	for _, v := range volumes {
		i := slices.IndexFunc(engines, func(p paused) bool { return p.holds(v) })
		if i < 0 {
			b, err := c.engine(ctx, v.Node, v.Class.Backend)
			if err != nil {
				return nil, err
			}
			i, engines = len(engines), append(engines, paused{node: v.Node, name: v.Class.Backend, backend: b})
		}
		engines[i].volumes = append(engines[i].volumes, v.ID)
	}
	return engines, nil
}

// cutPaused pauses all volumes and then cuts them all. held reports whether all
// were paused.
func (c *Controller) cutPaused(ctx context.Context, n repository.Name, engines []paused, pause backend.PauseID, volumes []repository.Volume, r CreateGroupRequest) (cuts []backend.Snapshot, held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, backend.PauseLimit)
	defer cancel()
	err = all(engines, func(_ int, p paused) error {
		return fault.Wrap(p.backend.Pause(ctx, pause, p.volumes), "pause volumes of node", string(p.node))
	})
	if err != nil {
		return nil, false, err
	}
	crashpoint.Here("controller: group paused")
	cuts = make([]backend.Snapshot, len(volumes))
	err = all(volumes, func(i int, v repository.Volume) error {
		e := slices.IndexFunc(engines, func(p paused) bool { return p.holds(v) })
		var err error
		cuts[i], err = engines[e].backend.CreateSnapshot(ctx, backend.CreateSnapshotRequest{
			ID: n.Request.Members[v.ID], Volume: v.ID, Consistency: r.Consistency, Pause: pause, Secrets: r.Secrets,
		})
		err = c.lost(err, v.Node, func() error { _, err := c.Volume(ctx, v.ID); return err })
		return fault.Wrap(err, "snapshot volume", string(v.ID))
	})
	return cuts, true, err
}

// resume ends a pause everywhere, whatever became of the caller. An engine whose
// pause had lapsed says Precondition, and trying again may help.
func resume(ctx context.Context, engines []paused, pause backend.PauseID) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), backend.PauseLimit)
	defer cancel()
	err := all(engines, func(_ int, p paused) error {
		return fault.Wrap(p.backend.Resume(ctx, pause), "resume volumes of node", string(p.node))
	})
	if fault.Is(err, fault.Precondition) {
		return fault.New(fault.Transient, "the pause lapsed before everything was cut: try again: %w", err)
	}
	return err
}

// release ends a pause that an attempt may have left, so that writers need not
// wait for it to lapse. The attempt can't take that for its own resumption: it
// was undone before.
func (c *Controller) release(ctx context.Context, n repository.Name) {
	held := map[where]bool{}
	for source, node := range n.MemberNodes {
		held[where{n.MemberBackend(source), node, true}] = true
	}
	for w := range held {
		_, b, err := c.reach(ctx, w)
		if err == nil {
			err = b.Resume(ctx, backend.PauseID(n.ID))
		}
		if err != nil {
			klog.FromContext(ctx).V(4).Info("Pause is left to lapse", "node", w.node, "groupSnapshot", n.ID, "err", err)
		}
	}
}

// all calls f for every item at once and waits. Of several errors it returns the
// first that is final, or else the first.
func all[T any](items []T, f func(int, T) error) error {
	errs := make([]error, len(items))
	var wg sync.WaitGroup
	for i, item := range items {
		wg.Go(func() { errs[i] = f(i, item) })
	}
	wg.Wait()
	errs = slices.DeleteFunc(errs, func(err error) bool { return err == nil })
	if len(errs) == 0 {
		return nil
	}
	if i := slices.IndexFunc(errs, func(err error) bool { return !mayRun(err) }); i >= 0 {
		return errs[i]
	}
	return errs[0]
}
