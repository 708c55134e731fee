package faults_test

import (
	"context"
	"errors"
	"math/bits"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestContractWithoutFaults(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) objstore.Store { return faults.New(memory.New(), nil) })
}

func holds(t *testing.T, m *memory.Store, key, want string) {
	t.Helper()
	body, err := m.Get(context.Background(), key)
	if fault.Is(err, fault.NotFound) {
		body = nil
	} else if err != nil {
		t.Fatal(err)
	}
	if string(body) != want {
		t.Errorf("%s holds %q, want %q", key, body, want)
	}
}

// TestChanges has each fault of a request that changes something do what it says:
// to the reply, and to the store before and after what is late.
func TestChanges(t *testing.T) {
	for name, row := range map[string]struct {
		f           faults.Fault
		reply       error
		now, later  string // what "key" holds after a Put of "new" over "old"
		took, until time.Duration
	}{
		"none":                     {faults.Fault{}, nil, "new", "new", 0, 0},
		"before":                   {faults.Fault{Before: faults.ErrBroken}, faults.ErrBroken, "old", "old", 0, 0},
		"lost":                     {faults.Fault{Lost: faults.ErrLost}, faults.ErrLost, "new", "new", 0, 0},
		"throttled":                {faults.Fault{Before: faults.ErrThrottled}, objstore.ErrSlowDown, "old", "old", 0, 0},
		"delayed":                  {faults.Fault{Delay: time.Second}, nil, "new", "new", time.Second, 0},
		"late":                     {faults.Fault{Late: time.Minute}, faults.ErrLost, "old", "new", 0, time.Minute},
		"silent":                   {faults.Fault{Silence: true}, context.DeadlineExceeded, "old", "old", time.Hour, 0},
		"delayed beyond the end":   {faults.Fault{Delay: 2 * time.Hour}, context.DeadlineExceeded, "old", "old", time.Hour, 0},
		"late, with another reply": {faults.Fault{Late: time.Minute, Lost: faults.ErrDown}, faults.ErrDown, "old", "new", 0, time.Minute},
	} {
		synctest.Test(t, func(t *testing.T) {
			m := memory.New()
			_ = m.Put(t.Context(), "key", []byte("old"))
			s := faults.New(m, faults.On(faults.Put, 1, row.f))
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			began, body := time.Now(), []byte("new")
			err := s.Put(ctx, "key", body)
			clear(body) // it is the caller's again
			if !errors.Is(err, row.reply) || time.Since(began) != row.took {
				t.Errorf("%s: got %v after %s, want %v after %s", name, err, time.Since(began), row.reply, row.took)
			}
			holds(t, m, "key", row.now)
			replied := time.Now()
			s.Wait()
			if time.Since(replied) != row.until {
				t.Errorf("%s: all had come after %s, want %s", name, time.Since(replied), row.until)
			}
			holds(t, m, "key", row.later)
		})
	}
}

// TestTwice has requests come a second time, after others: a Put brings old bytes
// back, a Create does nothing, a Delete removes what was made anew.
func TestTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory.New()
		again := faults.Fault{Again: time.Minute}
		s := faults.New(m, faults.Join(faults.On(faults.Put, 1, again), faults.On(faults.Create, 1, again), faults.On(faults.Delete, 1, again)))
		ctx := t.Context()
		for _, err := range []error{
			s.Put(ctx, "put", []byte("1")), s.Put(ctx, "put", []byte("2")),
			s.Create(ctx, "create", []byte("1")), s.Put(ctx, "create", []byte("2")),
			s.Put(ctx, "delete", nil), s.Delete(ctx, "delete"), s.Put(ctx, "delete", []byte("2")),
		} {
			if err != nil {
				t.Error(err)
			}
		}
		holds(t, m, "put", "2")
		s.Wait()
		holds(t, m, "put", "1")
		holds(t, m, "create", "2")
		holds(t, m, "delete", "")
	})
}

