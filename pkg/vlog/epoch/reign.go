package epoch

import (
	"bytes"
	"context"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// Reign is the writer's side of an epoch. All methods may be called at once.
type Reign struct {
	Claim
	log Log
	now func() time.Time

	mu struct {
		sync.Mutex
		begun   vlog.Sequence          // the highest slot that was put
		counted vlog.Sequence          // the last slot of the run
		stored  map[vlog.Sequence]bool // slots beyond it
		over    error                  // why nothing may be stored any more
	}
}

func newReign(l Log, c Claim, now func() time.Time) *Reign {
	r := &Reign{Claim: c, log: l, now: now}
	r.mu.stored = map[vlog.Sequence]bool{}
	return r
}

// Put stores the object of a segment in its slot, and returns nil once it is
// durable there, stored by this call or an earlier one. Several slots may be
// under way at once, at most ahead of them beyond what counts, since a closer
// relies on it: Internal otherwise. After an error that leaves the outcome
// unknown the same bytes must be put again. Fenced, from then on for every slot,
// if the epoch was closed; Corrupt if the slot holds something foreign.
func (r *Reign) Put(ctx context.Context, s vlog.Sequence, object []byte) error {
	if err := r.begin(s, len(object)); err != nil {
		return err
	}
	key := r.log.keys().Segment(vlog.Position{Epoch: r.Epoch, Sequence: s})
	err := r.log.Store.Create(ctx, key, object)
	if fault.Is(err, fault.Exists) {
		if err = r.compare(ctx, key, s, object); fault.Is(err, fault.Corrupt) {
			err = r.compare(ctx, key, s, object) // it may be the reply that was spoiled
		}
	}
	return r.settle(s, fault.Wrap(err, "store", key))
}

func (r *Reign) begin(s vlog.Sequence, bytes int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.mu.over != nil:
		return r.mu.over
	case s < 1 || s > vlog.MaxSequence || s >= r.mu.counted+ahead && s > r.mu.counted:
		return fault.New(fault.Internal, "put slot %d: want it within %d of slot %d", s, ahead, r.mu.counted)
	case bytes < segment.MinBytes:
		return fault.New(fault.Internal, "put slot %d: %d bytes: want a segment, %d or more", s, bytes, segment.MinBytes)
	}
	r.mu.begun = max(r.mu.begun, s)
	return nil
}

// compare finds out what is in a slot that was to hold object.
func (r *Reign) compare(ctx context.Context, key string, s vlog.Sequence, object []byte) error {
	head, err := r.log.Store.GetRange(ctx, key, 0, MaxMarkerBytes)
	if err != nil {
		return err
	}
	if m, err := decodeMarker(head, r.Claim.Reign, s); err == nil {
		return fault.New(fault.Fenced, "%s is over: %q closed it in epoch %d", r.Claim, m.Owner, m.By.Epoch)
	}
	if bytes.Equal(head, object[:min(len(head), len(object))]) {
		// The same head is of this reign and slot. Its foot has the digest of it all.
		at := int64(len(object) - segment.MinBytes)
		foot, err := r.log.Store.GetRange(ctx, key, at, segment.MinBytes+1)
		if err != nil && !fault.Is(err, fault.OutOfRange) {
			return err
		}
		if bytes.Equal(foot, object[at:]) {
			return nil
		}
	}
	return fault.New(fault.Corrupt, "slot holds another object (it begins with %.16q): want this writer's segment or a marker", head)
}

func (r *Reign) settle(s vlog.Sequence, err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case fault.Is(err, fault.Fenced), fault.Is(err, fault.Corrupt):
		r.mu.over = err
	case err == nil && s > r.mu.counted:
		r.mu.stored[s] = true
		for r.mu.stored[r.mu.counted+1] {
			r.mu.counted++
			delete(r.mu.stored, r.mu.counted)
		}
	}
	return err
}

// Counted returns the position up to which segments count: they are promised,
// their part of the journal may be recycled, and checkpoints may name them.
func (r *Reign) Counted() vlog.Position {
	r.mu.Lock()
	defer r.mu.Unlock()
	return vlog.Position{Epoch: r.Epoch, Sequence: r.mu.counted}
}

// Latest is nil if no later epoch is claimed. It is asked after a checkpoint is
// published and before what that no longer needs is deleted, and where a promise
// runs on a lease. Fenced names the successor; nothing is stored from then on.
func (r *Reign) Latest(ctx context.Context) error {
	return r.settle(0, r.log.Latest(ctx, r.Claim))
}

// Close closes the epoch cleanly: everything that was ever acknowledged is in the
// segments up to head, which is the last one's. Nothing may be stored from then
// on. It may be called again after an error that leaves the outcome unknown.
func (r *Reign) Close(ctx context.Context, head vlog.Head) error {
	r.mu.Lock()
	over, counted, begun := r.mu.over, r.mu.counted, r.mu.begun
	r.mu.Unlock()
	if over != nil {
		return over
	}
	if head.Position != (vlog.Position{Epoch: r.Epoch, Sequence: counted}) || begun > counted {
		return fault.New(fault.Internal, "close %s at %s: slot %d counts, slot %d was begun: want the head of what counts and nothing beyond", r.Claim, head.Position, counted, begun)
	}
	m := Marker{Closed: r.Claim.Reign, By: r.Claim.Reign, Owner: r.Owner, Sequence: counted + 1, Clean: true, Chain: head.Chain, Time: r.now().UTC()}
	won, err := r.log.mark(ctx, m)
	if err == nil && !won {
		there, e := r.log.marker(ctx, r.Claim.Reign, m.Sequence)
		switch {
		case e != nil:
			err = e
		case !there.Clean:
			err = fault.New(fault.Fenced, "%s is over: %q closed it in epoch %d", r.Claim, there.Owner, there.By.Epoch)
		}
	}
	if r.settle(0, err) == nil {
		r.mu.Lock()
		r.mu.over = fault.New(fault.Internal, "%s is closed", r.Claim)
		r.mu.Unlock()
	}
	return err
}
