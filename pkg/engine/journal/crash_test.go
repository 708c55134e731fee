package journal

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// The operations of small histories.
var operations = []struct {
	name string
	do   func(w *world, t tb) error
}{
	{"write 1", func(w *world, t tb) error { return w.append(t, 1) }},
	{"write 2 and a range", func(w *world, t tb) error { return w.append(t, 1, 0, 1) }},
	{"seal", func(w *world, t tb) error { return w.append(t) }},
	{"group", func(w *world, t tb) error { return w.appendGroup(t, []int{1}, []int{0}, nil, []int{1, 1}) }},
	{"flush", func(w *world, t tb) error { return w.flush() }},
	{"recycle all", func(w *world, t tb) error { return w.recycle(0) }},
	{"recycle but one", func(w *world, t tb) error { return w.recycle(1) }},
	{"restart", restart},
	{"close", closing},
}

func restart(w *world, t tb) error {
	w.j.Abandon()
	w.d.Restart()
	return w.reopen(t, false)
}

func closing(w *world, t tb) error {
	if err := w.j.Close(ctx); err != nil {
		return err
	}
	w.flushed = w.acked
	return w.reopen(t, true)
}

// history runs operations until one meets the loss of power, and reports whether
// one did.
func history(t tb, w *world, script []int) bool {
	err := w.reopen(t, true)
	for _, op := range script {
		if err != nil {
			break
		}
		err = operations[op].do(w, t)
	}
	if err != nil && !errors.Is(err, simdisk.ErrStopped) {
		t.Fatalf("%v: %v", script, err)
	}
	return err != nil
}

// patterns are the ways in which n unsynced sectors survive: none, all, torn at
// each place from either side, all but one, one only.
func patterns(n int) (keeps []func(int) bool) {
	keeps = append(keeps, func(int) bool { return false }, func(int) bool { return true })
	for k := 1; k < n; k++ {
		keeps = append(keeps, func(i int) bool { return i < k }, func(i int) bool { return i >= k })
	}
	for k := range n {
		keeps = append(keeps, func(i int) bool { return i != k }, func(i int) bool { return i == k })
	}
	return keeps
}

// TestCrashAtEveryStep: J1, J2, J9. Every history of few operations, at the
// beginning of the ring and just before its end, stopped in each of its steps, with
// each of the patterns; what is recovered is a prefix with all that was flushed,
// goes on, and is the same when it is opened again.
func TestCrashAtEveryStep(t *testing.T) {
	length := 2
	if soak {
		length = 3
	}
	crashes := 0
	for _, at := range []vlog.LSN{0, MinSize - block, MinSize - 3*block, 7*MinSize - 4*block} {
		walk(length, func(script []int) {
			for k := 1; ; k++ {
				w := &world{d: filled(at)}
				w.d.StopAt(k)
				if !history(t, w, script) {
					w.j.Abandon()
					break
				}
				if w.j != nil {
					w.j.Abandon()
				}
				keeps := patterns(w.d.Pending())
				stride := 1
				if !soak && len(keeps) > 20 {
					stride = 13 // prime to the sectors of a block
				}
				for p := range keeps {
					if p > 1 && p%stride != k%stride {
						continue
					}
					crashes++
					goOn(t, w, keeps[p], fmt.Sprintf("at %d, %v, step %d, pattern %d", at, script, k, p))
				}
			}
		})
	}
	t.Logf("%d crashes", crashes)
}

// walk calls f with every script of up to so many operations.
func walk(length int, f func(script []int)) {
	var script []int
	var grow func()
	grow = func() {
		f(script)
		if len(script) == length {
			return
		}
		for op := range operations {
			script = append(script, op)
			grow()
			script = script[:len(script)-1]
		}
	}
	grow()
}

// goOn crashes a copy of the world, recovers it, writes, crashes it again with
// everything unsynced lost, and recovers it again.
func goOn(t *testing.T, w *world, keep func(int) bool, what string) {
	t.Helper()
	f := *w
	f.d = w.d.Fork()
	f.batches = append([]batchOf(nil), w.batches...)
	f.d.Crash(keep)
	fatal := named{t, what}
	must(fatal, f.reopen(fatal, true))
	must(fatal, f.append(fatal, 2))
	must(fatal, f.flush())
	must(fatal, f.append(fatal, 1))
	f.j.Abandon()
	f.d.Crash(func(int) bool { return false })
	must(fatal, f.reopen(fatal, true))
	f.j.Abandon()
}

type named struct {
	*testing.T
	what string
}

func (n named) Fatalf(format string, args ...any) {
	n.Helper()
	n.T.Fatalf("%s: %s", n.what, fmt.Sprintf(format, args...))
}

// TestHistories: long random histories with many crashes and failed syncs, of which
// the recovery has some too, in a ring that wraps often.
func TestHistories(t *testing.T) {
	rounds := 5
	if soak {
		rounds = 300
	}
	for range rounds {
		rapid.Check(t, randomHistory)
	}
}

func randomHistory(t *rapid.T) {
	at := vlog.LSN(rapid.IntRange(0, 200).Draw(t, "at")) * block
	w := &world{d: prepared(at, rapid.SampledFrom([]int64{0, MinSize}).Draw(t, "filled"))}
	random := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
	must(t, w.reopen(t, true))
	for range rapid.IntRange(1, 80).Draw(t, "operations") {
		if rapid.IntRange(0, 9).Draw(t, "power fails soon") == 0 {
			w.d.StopAt(w.d.Steps() + 1 + rapid.IntRange(0, 6).Draw(t, "step"))
		}
		if rapid.IntRange(0, 9).Draw(t, "a sync fails soon") == 0 {
			w.d.FailSync(1 + rapid.IntRange(0, 3).Draw(t, "sync"))
		}
		err := randomOperation(t, w)
		for err != nil {
			w.j.Abandon()
			if errors.Is(err, syscall.EIO) && random.IntN(2) == 0 {
				w.d.Restart()
				err = w.reopen(t, false)
				continue
			}
			if !errors.Is(err, syscall.EIO) && !errors.Is(err, simdisk.ErrStopped) {
				t.Fatalf("%v", err)
			}
			chance := random.Float64()
			w.d.Crash(func(int) bool { return random.Float64() < chance })
			if rapid.IntRange(0, 3).Draw(t, "again") == 0 {
				w.d.StopAt(w.d.Steps() + 1 + rapid.IntRange(0, 3).Draw(t, "step"))
			}
			err = w.reopen(t, true)
		}
	}
	w.j.Abandon()
	w.d.Restart()
	w.d.FailSync(0)
	must(t, w.reopen(t, false))
	w.j.Abandon()
}

func randomOperation(t *rapid.T, w *world) error {
	counts := rapid.SliceOfN(rapid.IntRange(0, 2), 0, 2)
	switch op := rapid.IntRange(0, 11).Draw(t, "operation"); {
	case op < 8 && !w.room(15):
		return w.recycle(rapid.IntRange(0, 2).Draw(t, "keep"))
	case op < 5:
		return w.append(t, counts.Draw(t, "counts")...)
	case op < 7:
		return w.appendGroup(t, rapid.SliceOfN(counts, 1, 4).Draw(t, "group")...)
	case op < 9:
		return w.flush()
	case op < 10:
		return w.recycle(rapid.IntRange(0, 4).Draw(t, "keep"))
	case op < 11:
		return restart(w, t)
	default:
		return closing(w, t)
	}
}
