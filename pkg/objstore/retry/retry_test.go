package retry_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
)

// always has every request of some kinds meet a fault.
func always(f faults.Fault, ops ...faults.Op) faults.Script {
	return func(r faults.Request) faults.Fault {
		for _, op := range ops {
			if op == r.Op {
				return f
			}
		}
		return faults.Fault{}
	}
}

var everything = []faults.Op{faults.Get, faults.GetRange, faults.Put, faults.Create, faults.Delete, faults.List}

// each calls every method once, by its name.
func each(ctx context.Context, s objstore.Store) map[faults.Op]error {
	_, get := s.Get(ctx, "there")
	_, getRange := s.GetRange(ctx, "there", 0, 1)
	_, list := s.List(ctx, objstore.ListOptions{})
	return map[faults.Op]error{
		faults.Get: get, faults.GetRange: getRange, faults.List: list,
		faults.Put: s.Put(ctx, "there", []byte("again")), faults.Create: s.Create(ctx, "new", []byte("new")), faults.Delete: s.Delete(ctx, "there"),
	}
}

func there(t *testing.T) *memory.Store {
	t.Helper()
	m := memory.New()
	if err := m.Create(t.Context(), "there", []byte("body")); err != nil {
		t.Fatal(err)
	}
	return m
}

// TestOutage has each method last through an outage that is shorter than a call
// may take, and give up as Transient in one that is longer.
func TestOutage(t *testing.T) {
	for _, row := range []struct {
		outage time.Duration
		isLost bool
	}{{90 * time.Second, false}, {20 * time.Minute, true}} {
		synctest.Test(t, func(t *testing.T) {
			for _, op := range everything {
				now := time.Now()
				down := faults.New(there(t), func(r faults.Request) faults.Fault {
					if r.Op != op {
						return faults.Fault{}
					}
					return faults.Outage(now, now.Add(row.outage))(r)
				})
				err := each(t.Context(), wrap(t, down, retry.Options{}))[op]
				if took := time.Since(now); row.isLost {
					if !fault.Is(err, fault.Transient) || !errors.Is(err, faults.ErrDown) || took < 2*time.Minute || took > 3*time.Minute {
						t.Errorf("%s: got %v after %s, want Transient and the cause after 2m", op, err, took)
					}
				} else if err != nil || took < row.outage || took > 2*time.Minute {
					t.Errorf("%s: got %v after %s, want success once the store is back", op, err, took)
				}
				if n := down.Count(op); n < 10 || n > 200 {
					t.Errorf("%s: %d tries", op, n)
				}
			}
		})
	}
}

// TestSilence has a try that gets no reply end by its own deadline.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, op := range everything {
			began := time.Now()
			s := faults.New(there(t), faults.On(op, 1, faults.Fault{Silence: true}))
			if err := each(t.Context(), wrap(t, s, retry.Options{Try: 10 * time.Second}))[op]; err != nil {
				t.Errorf("%s: %v", op, err)
			}
			if took := time.Since(began); took < 10*time.Second || took > 12*time.Second || s.Count(op) != 2 {
				t.Errorf("%s: %d tries in %s, want 2 in 10s", op, s.Count(op), took)
			}
		}
	})
}

// TestLargeBodiesHaveMoreTime: a second a MiB beyond what every try has.
func TestLargeBodiesHaveMoreTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faults.New(memory.New(), always(faults.Fault{Silence: true}, faults.Put))
		began := time.Now()
		_ = wrap(t, s, retry.Options{Try: time.Second, Total: 9 * time.Second}).Put(t.Context(), "a", make([]byte, 8<<20))
		if took := time.Since(began); took != 9*time.Second || s.Count(faults.Put) != 1 {
			t.Errorf("%d tries in %s, want 1 in 9s", s.Count(faults.Put), took)
		}
	})
}

