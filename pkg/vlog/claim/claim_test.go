package claim

import (
	"context"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
)

func newClaims(s objstore.Store) Claims {
	return Claims{Store: s, Now: func() time.Time { return testTime }}
}

func here(context.Context) error { return nil }

func of(s Subject, dependent string) Claim {
	return Claim{Subject: s, Dependent: dependent, Nonce: vlog.NewNonce(), Holder: "site a"}
}

func want(t *testing.T, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

func TestTakeAndRelease(t *testing.T) {
	c := newClaims(memory.New())
	a, b := of(testLog, "l-a"), of(testLog, "l-a")
	a.From, a.Ends = vlog.Position{Epoch: 1, Sequence: 5}, testTime.Add(time.Nanosecond).In(time.FixedZone("x", 3600))
	must(t, c.Take(t.Context(), a, here))
	must(t, c.Take(t.Context(), a, here)) // again
	must(t, c.Take(t.Context(), b, here)) // the same dependent, another try
	other := a
	other.From.Sequence++
	want(t, "another claim with the nonce", c.Take(t.Context(), other, here), fault.Exists)
	live, err := c.Live(t.Context(), testLog)
	if err != nil || len(live) != 2 {
		t.Fatalf("%+v, %v", live, err)
	}
	late := c
	late.Now = func() time.Time { return testTime.Add(time.Nanosecond) }
	if live, err := late.Live(t.Context(), testLog); err != nil || len(live) != 1 || live[0] != b {
		t.Errorf("after the end of one: %+v, %v, want %+v", live, err, b)
	}
	must(t, c.Release(t.Context(), b))
	must(t, c.Release(t.Context(), b))
	want(t, "taken again after its release", c.Take(t.Context(), b, here), fault.Precondition)
	if live, err := c.Live(t.Context(), testLog); err != nil || len(live) != 1 || live[0].From != a.From || !live[0].Ends.Equal(a.Ends) {
		t.Errorf("%+v, %v", live, err)
	}
	if live, err := c.Live(t.Context(), snapshot); err != nil || len(live) != 0 {
		t.Errorf("another subject: %+v, %v", live, err)
	}
}

// TestReleasedIsReleased has the request for a claim arrive after its release.
func TestReleasedIsReleased(t *testing.T) {
	m := memory.New()
	s := faults.New(m, faults.On(faults.Create, 1, faults.Fault{Late: 50 * time.Millisecond}))
	c := newClaims(s)
	a := of(snapshot, "l-a")
	want(t, "the reply is lost", c.Take(t.Context(), a, here), fault.Transient)
	must(t, c.Release(t.Context(), a))
	s.Wait()
	if _, err := m.Get(t.Context(), a.record(claimed, testTime).key()); err != nil {
		t.Fatalf("the late claim: %v, want it there", err)
	}
	if live, err := c.Live(t.Context(), snapshot); err != nil || len(live) != 0 {
		t.Errorf("%+v, %v, want none", live, err)
	}
}

func TestCondemned(t *testing.T) {
	c := newClaims(memory.New())
	a := of(snapshot, "l-a")
	must(t, c.Take(t.Context(), a, here))
	want(t, "let go", c.LetGo(t.Context(), snapshot), fault.Precondition)
	d, err := c.Trash(t.Context(), snapshot, "site b")
	must(t, err)
	want(t, "within the grace period", c.Condemn(t.Context(), d, time.Second), fault.Busy)
	must(t, c.Condemn(t.Context(), d, 0))
	must(t, c.Condemn(t.Context(), d, 0))
	want(t, "restore", c.Restore(t.Context(), d), fault.NotFound)
	want(t, "let go", c.LetGo(t.Context(), snapshot), fault.InUse)
	want(t, "claim", c.Take(t.Context(), of(snapshot, "l-b"), here), fault.NotFound)
	must(t, c.Release(t.Context(), a))
	must(t, c.LetGo(t.Context(), snapshot))
	must(t, c.Forget(t.Context(), snapshot))
	want(t, "claim", c.Take(t.Context(), of(snapshot, "l-c"), here), fault.NotFound)
	want(t, "trash", second(c.Trash(t.Context(), snapshot, "")), fault.NotFound)
	want(t, "restore what is forgotten", c.Restore(t.Context(), d), fault.NotFound)
	must(t, c.Condemn(t.Context(), d, 0))
	must(t, c.LetGo(t.Context(), snapshot))
}

func second[T any](_ T, err error) error { return err }

func TestGone(t *testing.T) {
	c := newClaims(memory.New())
	gone := func(context.Context) error { return fault.New(fault.NotFound, "gone") }
	down := func(context.Context) error { return fault.New(fault.Transient, "down") }
	a, b := of(snapshot, "l-a"), of(snapshot, "l-b")
	want(t, "gone", c.Take(t.Context(), a, gone), fault.NotFound)
	want(t, "unknown", c.Take(t.Context(), b, down), fault.Transient)
	if live, err := c.Live(t.Context(), snapshot); err != nil || len(live) != 1 || live[0] != b {
		t.Errorf("%+v, %v, want what is not known", live, err)
	}
	must(t, c.Take(t.Context(), b, here))
}

// TestRestore: what was restored stays, whoever slept meanwhile, and the next
// deletion is another one.
func TestRestore(t *testing.T) {
	c := newClaims(memory.New())
	want(t, "nothing to find", second(c.Trashed(t.Context(), snapshot)), fault.NotFound)
	one, err := c.Trash(t.Context(), snapshot, "site a")
	must(t, err)
	joined, err := c.Trash(t.Context(), snapshot, "site b")
	if err != nil || joined != one || one.Number != 1 || !one.Since.Equal(testTime) {
		t.Errorf("%+v, %v, want %+v", joined, err, one)
	}
	must(t, c.Restore(t.Context(), one))
	must(t, c.Restore(t.Context(), one))
	want(t, "a deleter that slept", c.Condemn(t.Context(), one, 0), fault.Precondition)
	two, err := c.Trash(t.Context(), snapshot, "site a")
	if err != nil || two.Number != 2 {
		t.Errorf("%+v, %v, want the second", two, err)
	}
	want(t, "the same", c.Condemn(t.Context(), one, 0), fault.Precondition)
	must(t, c.Take(t.Context(), of(snapshot, "l-a"), here))
	must(t, c.Condemn(t.Context(), two, 0))
	last, err := c.Trashed(t.Context(), snapshot)
	if err != nil || last.Number != 2 || last.Verdict != Delete {
		t.Errorf("%+v, %v", last, err)
	}
}

// TestDamagedClaimCounts: what cannot be read keeps the data.
func TestDamagedClaimCounts(t *testing.T) {
	m := memory.New()
	c := newClaims(m)
	a := of(snapshot, "l-a")
	d, err := c.Trash(t.Context(), snapshot, "")
	must(t, err)
	must(t, c.Take(t.Context(), a, here))
	must(t, c.Condemn(t.Context(), d, 0))
	must(t, m.Put(t.Context(), a.record(claimed, testTime).key(), []byte("x")))
	want(t, "let go", c.LetGo(t.Context(), snapshot), fault.Corrupt)
	must(t, c.Release(t.Context(), a))
	must(t, m.Put(t.Context(), snapshot.condemned(), []byte("x")))
	want(t, "claim on what is condemned, damaged", c.Take(t.Context(), of(snapshot, "l-b"), here), fault.NotFound)
	must(t, c.LetGo(t.Context(), snapshot))
}
