package epoch

import (
	"context"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// hooked calls before every Create, and answers with what that returns if it is
// an error; after runs once the object is stored, and may lose the reply.
type hooked struct {
	objstore.Store
	before, after func(key string) error
}

func (h *hooked) Create(ctx context.Context, key string, body []byte) error {
	if h.before != nil {
		if err := h.before(key); err != nil {
			return err
		}
	}
	err := h.Store.Create(ctx, key, body)
	if err == nil && h.after != nil {
		return h.after(key)
	}
	return err
}

func fromBase(context.Context) (Start, error) { return Start{}, nil }

func options(owner string) OpenOptions {
	return OpenOptions{
		Owner: owner, Purpose: Writing, Promise: JournalPromise, Start: fromBase,
		Decide: func(context.Context, Survey) error { return nil },
		Now:    func() time.Time { return testTime },
	}
}

func newLog() Log { return Log{Store: memory.New(), ID: vlog.LogID{1}} }

// pen forms a reign's segments.
type pen struct {
	cipher *frame.Cipher
	chain  vlog.Chain
	next   vlog.Sequence
}

func newPen(t testing.TB, codec *frame.Codec, r frame.Reign, o Opening) *pen {
	c, err := codec.Cipher(vlog.SegmentKind, r, nil)
	must(t, err)
	return &pen{cipher: c, chain: o.Head.Chain, next: 1}
}

func (p *pen) segment(t testing.TB) segment.Finished {
	w, err := segment.NewWriter(p.cipher, segment.Info{Identity: segment.Identity{Sequence: p.next}, Blocks: 1 << 20, Previous: p.chain}, nil)
	must(t, err)
	must(t, w.Zero(segment.Zeros, vlog.Block(p.next), 1))
	f := w.Finish()
	p.chain, p.next = f.Chain, p.next+1
	return f
}

func newCodec(t testing.TB) *frame.Codec {
	c, err := frame.NewCodec(1)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

// TestSpoiledReplyIsAskedForAgain: one does not end a reign.
func TestSpoiledReplyIsAskedForAgain(t *testing.T) {
	l := Log{faults.New(memory.New(), faults.On(faults.GetRange, 1, faults.Fault{Flip: 1})), vlog.LogID{1}}
	r, o, err := l.Open(t.Context(), options("a"))
	must(t, err)
	one := newPen(t, newCodec(t), r.Claim.Reign, o).segment(t)
	must(t, r.Put(t.Context(), 1, one.Object))
	must(t, r.Put(t.Context(), 1, one.Object))
}

func TestOpenWriteClose(t *testing.T) {
	l, codec := newLog(), newCodec(t)
	if _, err := l.Newest(t.Context()); !fault.Is(err, fault.NotFound) {
		t.Errorf("newest claim of none: %v, want not found", err)
	}
	r, o, err := l.Open(t.Context(), options("a"))
	must(t, err)
	if r.Epoch != 1 || len(o.Runs) != 0 || o.Head != (vlog.Head{Position: vlog.Position{Epoch: 1}, Chain: vlog.Chain{}.Begin(l.ID, 1, r.Nonce)}) {
		t.Fatalf("%+v, %+v", r.Claim, o)
	}
	p := newPen(t, codec, r.Claim.Reign, o)
	one, two, three := p.segment(t), p.segment(t), p.segment(t)
	must(t, r.Put(t.Context(), 1, one.Object))
	must(t, r.Put(t.Context(), 3, three.Object))
	if got := r.Counted(); got != one.Position() {
		t.Errorf("slot 2 is missing, %s counts", got)
	}
	if err := r.Close(t.Context(), vlog.Head{Position: one.Position(), Chain: one.Chain}); !fault.Is(err, fault.Internal) {
		t.Errorf("closed with a slot beyond: %v, want internal", err)
	}
	must(t, r.Put(t.Context(), 2, two.Object))
	must(t, r.Put(t.Context(), 2, two.Object)) // again
	if got := r.Counted(); got != three.Position() {
		t.Errorf("all are stored, %s counts", got)
	}
	must(t, r.Close(t.Context(), vlog.Head{Position: three.Position(), Chain: three.Chain}))
	if err := r.Put(t.Context(), 4, one.Object); !fault.Is(err, fault.Internal) {
		t.Errorf("put behind the close: %v, want internal", err)
	}

	if c, err := l.Newest(t.Context()); err != nil || c != r.Claim {
		t.Errorf("newest claim %+v, %v, want %+v", c, err, r.Claim)
	}
	s, err := l.Survey(t.Context(), Start{})
	must(t, err)
	if s.Last != 1 || len(s.Unsettled) != 0 || len(s.Runs) != 1 || !s.Runs[0].Marker.Clean || s.Runs[0].Head.Position != three.Position() {
		t.Errorf("%+v", s)
	}
	r2, o, err := l.Open(t.Context(), options("b"))
	must(t, err)
	if r2.Epoch != 2 || len(o.Runs) != 1 || len(o.Runs[0].Segments) != 3 || o.Head.Chain != three.Chain.Begin(l.ID, 2, r2.Nonce) {
		t.Errorf("%+v, %+v", r2.Claim, o)
	}
	// From a checkpoint, only what is behind it.
	from := Start{Head: vlog.Head{Position: two.Position(), Chain: two.Chain}}
	s, err = l.Survey(t.Context(), from)
	must(t, err)
	if len(s.Runs) != 2 || len(s.Runs[0].Segments) != 1 || s.Runs[0].Segments[0].Sequence != 3 || s.Runs[1].Marker != nil {
		t.Errorf("%+v", s)
	}
}

// TestFenced: the old writer learns from its slot, and orphans beyond the marker
// never count.
func TestFenced(t *testing.T) {
	l, codec := newLog(), newCodec(t)
	old, o, err := l.Open(t.Context(), options("a"))
	must(t, err)
	p := newPen(t, codec, old.Claim.Reign, o)
	one, two, three := p.segment(t), p.segment(t), p.segment(t)
	must(t, old.Put(t.Context(), 1, one.Object))
	must(t, old.Put(t.Context(), 3, three.Object))
	_, o, err = l.Open(t.Context(), options("b"))
	must(t, err)
	if err := old.Put(t.Context(), 2, two.Object); !fault.Is(err, fault.Fenced) {
		t.Errorf("put of a fenced writer: %v, want fenced", err)
	}
	if err := old.Put(t.Context(), 9, two.Object); !fault.Is(err, fault.Fenced) {
		t.Errorf("another put of a fenced writer: %v, want fenced", err)
	}
	if err := old.Latest(t.Context()); !fault.Is(err, fault.Fenced) {
		t.Errorf("latest: %v, want fenced", err)
	}
	if err := old.Close(t.Context(), vlog.Head{Position: one.Position(), Chain: one.Chain}); !fault.Is(err, fault.Fenced) {
		t.Errorf("close of a fenced writer: %v, want fenced", err)
	}
	s, err := l.Survey(t.Context(), Start{})
	must(t, err)
	for _, runs := range [][]Run{o.Runs, s.Runs} {
		if r := runs[0]; r.Head.Position != one.Position() || len(r.Segments) != 1 || r.Marker.Sequence != 2 || r.Marker.Owner != "b" {
			t.Errorf("%+v", r)
		}
	}
	if len(s.Unsettled) != 2 || s.Unsettled[0].Owner != "a" {
		t.Errorf("unsettled: %+v", s.Unsettled)
	}
	if s, err = l.Survey(t.Context(), Start{Settled: 1}); err != nil || len(s.Unsettled) != 1 || s.Unsettled[0].Owner != "b" {
		t.Errorf("unsettled: %+v, %v", s.Unsettled, err)
	}
}

// TestLostReplies: each create is applied and its reply lost, once each.
func TestLostReplies(t *testing.T) {
	l, codec := newLog(), newCodec(t)
	lost := map[string]bool{}
	store := &hooked{Store: l.Store}
	store.after = func(key string) error {
		if !lost[key] {
			lost[key] = true
			return fault.New(fault.Transient, "lost")
		}
		return nil
	}
	l.Store = retried{store}
	for n := range vlog.Epoch(3) {
		r, o, err := l.Open(t.Context(), options("a"))
		must(t, err)
		if r.Epoch != n+1 {
			t.Fatalf("epoch %d, want %d: a claim was not recognised", r.Epoch, n+1)
		}
		p := newPen(t, codec, r.Claim.Reign, o)
		f := p.segment(t)
		must(t, r.Put(t.Context(), 1, f.Object))
		if n == 0 {
			must(t, r.Close(t.Context(), vlog.Head{Position: f.Position(), Chain: f.Chain}))
		}
	}
	if len(lost) < 7 {
		t.Errorf("only %d replies were lost", len(lost))
	}
}

// retried tries a create again, as the wrapper around real stores does.
type retried struct{ objstore.Store }

func (r retried) Create(ctx context.Context, key string, body []byte) error {
	err := r.Store.Create(ctx, key, body)
	if fault.Is(err, fault.Transient) {
		err = r.Store.Create(ctx, key, body)
	}
	return err
}

// TestLosingAClaimDecidesAgain.
func TestLosingAClaimDecidesAgain(t *testing.T) {
	l := newLog()
	store := &hooked{Store: l.Store}
	raced := false
	store.before = func(key string) error {
		if !raced {
			raced = true
			_, _, err := (Log{store.Store, l.ID}).Open(t.Context(), options("first"))
			must(t, err)
		}
		return nil
	}
	l.Store = store
	var seen []vlog.Epoch
	o := options("second")
	o.Decide = func(_ context.Context, s Survey) error {
		seen = append(seen, s.Last)
		if len(s.Unsettled) > 0 {
			return fault.New(fault.Precondition, "%s may have promises", s.Unsettled[0])
		}
		return nil
	}
	if _, _, err := l.Open(t.Context(), o); !fault.Is(err, fault.Precondition) || len(seen) != 2 || seen[1] != 1 {
		t.Errorf("decided on %v: %v, want a second refusal", seen, err)
	}
	if s, err := l.Survey(t.Context(), Start{}); err != nil || s.Last != 1 || s.Runs[0].Marker != nil {
		t.Errorf("a refused opener left something: %+v, %v", s, err)
	}
}

// TestOutrun: a writer that is always one ahead of the closer is stopped all the
// same, within its window.
func TestOutrun(t *testing.T) {
	l, codec := newLog(), newCodec(t)
	old, o, err := l.Open(t.Context(), options("a"))
	must(t, err)
	p := newPen(t, codec, old.Claim.Reign, o)
	store := &hooked{Store: l.Store}
	acked, over := vlog.Sequence(0), error(nil)
	store.before = func(key string) error {
		for range 3 { // the writer stores three segments before each step of the closer
			if over == nil {
				f := p.segment(t)
				if over = old.Put(t.Context(), f.Sequence, f.Object); over == nil {
					acked = f.Sequence
				}
			}
		}
		return nil
	}
	_, opening, err := Log{store, l.ID}.Open(t.Context(), options("b"))
	must(t, err)
	if f := p.segment(t); over == nil {
		over = old.Put(t.Context(), f.Sequence, f.Object)
	}
	if !fault.Is(over, fault.Fenced) {
		t.Errorf("the writer: %v, want fenced", over)
	}
	if r := opening.Runs[0]; r.Head.Sequence != acked || r.Marker == nil || acked > 2*ahead {
		t.Errorf("closed at %s, acknowledged up to %d", r.Head.Position, acked)
	}
}

// TestForeign: what is whole but does not belong in a slot is never counted nor
// overwritten.
func TestForeign(t *testing.T) {
	codec := newCodec(t)
	l := newLog()
	r, o, err := l.Open(t.Context(), options("a"))
	must(t, err)
	mine := newPen(t, codec, r.Claim.Reign, o).segment(t)
	twin := newPen(t, codec, r.Claim.Reign, Opening{Head: vlog.Head{Chain: vlog.Chain{1}}}).segment(t) // a copy of the machine, say
	must(t, l.Store.Create(t.Context(), mine.Key(), twin.Object))
	if err := r.Put(t.Context(), 1, mine.Object); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a twin's segment in the slot: %v, want corrupt", err)
	}
	l = newLog()
	r, _, err = l.Open(t.Context(), options("a"))
	must(t, err)
	key := vlog.Keys{Log: l.ID}.Segment(vlog.Position{Epoch: r.Epoch, Sequence: 1})
	must(t, l.Store.Create(t.Context(), key, mine.Object)) // of another claim
	for what, err := range map[string]error{
		"open":   third(l.Open(t.Context(), options("b"))),
		"survey": second(l.Survey(t.Context(), Start{})),
	} {
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s over a foreign segment: %v, want corrupt", what, err)
		}
	}
	for name, body := range map[string][]byte{"empty": {}, "noise": []byte("what?"), "another slot's marker": Marker{Closed: r.Claim.Reign, Sequence: 2}.encode()} {
		must(t, l.Store.Put(t.Context(), key, body))
		if err := second(l.Survey(t.Context(), Start{})); !fault.Is(err, fault.Corrupt) {
			t.Errorf("survey over %s: %v, want corrupt", name, err)
		}
	}
}

