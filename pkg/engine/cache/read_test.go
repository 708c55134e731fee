package cache

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
)

// TestOneRequest: a cold read is one fetch of what it lacks, in whole blocks, and
// the next is none.
func TestOneRequest(t *testing.T) {
	o := object(1, 0, 3*LineBytes+10)
	for name, c := range map[string]struct {
		put     []Range // what is there before
		at, n   int64
		want    Range
		lines   bool // fetch whole lines
		nextHit Range
	}{
		"a frame":            {at: 80, n: 4128, want: Range{0, 2 * payload}},
		"over a line's end":  {at: LineBytes - 10, n: 20, want: Range{LineBytes - payload, LineBytes + payload}},
		"the end":            {at: 3*LineBytes + 9, n: 1, want: Range{3 * LineBytes, 3*LineBytes + 10}},
		"all":                {at: 0, n: o.SizeBytes, want: Range{0, o.SizeBytes}},
		"half is there":      {put: []Range{{0, payload}}, at: 5, n: 5000, want: Range{payload, 2 * payload}},
		"a hole":             {put: []Range{{0, payload}, {2 * payload, 9 * payload}}, at: 0, n: 9 * payload, want: Range{payload, 2 * payload}},
		"two holes":          {put: []Range{{payload, 2 * payload}}, at: 0, n: 3 * payload, want: Range{0, 3 * payload}},
		"not whole":          {put: []Range{{1, payload}, {payload, 2*payload - 1}}, at: 0, n: 2 * payload, want: Range{0, 2 * payload}},
		"with neighbourhood": {at: LineBytes + 80, n: 4128, want: Range{LineBytes, LineBytes + 2*payload}, lines: true, nextHit: Range{LineBytes, 2 * LineBytes}},
	} {
		x := open(t, testOptions(&simdisk.Disk{}))
		for _, r := range c.put {
			x.Put(o, r.At, content(o)[r.At:r.End])
		}
		var needs []Range
		fetch := func(_ context.Context, need Range) (int64, []byte, error) {
			needs = append(needs, need)
			got := need
			if c.lines {
				got = o.Lines(need)
			}
			return got.At, content(o)[got.At:got.End], nil
		}
		p := make([]byte, c.n)
		source, err := x.Read(ctx, o, c.at, p, fetch)
		must(t, err)
		if len(needs) != 1 || needs[0] != c.want || source != Miss || !bytes.Equal(p, content(o)[c.at:c.at+c.n]) {
			t.Errorf("%s: got %v, want %v (%v)", name, needs, c.want, source)
		}
		quiet(x)
		if c.nextHit == (Range{}) {
			c.nextHit = Range{c.at, c.at + c.n}
		}
		if !read(t, x, o, c.nextHit.At, c.nextHit.End-c.nextHit.At) {
			t.Errorf("%s: the second read is a miss", name)
		}
		x.Abandon()
	}
}

// TestOneFetchForAll: of many who want one line at the same time, one fetches.
func TestOneFetchForAll(t *testing.T) {
	c := open(t, testOptions(&simdisk.Disk{}))
	defer c.Abandon()
	o := object(1, 0, 2*LineBytes)
	const readers = 20
	var calls atomic.Int32
	release := make(chan struct{})
	fetch := func(_ context.Context, need Range) (int64, []byte, error) {
		calls.Add(1)
		<-release
		return need.At, content(o)[need.At:need.End], nil
	}
	started := make(chan struct{}, readers)
	var running sync.WaitGroup
	for i := range readers {
		running.Go(func() {
			p := make([]byte, 100)
			started <- struct{}{}
			source, err := c.Read(ctx, o, 10, p, fetch)
			if err != nil || !bytes.Equal(p, content(o)[10:110]) {
				t.Errorf("reader %d: %v, %v", i, source, err)
			}
		})
	}
	for range readers {
		<-started
	}
	// One who gives up does not wait for the others, nor disturb them.
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.Read(canceled, o, 10, make([]byte, 1), fetch); !errors.Is(err, context.Canceled) {
		t.Errorf("gave up: %v", err)
	}
	close(release)
	running.Wait()
	if n := calls.Load(); n != 1 {
		t.Errorf("%d fetches, want 1", n)
	}
}

// TestLooksAgain: what came in between is not fetched.
func TestLooksAgain(t *testing.T) {
	f := &flaky{Storage: &simdisk.Disk{}}
	c := open(t, testOptions(f))
	defer c.Abandon()
	o := object(1, 0, 2*LineBytes)
	c.Put(o, 0, content(o)[:LineBytes])
	f.onRead = func() { // the first line is read while the second comes
		f.onRead = nil
		c.Put(o, LineBytes, content(o)[LineBytes:])
	}
	if !read(t, c, o, LineBytes-10, 20) {
		t.Error("fetched")
	}
	quiet(c)
}

// TestFlights: a fetch answers reads of its own object only, and of what it has.
func TestFlights(t *testing.T) {
	var s flights
	o := object(1, 0, 2*LineBytes)
	f, mine := s.join(o, blocks{0, 2})
	if !mine {
		t.Fatal("whose?")
	}
	f.at, f.data = payload, make([]byte, payload)
	other := o
	other.Log[15]++
	if r := (Range{payload, 2 * payload}); !f.covers(o, r) || f.covers(other, r) || f.covers(o, Range{payload - 1, 2 * payload}) || f.covers(o, Range{payload, 2*payload + 1}) {
		t.Error("covers what it has not, or not what it has")
	}
	if g, mine := s.join(o, blocks{15, 17}); mine || g != f {
		t.Error("a second fetch of a line")
	}
	if g, mine := s.join(o, blocks{16, 17}); !mine || g == f {
		t.Error("another line waits")
	}
	s.leave(f)
	if _, mine := s.join(o, blocks{0, 1}); !mine {
		t.Error("still there")
	}
}

