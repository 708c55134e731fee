package epoch

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
)

// OpenOptions says who opens, and what it looks at meanwhile.
type OpenOptions struct {
	Owner   string // a node's id, at most 63 bytes
	Purpose Purpose
	Promise Promise
	// Start reads the newest checkpoint. It is called before the claim, to
	// survey, and again after it.
	Start func(ctx context.Context) (Start, error)
	// Decide says whether to go on: an error ends the opening before anything was
	// touched. It is called anew after each lost claim.
	Decide func(ctx context.Context, s Survey) error
	// Recheck, if not nil, is called once the claim exists and before older epochs
	// are closed: whether the volume is still to be opened. An error ends the
	// opening; the claim stays.
	Recheck func(ctx context.Context) error
	Now     func() time.Time
}

func (o OpenOptions) validate() error {
	if len(o.Owner) == 0 || len(o.Owner) > maxOwner || o.Purpose < Writing || o.Purpose > Ending || o.Promise > ObjectPromise ||
		o.Start == nil || o.Decide == nil || o.Now == nil {
		return fault.New(fault.Internal, "open: owner %q, purpose %d, promise %d: want an owner of 1 to %d bytes, a purpose, a promise, and Start, Decide and Now", o.Owner, o.Purpose, o.Promise, maxOwner)
	}
	return nil
}

// Opening is what an opener found.
type Opening struct {
	Start Start
	Runs  []Run // every older epoch from Start on, closed
	// Head is where the new epoch begins.
	Head vlog.Head
	// Settled is what start and the runs say is settled. The epoch's checkpoints
	// must state at least this, since those who begin behind them no longer see
	// the closes that say so; a collector that forgot it would make two nodes wait
	// for each other. Once all older promises are kept or given up they state the
	// epoch before.
	Settled vlog.Epoch
}

const maxTries = 16

// Open claims the next epoch and closes the older ones. Fenced if a later claim
// appeared meanwhile; Busy if other openers won every time. The claim of an
// opening that failed stays, harmless: it has no segments.
func (l Log) Open(ctx context.Context, o OpenOptions) (*Reign, Opening, error) {
	if err := o.validate(); err != nil {
		return nil, Opening{}, err
	}
	c, err := l.win(ctx, o)
	if err != nil {
		return nil, Opening{}, fault.Wrap(err, "open log", l.ID.String())
	}
	opening, err := l.take(ctx, o, c)
	if err != nil {
		// A successor deletes what it no longer needs, which looks like damage to one
		// that it has overtaken.
		if e := l.Latest(ctx, c); fault.Is(e, fault.Fenced) {
			err = e
		}
		return nil, Opening{}, fault.Wrap(err, "open log", l.ID.String())
	}
	return newReign(l, c, o.Now), opening, nil
}

// win surveys, decides and claims until it has an epoch.
func (l Log) win(ctx context.Context, o OpenOptions) (Claim, error) {
	for range maxTries {
		start, err := o.Start(ctx)
		if err != nil {
			return Claim{}, err
		}
		s, err := l.Survey(ctx, start)
		if err != nil {
			return Claim{}, err
		}
		if err := o.Decide(ctx, s); err != nil {
			return Claim{}, err
		}
		c := Claim{
			Reign:   frame.Reign{Log: l.ID, Epoch: s.Last + 1, Nonce: vlog.NewNonce()},
			Purpose: o.Purpose, Promise: o.Promise, Owner: o.Owner, Time: o.Now().UTC(),
		}
		if won, err := l.create(ctx, c); won || err != nil {
			return c, err
		}
	}
	return Claim{}, fault.New(fault.Busy, "others claimed an epoch %d times in a row: try again", maxTries)
}

// create creates a claim and reports whether it won. A claim of somebody else's
// in its place is no error.
func (l Log) create(ctx context.Context, c Claim) (bool, error) {
	key := l.keys().Epoch(c.Epoch)
	err := l.Store.Create(ctx, key, c.encode())
	if !fault.Is(err, fault.Exists) {
		return err == nil, fault.Wrap(err, "claim", key)
	}
	there, err := l.claim(ctx, c.Epoch)
	return there.Nonce == c.Nonce, err
}

