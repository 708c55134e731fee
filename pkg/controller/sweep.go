package controller

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
)

const (
	// sweepSoon is how long after its start Run sweeps, after a call that may have
	// left work, and after a sweep that left some: retries, which come first, are
	// not turned away by a sweep. From there the time doubles, up to sweepLate.
	sweepSoon = 30 * time.Second
	sweepLate = time.Hour
	// sweepIdle is the time between two sweeps when no work is known, up to a
	// tenth longer: what processes left that never came back is found by these.
	sweepIdle = 6 * time.Hour
)

// Run sweeps soon, and then whenever there is a reason, until ctx ends. Any
// number of controllers may do so at the same time.
func (c *Controller) Run(ctx context.Context) {
	for wait := time.Duration(0); sleep(ctx, max(wait, sweepSoon)); {
		select {
		case <-c.left: // until now: this sweep sees it
		default:
		}
		var r round
		if err := c.sweep(ctx, &r); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Error(err, "Sweep left work for the next one")
			r.waiting = true
		}
		if r.waiting {
			wait = min(max(2*wait, sweepSoon), sweepLate)
		} else if wait = 0; !c.idle(ctx) {
			return
		}
	}
}

// idle waits while no work is known, and reports whether ctx goes on.
func (c *Controller) idle(ctx context.Context) bool {
	timer := time.NewTimer(sweepIdle - sweepSoon + rand.N(sweepIdle/10))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.left:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}

// noted has Run look soon after a call that ended with an error which may have
// left work behind: any but a refusal, which is given only when nothing is left
// or when the caller is to come again. It returns the error.
func (c *Controller) noted(err error) error {
	switch fault.KindOf(err) {
	case fault.Invalid, fault.NotFound, fault.Exists, fault.InUse, fault.Precondition, fault.OutOfRange, fault.Exhausted, fault.Unsupported:
		return err
	}
	if err != nil {
		select {
		case c.left <- struct{}{}:
		default: // it is said already
		}
	}
	return err
}

// Sweep finishes or undoes what was left: deletions, creations that nobody
// repeats any more, tombstones of nodes that are back; and removes what ended
// longer ago than the grace period. It goes on after an error, and returns all
// of them.
func (c *Controller) Sweep(ctx context.Context) error { return c.sweep(ctx, &round{}) }

// round is one sweep.
type round struct {
	waiting bool // for a creation to be repeated, or to become old enough to be undone
}

func (c *Controller) sweep(ctx context.Context, r *round) error {
	return errors.Join(
		sweep(ctx, c, r, c.groups),
		sweep(ctx, c, r, c.snapshots),
		sweep(ctx, c, r, c.volumes),
		c.sweepTombstones(ctx),
	)
}

func logUnreachable(ctx context.Context, p probe) {
	klog.FromContext(ctx).Info("Node counts without capacity: it does not answer", "node", p.node, "err", p.err)
}

func sweep[R any](ctx context.Context, c *Controller, r *round, k kind[R]) error {
	return errors.Join(sweepNames(ctx, c, r, k), sweepRecords(ctx, c, k))
}

// sweepNames settles the intents of one kind and removes the names that ended.
func sweepNames[R any](ctx context.Context, c *Controller, r *round, k kind[R]) error {
	var left []error
	err := each(ctx, k.names, func(n repository.Name) error {
		age := c.now().Sub(n.Created)
		if n.Ended && age < c.grace {
			return nil
		}
		release, err := c.lock(k.what+" name", n.Name, "the sweep")
		if err != nil {
			return nil // somebody is at work on it
		}
		defer release()
		if n.Ended {
			err = removed(k.names.Remove(ctx, n.Name))
		} else {
			err = k.settle(ctx, r, n, age >= c.intentTimeout)
		}
		left = append(left, fault.Wrap(err, "sweep "+k.what+" name", n.Name))
		return ctx.Err()
	})
	return errors.Join(append(left, err)...)
}

// settle finishes an undo that was left, and undoes a creation that is stale.
// Corrupt if it was completed and its record is missing.
func (k kind[R]) settle(ctx context.Context, r *round, n repository.Name, stale bool) error {
	record, err := k.records.Latest(ctx, n.ID)
	switch {
	case fault.Is(err, fault.NotFound) && n.Completed:
		return k.missing(n)
	case fault.Is(err, fault.NotFound) && stale:
		_, _, err := k.abandon(ctx, n)
		return err
	case fault.Is(err, fault.NotFound):
		r.waiting = true
		return nil
	case err == nil && k.facts(record.Value).state == repository.Ended:
		return k.finishUndo(ctx, n)
	}
	return err
}

// sweepRecords finishes the deletions of one kind and removes the records that
// ended.
func sweepRecords[R any](ctx context.Context, c *Controller, k kind[R]) error {
	var left []error
	err := each(ctx, k.records, func(record R) error {
		f := k.facts(record)
		if f.state == repository.Ready || f.state == repository.Ended && c.now().Sub(f.changed) < c.grace {
			return nil
		}
		release, err := c.lock(k.what, f.id, "the sweep")
		if err != nil {
			return nil // somebody is at work on it
		}
		defer release()
		if f.state == repository.Deleting {
			err = k.finishDelete(ctx, record)
		} else {
			err = k.remove(ctx, f)
		}
		left = append(left, fault.Wrap(err, "sweep "+k.what, f.id))
		return ctx.Err()
	})
	return errors.Join(append(left, err)...)
}

// remove removes an Ended record, unless its name still stands for it: then its
// undo is not finished, and the record must go on saying so.
func (k kind[R]) remove(ctx context.Context, f facts) error {
	if f.name != "" {
		name, err := k.names.Latest(ctx, f.name)
		if err != nil && !fault.Is(err, fault.NotFound) {
			return err
		}
		if err == nil && name.Value.ID == f.id && !name.Value.Ended {
			return nil
		}
	}
	return removed(k.records.Remove(ctx, f.id))
}

// removed passes over a removal that lost against a writer: the next sweep looks
// again.
func removed(err error) error {
	if fault.Is(err, fault.Busy) || fault.Is(err, fault.Precondition) {
		return nil
	}
	return err
}

// sweepTombstones executes those that were left for nodes that are back. A
// tombstone can be written just when its node returns, behind its back.
func (c *Controller) sweepTombstones(ctx context.Context) error {
	var left []error
	err := each(ctx, c.repository.Nodes, func(n repository.Node) error {
		if n.Retired {
			return nil
		}
		buried, err := c.repository.Buried(ctx, n.ID)
		if err != nil {
			left = append(left, err)
		}
		for _, t := range buried {
			if err := c.execute(ctx, n, t); err != nil {
				left = append(left, fmt.Errorf("tombstone on node %q: %w", n.ID, err))
			}
		}
		return ctx.Err()
	})
	return errors.Join(append(left, err)...)
}

func (c *Controller) execute(ctx context.Context, n repository.Node, t repository.Tombstone) error {
	pinned := own(n.Backends)
	if len(pinned) == 0 {
		return nil
	}
	for _, name := range pinned {
		if err := c.eraseAt(ctx, n, name, t); err != nil {
			return err
		}
	}
	return c.repository.Exhume(ctx, t)
}