// TestMarkerKnowsItsHistory: a marker behind segments that are not those that it
// was put behind.
func TestMarkerKnowsItsHistory(t *testing.T) {
	l := newLog()
	r, opening, err := l.Open(t.Context(), options("a"))
	must(t, err)
	f := newPen(t, newCodec(t), r.Claim.Reign, opening).segment(t)
	must(t, r.Put(t.Context(), 1, f.Object))
	m := Marker{Closed: r.Claim.Reign, Sequence: 2, By: frame.Reign{Log: l.ID, Epoch: 2}, Chain: vlog.Chain{1}, Time: testTime}
	_, err = l.mark(t.Context(), m)
	must(t, err)
	if _, err := l.Survey(t.Context(), Start{}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("survey: %v, want corrupt", err)
	}
}

func third[A, B any](_ A, _ B, err error) error { return err }

// TestMissingClaimIsCorrupt: claims are for ever.
func TestMissingClaimIsCorrupt(t *testing.T) {
	l := newLog()
	for range 3 {
		must(t, third(l.Open(t.Context(), options("a"))))
	}
	must(t, l.Store.Delete(t.Context(), vlog.Keys{Log: l.ID}.Epoch(2)))
	if err := third(l.Open(t.Context(), options("a"))); !fault.Is(err, fault.Corrupt) {
		t.Errorf("open: %v, want corrupt", err)
	}
	if _, err := l.Survey(t.Context(), Start{Head: vlog.Head{Position: vlog.Position{Epoch: 9, Sequence: 1}}, Settled: 3}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("survey from a checkpoint without its epoch: %v, want corrupt", err)
	}
}