// take does what follows the claim.
func (l Log) take(ctx context.Context, o OpenOptions, c Claim) (Opening, error) {
	if o.Recheck != nil {
		if err := o.Recheck(ctx); err != nil {
			return Opening{}, err
		}
	}
	start, err := o.Start(ctx)
	if err != nil {
		return Opening{}, err
	}
	switch {
	case start.Epoch > c.Epoch:
		return Opening{}, fault.New(fault.Fenced, "%s is over: there is a checkpoint of epoch %d", c, start.Epoch)
	case start.Epoch == c.Epoch:
		return Opening{}, fault.New(fault.Corrupt, "%s: there is a checkpoint at %s: want none before it is open", c, start.Position)
	}
	claims, err := l.claims(ctx, max(start.Epoch, 1)-1)
	if err != nil {
		return Opening{}, err
	}
	older := 0
	for older < len(claims) && claims[older].Epoch < c.Epoch {
		older++
	}
	if older == len(claims) || claims[older].Nonce != c.Nonce {
		return Opening{}, fault.New(fault.Corrupt, "%s: its claim is gone: want it to stay for ever", c)
	}
	runs, err := l.walk(claims[:older], start, func(of Claim, from vlog.Head) (Run, error) {
		return l.Close(ctx, of, from, c, o.Now())
	})
	if err != nil {
		return Opening{}, err
	}
	head := start.Head
	if len(runs) > 0 {
		head = runs[len(runs)-1].Head
	}
	opening := Opening{Start: start, Runs: runs, Settled: settledBy(start, runs), Head: vlog.Head{Position: vlog.Position{Epoch: c.Epoch}, Chain: head.Chain.Begin(l.ID, c.Epoch, c.Nonce)}}
	return opening, l.Latest(ctx, c)
}

// Latest is nil if no epoch later than c's is claimed, and Fenced, naming the
// successor, if one is.
func (l Log) Latest(ctx context.Context, c Claim) error {
	later, err := l.claim(ctx, c.Epoch+1)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil
	case err != nil:
		return err
	}
	return fault.New(fault.Fenced, "%s is over: %s follows", c, later)
}

// ahead is how far in front of a run the first marker is put that a writer
// cannot pass; more than a writer has uploads under way.
const ahead = 64

// Close closes the epoch of a claim for the epoch by, a later one, and returns
// its run behind from. It is the same for all who close, whenever.
func (l Log) Close(ctx context.Context, of Claim, from vlog.Head, by Claim, now time.Time) (Run, error) {
	m := Marker{Closed: of.Reign, By: by.Reign, Owner: by.Owner, Time: now.UTC()}
	var before []Found
	barrier, step := vlog.Sequence(0), vlog.Sequence(ahead)
	for {
		r, err := l.run(ctx, of, from)
		if err != nil {
			return Run{}, err
		}
		before = append(before, r.Segments...)
		r.Segments, from = before, r.Head
		if r.Marker != nil {
			return r, nil
		}
		m.Sequence, m.Chain = r.Head.Sequence+1, r.Head.Chain
		won, err := l.mark(ctx, m)
		if err != nil {
			return Run{}, err
		}
		if won {
			r.Marker = &m
			return r, nil
		}
		if barrier <= r.Head.Sequence {
			barrier, step = r.Head.Sequence+step, 2*step
			m.Sequence, m.Chain = barrier, vlog.Chain{}
			if _, err := l.mark(ctx, m); err != nil { // if the writer was there already, the next one is further
				return Run{}, err
			}
		}
	}
}

// mark creates a marker and reports whether it is in its slot.
func (l Log) mark(ctx context.Context, m Marker) (bool, error) {
	key := l.keys().Segment(m.Position())
	err := l.Store.Create(ctx, key, m.encode())
	if fault.Is(err, fault.Exists) {
		return false, nil
	}
	return err == nil, fault.Wrap(err, "close", key)
}