func TestReads(t *testing.T) {
	m := memory.New()
	body := []byte("0123456789")
	_ = m.Put(t.Context(), "key", body)
	for name, row := range map[string]struct {
		f     faults.Fault
		reply error
		size  int
		bits  int // that are wrong
	}{
		"none":                  {faults.Fault{}, nil, 10, 0},
		"before":                {faults.Fault{Before: faults.ErrBroken}, faults.ErrBroken, 0, 0},
		"lost":                  {faults.Fault{Lost: faults.ErrLost}, faults.ErrLost, 0, 0},
		"short":                 {faults.Fault{Short: 3}, nil, 7, 0},
		"shorter than it is":    {faults.Fault{Short: 11}, nil, 0, 0},
		"a bit":                 {faults.Fault{Flip: 1}, nil, 10, 1},
		"the last bit":          {faults.Fault{Flip: 80}, nil, 10, 1},
		"a bit beyond":          {faults.Fault{Flip: 12345}, nil, 10, 1},
		"a bit of what is left": {faults.Fault{Flip: 80, Short: 5}, nil, 5, 1},
	} {
		for op, read := range map[faults.Op]func(s *faults.Store) ([]byte, error){
			faults.Get:      func(s *faults.Store) ([]byte, error) { return s.Get(t.Context(), "key") },
			faults.GetRange: func(s *faults.Store) ([]byte, error) { return s.GetRange(t.Context(), "key", 0, 10) },
		} {
			got, err := read(faults.New(m, faults.On(op, 1, row.f)))
			wrong := 0
			for i := range got {
				wrong += bits.OnesCount8(got[i] ^ body[i])
			}
			if !errors.Is(err, row.reply) || len(got) != row.size || wrong != row.bits {
				t.Errorf("%s, %s: got %q, %v; want %d bytes with %d bits wrong, %v", name, op, got, err, row.size, row.bits, row.reply)
			}
		}
	}
	holds(t, m, "key", string(body)) // the store itself is whole
}

func TestOutageAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := faults.New(memory.New(), faults.Outage(time.Now().Add(time.Minute), time.Now().Add(2*time.Minute)))
		for i, want := range []bool{true, true, false, false, true} { // at 0, 30, 60, 90, 120 s
			if err := s.Put(t.Context(), "a", nil); (err == nil) != want {
				t.Errorf("after %ds: got %v", 30*i, err)
			}
			<-time.After(30 * time.Second)
		}
		s.Follow(nil)
		_, _ = s.List(t.Context(), objstore.ListOptions{})
		if s.Count(faults.Put) != 5 || s.Count(faults.List) != 1 || s.Count(faults.Get) != 0 {
			t.Error("wrong counts")
		}
	})
}

// TestRandom has a seed give the same faults again, of every kind, about as often
// as asked for.
func TestRandom(t *testing.T) {
	rates := faults.Rates{Before: .1, Lost: .1, Throttled: .1, Silence: .1, Delay: .1, Late: .1, Again: .1, Short: .1, Flip: .1, MaxDelay: time.Minute}
	play := func(seed uint64) (all []faults.Fault) {
		script := faults.Random(seed, rates)
		for i := range 4000 {
			all = append(all, script(faults.Request{Op: []faults.Op{faults.Put, faults.Get}[i%2]}))
		}
		return all
	}
	one := play(1)
	if !slices.Equal(one, play(1)) || slices.Equal(one, play(2)) {
		t.Error("a seed does not decide")
	}
	count := func(is func(faults.Fault) bool) (n int) {
		for _, f := range one {
			if is(f) {
				n++
			}
		}
		return n
	}
	for name, row := range map[string]struct {
		n, want int
	}{
		"none":      {count(func(f faults.Fault) bool { return f == faults.Fault{} }), 1200},
		"before":    {count(func(f faults.Fault) bool { return errors.Is(f.Before, faults.ErrBroken) }), 400},
		"throttled": {count(func(f faults.Fault) bool { return errors.Is(f.Before, faults.ErrThrottled) }), 400},
		"lost":      {count(func(f faults.Fault) bool { return f.Lost != nil }), 400},
		"silence":   {count(func(f faults.Fault) bool { return f.Silence }), 400},
		"delay":     {count(func(f faults.Fault) bool { return f.Delay > 0 }), 400},
		"late":      {count(func(f faults.Fault) bool { return f.Late > 0 }), 200},
		"again":     {count(func(f faults.Fault) bool { return f.Again > 0 }), 200},
		"short":     {count(func(f faults.Fault) bool { return f.Short > 0 }), 200},
		"flip":      {count(func(f faults.Fault) bool { return f.Flip > 0 }), 200},
	} {
		if row.n < row.want/2 || row.n > row.want*2 {
			t.Errorf("%s: %d times, want about %d", name, row.n, row.want)
		}
	}
}

// TestRulesComeFirst has no fault hide that a request is invalid, or late.
func TestRulesComeFirst(t *testing.T) {
	always := func(faults.Request) faults.Fault { return faults.Fault{Before: faults.ErrDown} }
	s := faults.New(memory.New(), always)
	_, get := s.Get(t.Context(), "../a")
	_, getRange := s.GetRange(t.Context(), "a", -1, 1)
	_, list := s.List(t.Context(), objstore.ListOptions{Limit: -1})
	for _, err := range []error{get, getRange, list, s.Put(t.Context(), "", nil), s.Create(t.Context(), "", nil), s.Delete(t.Context(), "a", "")} {
		if !fault.Is(err, fault.Invalid) {
			t.Errorf("got %v, want Invalid", err)
		}
	}
}
