package garbage

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
)

// Collector collects one log. One method at a time. Kept between collections it
// spares reading the same checkpoints again.
type Collector struct {
	Log    epoch.Log
	Claims claim.Claims
	// Grace is how old a checkpoint is before what it no longer needs goes: longer
	// than any request, and any reader without a claim, lasts.
	Grace time.Duration
	Now   func() time.Time
	// Deleting, if not nil, hears of what is deleted, right before it is. An error
	// stops the collection.
	Deleting func(keys []string) error

	known map[vlog.Position]summary
}

// summary is what is remembered of a checkpoint.
type summary struct {
	time time.Time
	base *checkpoint.Base
}

// maxBatch bounds the keys of a request, and what goes between two looks.
const maxBatch = 1000

func (c *Collector) keys() vlog.Keys { return vlog.Keys{Log: c.Log.ID} }

func (c *Collector) reader() checkpoint.Reader {
	return checkpoint.Reader{Store: c.Log.Store, Log: c.Log.ID}
}

// AsWriter collects for the writer of a log, as of a checkpoint of its own epoch.
// table is the position of the last one that it knows to be published: whose pages
// its table names. Fenced if a later epoch is claimed; what is deleted by then
// could be. Any error leaves what was not deleted for the next time.
func (c *Collector) AsWriter(ctx context.Context, r *epoch.Reign, table vlog.Position) (Plan, error) {
	p, err := c.plan(ctx, scope{asOf: func(p vlog.Position) bool { return p.Epoch == r.Epoch && p.Compare(table) <= 0 }})
	if err == nil {
		err = c.carryOut(ctx, p, r.Latest)
	}
	return p, fault.Wrap(err, "collect", c.Log.ID.String())
}

// AloneOptions say who collects a log that has no writer.
type AloneOptions struct {
	Owner string // at most 63 bytes
	// WriterGone says that whoever claimed the newest epoch, if it is not closed,
	// writes no more: he is fenced. InUse for such a log otherwise.
	WriterGone bool
}

// Alone collects a log without a writer. If there is something to delete it claims
// an epoch, and closes it behind itself. Precondition if an epoch has promises
// left to keep (see package epoch), unless the whole log was let go (see
// claim.LetGo): then all of it goes but what its snapshots need. InUse if it may
// have a writer; Busy and Fenced if others open it meanwhile.
func (c *Collector) Alone(ctx context.Context, o AloneOptions) (Plan, error) {
	p, err := c.alone(ctx, o)
	return p, fault.Wrap(err, "collect", c.Log.ID.String())
}

func (c *Collector) alone(ctx context.Context, o AloneOptions) (Plan, error) {
	in, err := c.scope(ctx)
	if err != nil {
		return Plan{}, err
	}
	decide := func(_ context.Context, s epoch.Survey) error { return c.decide(s, o, in.ended) }
	if !in.ended {
		if err := decide(ctx, epoch.Survey{Runs: in.runs, Unsettled: in.unsettled}); err != nil {
			return Plan{}, err
		}
	}
	p, err := c.plan(ctx, in)
	if err != nil || p.Empty() {
		return p, err
	}
	if in.ended && in.newest.Purpose != epoch.Writing {
		// Its last writer is fenced, and there may be nothing left to open.
		return p, c.carryOut(ctx, p, func(ctx context.Context) error { return c.Log.Latest(ctx, in.newest) })
	}
	r, opening, err := c.Log.Open(ctx, epoch.OpenOptions{Owner: o.Owner, Purpose: epoch.Collecting, Promise: epoch.NoPromise, Start: c.start, Decide: decide, Now: c.Now})
	if err != nil {
		return Plan{}, err
	}
	in.runs, in.newest = opening.Runs, r.Claim
	p, err = c.plan(ctx, in) // what was found before the claim counts for nothing
	if err == nil {
		err = c.carryOut(ctx, p, r.Latest)
	}
	if err == nil {
		err = r.Close(ctx, opening.Head)
	}
	return p, err
}