// TestSettling: a collector's clean close settles nothing, a writer's does.
func TestSettling(t *testing.T) {
	l := newLog()
	must(t, third(l.Open(t.Context(), options("a"))))
	for _, row := range []struct {
		purpose Purpose
		want    int
	}{{Collecting, 1}, {Writing, 0}} {
		o := options("b")
		o.Purpose = row.purpose
		r, opening, err := l.Open(t.Context(), o)
		must(t, err)
		if opening.Settled != 0 {
			t.Errorf("settled up to %d, want nothing", opening.Settled)
		}
		must(t, r.Close(t.Context(), opening.Head))
		s, err := l.Survey(t.Context(), Start{})
		must(t, err)
		if len(s.Unsettled) != row.want {
			t.Errorf("after purpose %d closed: %+v, want %d unsettled", row.purpose, s.Unsettled, row.want)
		}
	}
	if _, opening, err := l.Open(t.Context(), options("c")); err != nil || opening.Settled != 3 {
		t.Errorf("settled up to %d, %v, want 3", opening.Settled, err)
	}
}

// TestOvertaken: an opener whose successor deletes what it walks over is fenced;
// what it sees is not damage.
func TestOvertaken(t *testing.T) {
	l, codec := newLog(), newCodec(t)
	r, opening, err := l.Open(t.Context(), options("a"))
	must(t, err)
	p := newPen(t, codec, r.Claim.Reign, opening)
	for range 3 {
		f := p.segment(t)
		must(t, r.Put(t.Context(), f.Sequence, f.Object))
	}
	o, calls := options("b"), 0
	o.Start = func(context.Context) (Start, error) {
		if calls++; calls == 2 { // behind its claim
			must(t, third(l.Open(t.Context(), options("c"))))
			keys := vlog.Keys{Log: l.ID}
			must(t, l.Store.Delete(t.Context(), keys.Segment(vlog.Position{Epoch: 1, Sequence: 2})))
			must(t, l.Store.Put(t.Context(), keys.Segment(vlog.Position{Epoch: 1, Sequence: 1}), []byte("damage")))
		}
		return Start{}, nil
	}
	if err := third(l.Open(t.Context(), o)); !fault.Is(err, fault.Fenced) {
		t.Errorf("%v, want fenced", err)
	}
}