// TestFailedFetch: who waited for a fetch that failed gets its error, unless only
// its caller gave up: then one of the others fetches.
func TestFailedFetch(t *testing.T) {
	c := open(t, testOptions(&simdisk.Disk{}))
	defer c.Abandon()
	o := object(1, 0, LineBytes)
	boom := fault.New(fault.Transient, "down")
	var f *flight
	failed := func(context.Context, Range) (int64, []byte, error) {
		f, _ = c.flights.join(o, blocks{0, 1})
		return 0, nil, boom
	}
	if _, err := c.Read(ctx, o, 0, make([]byte, 1), failed); !errors.Is(err, boom) || !errors.Is(f.err, boom) {
		t.Errorf("failed: got %v, others get %v", err, f.err)
	}
	canceled, cancel := context.WithCancel(ctx)
	gaveUp := func(ctx context.Context, r Range) (int64, []byte, error) {
		cancel()
		_, _, _ = failed(ctx, r)
		return 0, nil, ctx.Err()
	}
	if _, err := c.Read(canceled, o, 0, make([]byte, 1), gaveUp); !errors.Is(err, context.Canceled) || f.err != nil {
		t.Errorf("gave up: got %v, others get %v", err, f.err)
	}

	f, _ = c.flights.join(o, blocks{0, 1})
	f.err = boom
	close(f.done)
	if source, err := c.Read(ctx, o, 0, make([]byte, 1), neverFetch); source != Shared || !errors.Is(err, boom) {
		t.Errorf("waited for what failed: %v, %v", source, err)
	}
	c.flights.leave(f)

	f, _ = c.flights.join(o, blocks{0, 1})
	close(f.done)
	var other sync.WaitGroup
	other.Go(func() {
		calls := 0
		source, err := c.Read(ctx, o, 0, make([]byte, 1), fetcher(t, o, &calls))
		if err != nil || source != Miss || calls != 1 {
			t.Errorf("waited for who gave up: %v, %v, %d fetches", source, err, calls)
		}
	})
	c.flights.leave(f)
	other.Wait()
	quiet(c)
}

// TestWrongFetch: bytes that are not what was asked for are an error, and kept by
// nobody.
func TestWrongFetch(t *testing.T) {
	c := open(t, testOptions(&simdisk.Disk{}))
	defer c.Abandon()
	o := object(1, 0, LineBytes)
	for name, f := range map[string]Fetch{
		"short": func(_ context.Context, r Range) (int64, []byte, error) { return r.At, make([]byte, r.End-r.At-1), nil },
		"elsewhere": func(_ context.Context, r Range) (int64, []byte, error) {
			return r.At + 1, make([]byte, r.End-r.At), nil
		},
		"before":        func(context.Context, Range) (int64, []byte, error) { return -1, make([]byte, LineBytes), nil },
		"behind":        func(context.Context, Range) (int64, []byte, error) { return 0, make([]byte, LineBytes+1), nil },
		"without bytes": func(context.Context, Range) (int64, []byte, error) { return 0, nil, nil },
	} {
		_, err := c.Read(ctx, o, 0, make([]byte, 10), f)
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: got %v, want corrupt", name, err)
		}
	}
	if s := c.Stats(); s.Filled != 0 {
		t.Errorf("%d lines were kept", s.Filled)
	}
}

// TestDrop: what turned out wrong is gone, wherever it was.
func TestDrop(t *testing.T) {
	c := open(t, testOptions(&simdisk.Disk{}))
	defer c.Abandon()
	o := object(1, 0, 3*LineBytes)
	wrong := make([]byte, o.SizeBytes)
	c.Put(o, 0, wrong)
	c.Drop(o, Range{LineBytes + 5, LineBytes + 6})
	if read(t, c, o, LineBytes, LineBytes) {
		t.Error("still there")
	}
	p := make([]byte, LineBytes)
	if source, _ := c.Read(ctx, o, 0, p, neverFetch); source != Hit {
		t.Error("the line before is gone")
	}
	c.Drop(o, Range{-5, 1 << 60})
	if s := c.Stats(); s.Lines != 0 {
		t.Errorf("%d lines left", s.Lines)
	}
	// While it is fetched, before it is written.
	_, err := c.Read(ctx, o, 0, p, func(_ context.Context, r Range) (int64, []byte, error) {
		c.Drop(o, r)
		return r.At, wrong[r.At:r.End], nil
	})
	must(t, err)
	quiet(c)
	if read(t, c, o, 0, LineBytes) {
		t.Error("the dropped fetch was kept")
	}
	quiet(c)
	// While it is written.
	slot, _, _, ok := c.index.acquire(o.printer().of(2))
	c.Drop(o, Range{2 * LineBytes, 3 * LineBytes})
	if !ok || c.index.release(slot, 0xffff) {
		t.Error("the dropped line was kept")
	}
	c.index.check(t)
}

// TestDropLog: a deleted log's lines go, others stay.
func TestDropLog(t *testing.T) {
	c := open(t, testOptions(&simdisk.Disk{}))
	defer c.Abandon()
	mine, other := object(1, 0, 2*LineBytes), object(2, 0, 2*LineBytes)
	c.Put(mine, 0, content(mine))
	c.Put(other, 0, content(other))
	if n := c.DropLog(mine.Log); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
	if read(t, c, mine, 0, 10) || !read(t, c, other, 0, other.SizeBytes) {
		t.Error("the wrong one went")
	}
}
