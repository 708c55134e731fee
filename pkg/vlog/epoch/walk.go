package epoch

import (
	"context"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// Log is a log in a store.
type Log struct {
	Store objstore.Store
	ID    vlog.LogID
}

func (l Log) keys() vlog.Keys { return vlog.Keys{Log: l.ID} }

// Start is where a walk through a log begins: what its newest checkpoint says,
// or, where there is none, its base.
type Start struct {
	// Head is the checkpoint's position and the chain there; for a base the
	// position is zero, and the chain the base's.
	vlog.Head
	// Settled says that epochs up to this one have no promises left to keep.
	Settled vlog.Epoch
}

// Found is a segment of a run.
type Found struct {
	segment.Identity
	SizeBytes int64
}

// Run is what of an epoch counts, behind where the walk began.
type Run struct {
	Claim
	Segments []Found
	// Head is the last segment's, or where the run began if it has none.
	Head vlog.Head
	// Marker ends the run; nil if the epoch is not closed, and the run may grow.
	Marker *Marker
}

// claim reads the claim of an epoch. NotFound if it is not claimed.
func (l Log) claim(ctx context.Context, n vlog.Epoch) (Claim, error) {
	key := l.keys().Epoch(n)
	b, err := l.Store.Get(ctx, key)
	if err != nil {
		return Claim{}, fault.Wrap(err, "read claim", key)
	}
	return decodeClaim(b, l.ID, n)
}

// claims reads the claims behind epoch after, which follow it without a gap.
func (l Log) claims(ctx context.Context, after vlog.Epoch) ([]Claim, error) {
	o := objstore.ListOptions{Prefix: l.keys().Epochs()}
	if after > 0 {
		o.After = l.keys().Epoch(after)
	}
	var claims []Claim
	for {
		page, err := l.Store.List(ctx, o)
		if err != nil {
			return nil, fault.Wrap(err, "list", o.Prefix)
		}
		for _, object := range page.Objects {
			n, err := l.keys().ParseEpoch(object.Key)
			if err != nil {
				return nil, err
			}
			if want := after + vlog.Epoch(len(claims)) + 1; n != want {
				return nil, fault.New(fault.Corrupt, "%s: want epoch %d first: a claim is missing", object.Key, want)
			}
			c, err := l.claim(ctx, n)
			if err != nil {
				if fault.Is(err, fault.NotFound) {
					err = fault.As(fault.Corrupt, err)
				}
				return nil, err
			}
			claims = append(claims, c)
		}
		if page.Next == "" {
			return claims, nil
		}
		o.After = page.Next
	}
}

// Newest returns the newest claim, without following the log. NotFound if there is
// none.
func (l Log) Newest(ctx context.Context) (Claim, error) {
	o := objstore.ListOptions{Prefix: l.keys().Epochs()}
	last := ""
	for {
		page, err := l.Store.List(ctx, o)
		if err != nil {
			return Claim{}, fault.Wrap(err, "list", o.Prefix)
		}
		if n := len(page.Objects); n > 0 {
			last = page.Objects[n-1].Key
		}
		if page.Next == "" {
			break
		}
		o.After = page.Next
	}
	if last == "" {
		return Claim{}, fault.New(fault.NotFound, "%s: no claim", o.Prefix)
	}
	n, err := l.keys().ParseEpoch(last)
	if err != nil {
		return Claim{}, err
	}
	return l.claim(ctx, n)
}

// run follows an epoch's segments behind head, which is in the epoch.
func (l Log) run(ctx context.Context, c Claim, head vlog.Head) (Run, error) {
	r := Run{Claim: c, Head: head}
	o := objstore.ListOptions{Prefix: l.keys().OfEpoch(vlog.SegmentKind, c.Epoch), After: l.keys().Segment(head.Position)}
	for next := head.Position.Next(); ; {
		page, err := l.Store.List(ctx, o)
		if err != nil {
			return Run{}, fault.Wrap(err, "list", o.Prefix)
		}
		for _, object := range page.Objects {
			p, err := l.keys().ParseObject(vlog.SegmentKind, object.Key)
			if err != nil {
				return Run{}, err
			}
			if p != next {
				return l.ended(ctx, r)
			}
			if object.SizeBytes < segment.MinBytes {
				m, err := l.marker(ctx, c.Reign, p.Sequence)
				if err != nil {
					return Run{}, err
				}
				r.Marker = &m
				return l.ended(ctx, r)
			}
			r.Segments = append(r.Segments, Found{segment.Identity{Reign: c.Reign, Sequence: p.Sequence}, object.SizeBytes})
			next = p.Next()
		}
		if page.Next == "" {
			return l.ended(ctx, r)
		}
		o.After = page.Next
	}
}

// ended finds the chain at the end of a run, and compares it with the marker's.
func (l Log) ended(ctx context.Context, r Run) (Run, error) {
	if n := len(r.Segments); n > 0 {
		last := r.Segments[n-1]
		tail, err := segment.ReadTail(ctx, l.Store, last.Identity, last.SizeBytes, nil)
		if err != nil {
			if fault.Is(err, fault.NotFound) {
				err = fault.As(fault.Corrupt, err)
			}
			return Run{}, err
		}
		r.Head = vlog.Head{Position: last.Position(), Chain: tail.Chain}
	}
	if m := r.Marker; m != nil && m.Chain != (vlog.Chain{}) && m.Chain != r.Head.Chain {
		return Run{}, fault.New(fault.Corrupt, "%s: chain behind %s: got %s, want the marker's %s", l.keys().Segment(m.Position()), r.Head.Position, r.Head.Chain, m.Chain)
	}
	return r, nil
}

func (l Log) marker(ctx context.Context, r frame.Reign, s vlog.Sequence) (Marker, error) {
	key := l.keys().Segment(vlog.Position{Epoch: r.Epoch, Sequence: s})
	b, err := l.Store.Get(ctx, key)
	if err != nil {
		return Marker{}, fault.Wrap(err, "read marker", key)
	}
	return decodeMarker(b, r, s)
}

// walk follows the log from start through the epochs of claims, which begin
// behind start.Settled. do ends each run; the next epoch's chain begins at the
// head that it returns.
func (l Log) walk(claims []Claim, start Start, do func(c Claim, from vlog.Head) (Run, error)) ([]Run, error) {
	var runs []Run
	head := start.Head
	for _, c := range claims {
		if c.Epoch < head.Epoch {
			continue
		}
		if c.Epoch > head.Epoch {
			head = vlog.Head{Position: vlog.Position{Epoch: c.Epoch}, Chain: head.Chain.Begin(l.ID, c.Epoch, c.Nonce)}
		}
		r, err := do(c, head)
		if err != nil {
			return nil, err
		}
		runs = append(runs, r)
		head = r.Head
	}
	return runs, nil
}

// Survey is what a log's epochs look like to one that only reads.
type Survey struct {
	Last vlog.Epoch // the newest; 0 if there is none
	// Runs are the epochs from the checkpoint's on. That of one that is not
	// closed may have grown since.
	Runs []Run
	// Unsettled are the epochs that may have promises left to keep.
	Unsettled []Claim
}

// settledBy returns up to which epoch there are no promises left to keep, as far
// as start and the clean closes of writers tell.
func settledBy(start Start, runs []Run) vlog.Epoch {
	settled := start.Settled
	for _, r := range runs {
		if r.Marker != nil && r.Marker.Clean && r.Purpose == Writing {
			settled = max(settled, r.Epoch)
		}
	}
	return settled
}

// Survey reads the epochs from start on. It writes nothing. Corrupt if a claim
// or marker is damaged or missing.
func (l Log) Survey(ctx context.Context, start Start) (Survey, error) {
	claims, err := l.claims(ctx, min(start.Settled, max(start.Epoch, 1)-1))
	if err != nil {
		return Survey{}, err
	}
	runs, err := l.walk(claims, start, func(c Claim, from vlog.Head) (Run, error) { return l.run(ctx, c, from) })
	if err != nil {
		return Survey{}, err
	}
	s := Survey{Runs: runs}
	settled := settledBy(start, runs)
	for _, c := range claims {
		s.Last = c.Epoch
		if c.Epoch > settled && c.Purpose == Writing && c.Promise == JournalPromise {
			s.Unsettled = append(s.Unsettled, c)
		}
	}
	if s.Last < start.Epoch {
		return Survey{}, fault.New(fault.Corrupt, "%s: the newest claim is of epoch %d, the checkpoint of %d: want it at least", l.keys().Epochs(), s.Last, start.Epoch)
	}
	return s, nil
}