// scope finds by what a collection alone decides.
func (c *Collector) scope(ctx context.Context) (scope, error) {
	in := scope{asOf: func(vlog.Position) bool { return true }}
	ended, err := c.ended(ctx)
	if err != nil {
		return in, err
	}
	if in.ended = ended; ended {
		in.newest, err = c.Log.Newest(ctx)
		if fault.Is(err, fault.NotFound) {
			err = nil
		}
		return in, err
	}
	start, err := c.start(ctx)
	if err != nil {
		return in, err
	}
	s, err := c.Log.Survey(ctx, start)
	in.runs, in.unsettled = s.Runs, s.Unsettled
	return in, err
}

func (c *Collector) decide(s epoch.Survey, o AloneOptions, ended bool) error {
	if len(s.Unsettled) > 0 && !ended {
		return fault.New(fault.Precondition, "%s may have promises left to keep: want it opened and closed, or given up, by its owner", s.Unsettled[0])
	}
	if n := len(s.Runs); n > 0 && s.Runs[n-1].Marker == nil && s.Runs[n-1].Purpose == epoch.Writing && !o.WriterGone {
		return fault.New(fault.InUse, "%s is not closed: want its writer to collect, or to be gone", s.Runs[n-1].Claim)
	}
	return nil
}

// start is where a walk through the log begins.
func (c *Collector) start(ctx context.Context) (epoch.Start, error) {
	read, err := c.reader().Newest(ctx)
	if fault.Is(err, fault.NotFound) {
		base, err := c.Log.Base(ctx)
		return base.Start(), err
	}
	if err != nil {
		return epoch.Start{}, err
	}
	return epoch.Start{Head: read.Head(), Settled: read.Settled}, nil
}

// ended reports whether the whole log was let go.
func (c *Collector) ended(ctx context.Context) (bool, error) {
	err := c.Claims.LetGo(ctx, claim.Subject(c.Log.ID.String()))
	if fault.Is(err, fault.Precondition) || fault.Is(err, fault.InUse) {
		return false, nil
	}
	return err == nil, err
}

// carryOut deletes what a plan says: what checkpoints list before the checkpoints,
// so that a crash leaves what is needed to find it again. look is asked before
// each batch.
func (c *Collector) carryOut(ctx context.Context, p Plan, look func(context.Context) error) error {
	groups := [][]string{p.Objects, p.Adding, p.Checkpoints}
	for _, key := range p.newest {
		groups = append(groups, []string{key})
	}
	for _, keys := range groups {
		for len(keys) > 0 {
			batch := keys[:min(len(keys), maxBatch)]
			keys = keys[len(batch):]
			if err := look(ctx); err != nil {
				return err
			}
			if c.Deleting != nil {
				if err := c.Deleting(batch); err != nil {
					return err
				}
			}
			if err := c.Log.Store.Delete(ctx, batch...); err != nil {
				return fault.Wrap(err, "delete", batch[0])
			}
		}
	}
	return c.remember(ctx, p)
}

func list(ctx context.Context, store objstore.Store, prefix, after string, do func(o objstore.Object) error) error {
	o := objstore.ListOptions{Prefix: prefix, After: after}
	for {
		page, err := store.List(ctx, o)
		if err != nil {
			return fault.Wrap(err, "list", prefix)
		}
		for _, object := range page.Objects {
			if err := do(object); err != nil {
				return err
			}
		}
		if page.Next == "" {
			return nil
		}
		o.After = page.Next
	}
}

// Newest is nil if the newest checkpoint of a log is at a position, and NotFound
// otherwise: what a claim on the log from there looks for.
func Newest(ctx context.Context, store objstore.Store, log vlog.LogID, at vlog.Position) error {
	k := vlog.Keys{Log: log}
	newest := ""
	err := list(ctx, store, k.Folder(vlog.CheckpointKind), "", func(o objstore.Object) error {
		newest = o.Key
		return nil
	})
	if err == nil && newest != k.Checkpoint(at) {
		err = fault.New(fault.NotFound, "%s: the newest checkpoint is %q: want a claim from there", k.Checkpoint(at), newest)
	}
	return err
}