// TestContextEnds has a context that ends give its own kind, and at once.
func TestContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, f := range []faults.Fault{{Before: faults.ErrBroken}, {Lost: faults.ErrLost}, {Silence: true}} {
			for _, op := range everything {
				ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
				began := time.Now()
				err := each(ctx, wrap(t, faults.New(there(t), always(f, op)), retry.Options{}))[op]
				if took := time.Since(began); !fault.Is(err, fault.Deadline) || took != 7*time.Second {
					t.Errorf("%s, %+v: got %v after %s, want Deadline after 7s", op, f, err, took)
				}
				cancel()
				ctx, cancel = context.WithCancel(t.Context())
				time.AfterFunc(3*time.Second, cancel)
				if err := each(ctx, wrap(t, faults.New(there(t), always(f, op)), retry.Options{}))[op]; !fault.Is(err, fault.Canceled) {
					t.Errorf("%s, %+v: got %v, want Canceled", op, f, err)
				}
			}
		}
	})
}

// TestWaits sees the bounds of the waits: doubling to a limit, and eight times as
// long for a store that asks to slow down.
func TestWaits(t *testing.T) {
	longest := retry.Options{Wait: 100 * time.Millisecond, MaxWait: time.Second, Total: 1000 * time.Hour, Random: func() float64 { return 1 }}
	for _, row := range []struct {
		reply error
		want  []time.Duration
	}{
		{faults.ErrBroken, []time.Duration{100 * time.Millisecond, 200 * time.Millisecond, 400 * time.Millisecond, 800 * time.Millisecond, time.Second, time.Second}},
		{faults.ErrThrottled, []time.Duration{800 * time.Millisecond, 1600 * time.Millisecond, 3200 * time.Millisecond, 6400 * time.Millisecond, 8 * time.Second, 8 * time.Second}},
	} {
		synctest.Test(t, func(t *testing.T) {
			var at []time.Time
			s := faults.New(there(t), func(r faults.Request) faults.Fault {
				if at = append(at, r.Time); len(at) > len(row.want) {
					return faults.Fault{}
				}
				return faults.Fault{Before: row.reply}
			})
			if _, err := wrap(t, s, longest).Get(t.Context(), "there"); err != nil {
				t.Fatal(err)
			}
			for i, want := range row.want {
				if got := at[i+1].Sub(at[i]); got != want {
					t.Errorf("%v: wait %d is %s, want %s", row.reply, i+1, got, want)
				}
			}
		})
	}
}

// TestFinal has what is no passing trouble be told at once, by its kind.
func TestFinal(t *testing.T) {
	refused := fault.New(fault.Transient, "%w: no such bucket", objstore.ErrRefused)
	for _, reply := range []error{
		fault.New(fault.NotFound, "x"), fault.New(fault.Invalid, "x"), fault.New(fault.OutOfRange, "x"),
		fault.New(fault.Unsupported, "x"), fault.New(fault.Internal, "x"), refused,
	} {
		for _, op := range everything {
			s := faults.New(there(t), always(faults.Fault{Before: reply}, op))
			err := each(t.Context(), wrap(t, s, retry.Options{}))[op]
			if !errors.Is(err, reply) || fault.KindOf(err) != fault.KindOf(reply) || s.Count(op) != 1 {
				t.Errorf("%s: got %v after %d tries, want %v after 1", op, err, s.Count(op), reply)
			}
		}
	}
}

// TestUnknownStaysUnknown: after a lost reply, a refusal says nothing of what the
// earlier try did.
func TestUnknownStaysUnknown(t *testing.T) {
	for _, reply := range []error{fault.New(fault.Internal, "x"), fault.New(fault.Unsupported, "x"), fault.New(fault.Transient, "%w", objstore.ErrRefused)} {
		for _, op := range []faults.Op{faults.Put, faults.Create, faults.Delete} {
			s := faults.New(there(t), faults.Join(faults.On(op, 1, faults.Fault{Lost: faults.ErrLost}), always(faults.Fault{Before: reply}, op)))
			err := each(t.Context(), wrap(t, s, retry.Options{Wait: 1}))[op]
			if !fault.Is(err, fault.Transient) || !errors.Is(err, reply) {
				t.Errorf("%s: got %v, want Transient with %v", op, err, reply)
			}
		}
	}
}