func TestRefusals(t *testing.T) {
	l := newLog()
	if err := third(l.Open(t.Context(), OpenOptions{})); !fault.Is(err, fault.Internal) {
		t.Errorf("no options: %v, want internal", err)
	}
	o := options("a")
	o.Recheck = func(context.Context) error { return fault.New(fault.NotFound, "deleted") }
	if err := third(l.Open(t.Context(), o)); !fault.Is(err, fault.NotFound) {
		t.Errorf("deleted meanwhile: %v, want not found", err)
	}
	o = options("a")
	o.Recheck = func(ctx context.Context) error { return third(l.Open(ctx, options("b"))) }
	if err := third(l.Open(t.Context(), o)); !fault.Is(err, fault.Fenced) {
		t.Errorf("a later epoch meanwhile: %v, want fenced", err)
	}
	r, opening, err := l.Open(t.Context(), options("a"))
	must(t, err)
	object := newPen(t, newCodec(t), r.Claim.Reign, opening).segment(t).Object
	for _, s := range []vlog.Sequence{0, ahead, vlog.MaxSequence + 1} {
		if err := r.Put(t.Context(), s, object); !fault.Is(err, fault.Internal) {
			t.Errorf("slot %d: %v, want internal", s, err)
		}
	}
	if err := r.Put(t.Context(), 1, object[:100]); !fault.Is(err, fault.Internal) {
		t.Errorf("a part of a segment: %v, want internal", err)
	}
}
