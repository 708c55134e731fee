package journal

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// paced runs a test in a bubble, whose clock goes when all wait, with a journal
// of 16 MiB that is filled with zeros.
func paced(t *testing.T, test func(t *testing.T, j *Journal)) {
	synctest.Test(t, func(t *testing.T) {
		o := testOptions(&simdisk.Disk{})
		o.Size = 16 << 20
		j, err := Create(ctx, o)
		must(t, err)
		must(t, j.Begin(ctx, 1))
		j.filler.reached(o.Size)
		defer j.Abandon()
		test(t, j)
	})
}

// took appends a batch and returns how long that took.
func took(t *testing.T, j *Journal, b *Batch) time.Duration {
	t.Helper()
	began := time.Now()
	must(t, j.Append(ctx, b))
	return time.Since(began)
}

// TestOutage (J6): nothing is given back. Up to a half nobody waits; then every
// append waits longer than the one before, never much longer, until it is full;
// that one waits as long as it takes, without an error, and goes on when there is
// room again.
func TestOutage(t *testing.T) {
	paced(t, func(t *testing.T, j *Journal) {
		limit := float64(j.ring.limit())
		var last time.Duration
		var fifth, end vlog.LSN
		for j.usedLocked()+2*block <= j.ring.limit() {
			f := float64(j.usedLocked()) / limit
			b := one(1)
			wait := took(t, j, b)
			end = b.End
			if f < 0.2 {
				fifth = end
			}
			switch {
			case f < 0.499 && wait != 0:
				t.Fatalf("waited %v at %.3f", wait, f)
			case f > 0.51 && wait < last:
				t.Fatalf("waited %v after %v at %.3f", wait, last, f)
			case f < 0.9 && wait > 60*time.Millisecond, f < 0.99 && wait > 600*time.Millisecond, f > 0.52 && f < 0.99 && wait > 2*last+time.Millisecond:
				t.Fatalf("waited %v after %v at %.3f", wait, last, f)
			}
			last = wait
		}
		if last < time.Second {
			t.Errorf("the last one waited %v", last)
		}
		short, cancel := context.WithTimeout(ctx, 24*time.Hour)
		defer cancel()
		mustBe(t, j.Append(short, one(2)), fault.Deadline)
		if j.State().Err != nil || j.pace.reserved != 0 {
			t.Errorf("%v, %d bytes reserved", j.State().Err, j.pace.reserved)
		}
		var through atomic.Int32
		for range 3 {
			go func() {
				must(t, j.Append(ctx, one(3)))
				through.Add(1)
			}()
		}
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		if through.Load() != 0 {
			t.Error("an append found room where there is none")
		}
		must(t, j.Flush(ctx))
		must(t, j.Recycle(ctx, fifth))
		synctest.Wait()
		if through.Load() != 1 {
			t.Errorf("%d of 3 appends went on at once with a fifth given back, want 1", through.Load())
		}
		must(t, j.Recycle(ctx, end))
		synctest.Wait()
		if through.Load() != 3 {
			t.Errorf("%d of 3 appends went on at once", through.Load())
		}
	})
}

// TestSteadyDrain: who writes as fast as it can is slowed to the rate at which
// space is given back, without ever standing still, and is left alone when the
// journal is emptied.
func TestSteadyDrain(t *testing.T) {
	paced(t, func(t *testing.T, j *Journal) {
		const drain = 256 << 10 // bytes a second
		over := make(chan struct{})
		ended := make(chan struct{})
		ends := make(chan vlog.LSN, 1<<16)
		var longest time.Duration
		var waits atomic.Bool
		go func() {
			defer close(ended)
			for {
				select {
				case <-over:
					return
				default:
				}
				b := one(1)
				if wait := took(t, j, b); waits.Load() {
					longest = max(longest, wait)
				}
				ends <- b.End
			}
		}()
		var before, tail vlog.LSN
		for second := range 300 {
			time.Sleep(time.Second)
			if second == 200 {
				before = j.State().End
				waits.Store(true)
			}
			must(t, j.Flush(ctx))
			for next := tail + drain; tail < next; {
				tail = <-ends
			}
			must(t, j.Recycle(ctx, tail))
		}
		rate := float64(j.State().End-before) / 99
		if rate < 0.9*drain || rate > 1.1*drain {
			t.Errorf("%.0f bytes a second, want the %d that are given back", rate, drain)
		}
		close(over)
		<-ended
		if longest > 500*time.Millisecond {
			t.Errorf("waited %v at once", longest)
		}
		must(t, j.Flush(ctx))
		must(t, j.Recycle(ctx, j.State().End))
		if wait := took(t, j, one(1)); wait != 0 {
			t.Errorf("waited %v in an empty journal", wait)
		}
	})
}

// TestCloseWakesWhoWaits: for room, or for a turn.
func TestCloseWakesWhoWaits(t *testing.T) {
	paced(t, func(t *testing.T, j *Journal) {
		for j.usedLocked()+2*block <= j.ring.limit() {
			took(t, j, one(1))
		}
		result := make(chan error)
		go func() { result <- j.Append(ctx, one(2)) }()
		go func() { result <- j.Append(ctx, one(3)) }()
		synctest.Wait()
		must(t, j.Close(ctx))
		mustBe(t, <-result, fault.Precondition)
		mustBe(t, <-result, fault.Precondition)
		mustBe(t, j.Append(ctx, one(4)), fault.Precondition)
	})
}