// TestCreateSettles walks the ways on which a creation meets an object.
func TestCreateSettles(t *testing.T) {
	ours, other := []byte("ours"), []byte("other")
	lost := func() faults.Script { return faults.On(faults.Create, 1, faults.Fault{Lost: faults.ErrLost}) }
	for name, row := range map[string]struct {
		before []byte // what is there already
		script faults.Script
		kind   fault.Kind
		isOK   bool
		gets   int64
	}{
		"it is ours":                         {nil, lost(), 0, true, 1},
		"it is another's":                    {other, lost(), fault.Exists, false, 1},
		"no reply was lost":                  {other, nil, fault.Exists, false, 0},
		"the same bytes, and no reply lost":  {ours, nil, fault.Exists, false, 0},
		"the broken try never arrived":       {nil, faults.On(faults.Create, 1, faults.Fault{Before: faults.ErrBroken}), 0, true, 0},
		"a refused try leaves nothing open":  {other, faults.On(faults.Create, 1, faults.Fault{Before: faults.ErrThrottled}), fault.Exists, false, 1},
		"the look fails once":                {nil, faults.Join(lost(), faults.On(faults.Get, 1, faults.Fault{Before: faults.ErrBroken})), 0, true, 2},
		"the look is silent once":            {nil, faults.Join(lost(), faults.On(faults.Get, 1, faults.Fault{Silence: true})), 0, true, 2},
		"the reply is lost again and again":  {other, faults.Join(lost(), faults.On(faults.Create, 2, faults.Fault{Lost: faults.ErrLost})), fault.Exists, false, 1},
		"the look finds it gone: made again": {nil, faults.Join(lost(), faults.On(faults.Get, 1, faults.Fault{Before: fault.New(fault.NotFound, "gone")})), 0, true, 2},
		"the look never succeeds":            {nil, faults.Join(lost(), always(faults.Fault{Before: faults.ErrBroken}, faults.Get)), fault.Transient, false, -1},
		"silence, then it is another's":      {other, faults.On(faults.Create, 1, faults.Fault{Silence: true}), fault.Exists, false, 1},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := memory.New()
			if row.before != nil {
				_ = m.Create(t.Context(), "key", row.before)
			}
			s := faults.New(m, row.script)
			err := wrap(t, s, retry.Options{}).Create(t.Context(), "key", ours)
			if (err == nil) != row.isOK || err != nil && fault.KindOf(err) != row.kind {
				t.Errorf("%s: got %v", name, err)
			}
			if n := s.Count(faults.Get); row.gets >= 0 && n != row.gets {
				t.Errorf("%s: looked %d times, want %d", name, n, row.gets)
			}
		})
	}
}

// TestCorrupt has bytes that are damaged on the way be asked for again, and told
// as Corrupt when they stay so.
func TestCorrupt(t *testing.T) {
	damaged := faults.Fault{Before: fault.New(fault.Corrupt, "injected")}
	for _, op := range []faults.Op{faults.Get, faults.GetRange} {
		twice := faults.Join(faults.On(op, 1, damaged), faults.On(op, 2, damaged))
		if err := each(t.Context(), wrap(t, faults.New(there(t), twice), retry.Options{Wait: 1}))[op]; err != nil {
			t.Errorf("%s: got %v, want success by the third try", op, err)
		}
		s := faults.New(there(t), always(damaged, op))
		if err := each(t.Context(), wrap(t, s, retry.Options{Wait: 1}))[op]; !fault.Is(err, fault.Corrupt) || s.Count(op) != 3 {
			t.Errorf("%s: got %v after %d tries, want Corrupt after 3", op, err, s.Count(op))
		}
	}
}

func TestOptions(t *testing.T) {
	_, err := retry.New(memory.New(), retry.Options{Try: -1, Total: -2, Wait: -3, MaxWait: -4})
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("got %v, want Invalid", err)
	}
	for _, word := range []string{"retry try -1ns", "retry total -2ns", "retry wait -3ns", "retry max wait -4ns"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("got %q, want %q in it", err, word)
		}
	}
}

// TestDeleteInvalid has an invalid key stop all, however many come before it.
func TestDeleteInvalid(t *testing.T) {
	m := there(t)
	keys := make([]string, 2001)
	for i := range keys {
		keys[i] = "there"
	}
	keys[2000] = "../there"
	if err := wrap(t, m, retry.Options{}).Delete(t.Context(), keys...); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want Invalid", err)
	}
	if _, err := m.Get(t.Context(), "there"); err != nil {
		t.Errorf("something was removed: %v", err)
	}
}
