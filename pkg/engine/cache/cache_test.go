package cache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
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

// TestFailedFetch: who waited for a fetch that failed gets its error, unless only
// its caller gave up: then one of the others fetches.
func TestFailedFetch(t *testing.T) {
	c := open(t, testOptions(&simdisk.Disk{}))
	defer c.Abandon()
	o := object(1, 0, LineBytes)
	for name, canceled := range map[string]bool{"failed": false, "gave up": true} {
		leading, cancel := context.WithCancel(ctx)
		inFetch, release := make(chan struct{}), make(chan struct{})
		boom := fault.New(fault.Transient, "down")
		var running sync.WaitGroup
		running.Go(func() {
			_, err := c.Read(leading, o, 0, make([]byte, 1), func(ctx context.Context, _ Range) (int64, []byte, error) {
				close(inFetch)
				<-release
				if canceled {
					cancel()
					return 0, nil, ctx.Err()
				}
				return 0, nil, boom
			})
			if err == nil {
				t.Errorf("%s: no error", name)
			}
		})
		<-inFetch
		calls := 0
		done := make(chan struct{})
		f, mine := c.flights.join(o, blocks{0, 1})
		if mine {
			t.Fatal("nobody fetches")
		}
		running.Go(func() {
			defer close(done)
			source, err := c.Read(ctx, o, 0, make([]byte, 1), fetcher(t, o, &calls))
			if canceled && (err != nil || source != Miss || calls != 1) || !canceled && calls == 0 && !errors.Is(err, boom) {
				t.Errorf("%s: other reader: %v, %v, %d fetches", name, source, err, calls)
			}
		})
		close(release)
		running.Wait()
		<-f.gone
		cancel()
		c.Drop(o, Range{0, o.SizeBytes})
		quiet(c)
	}
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

// TestFailingDisk: a disk that fails makes no read fail, is left alone, tried now
// and then, and used again when it works. One that cannot be written is read.
func TestFailingDisk(t *testing.T) {
	for name, fails := range map[string]struct{ reads, writes bool }{"writes": {false, true}, "reads": {true, false}, "both": {true, true}} {
		f := &flaky{Storage: &simdisk.Disk{}}
		now := &clock{now: time.Unix(1e9, 0)}
		o := testOptions(f)
		o.Now = now.read
		c := open(t, o)
		a, b := object(1, 0, LineBytes), object(1, 1, LineBytes)
		use := func() (hit bool) { // reads what was there before, and puts something new
			hit = read(t, c, a, 0, 10)
			c.Put(b, 0, content(b))
			quiet(c)
			return hit
		}
		c.Put(a, 0, content(a))
		if h := c.Health(); h != (Health{}) || !read(t, c, a, 0, 10) {
			t.Fatalf("before: %v", h)
		}
		f.set(fails.reads, fails.writes)
		use()
		h := c.Health()
		if h.ReadsBypassed != fails.reads || h.WritesBypassed != fails.writes || !fault.Is(h.Err, fault.Internal) {
			t.Errorf("%s: health %+v", name, h)
		}
		calls := c.Stats().Errors
		for range 10 {
			if hit := use(); hit != !fails.reads {
				t.Errorf("%s: hit %v", name, hit)
			}
		}
		if n := c.Stats().Errors - calls; n != 0 {
			t.Errorf("%s: the file was used %d times while it was to be left alone", name, n)
		}
		for range 12 { // each try fails, and the rests grow
			now.add(longRest)
			use()
			read(t, c, b, 0, 10)
		}
		f.set(false, false)
		now.add(longRest - 1)
		use()
		if h := c.Health(); h.ReadsBypassed != fails.reads || h.WritesBypassed != fails.writes {
			t.Errorf("%s: tried too soon: %+v", name, h)
		}
		for range 2 {
			now.add(longRest)
			use()
			read(t, c, b, 0, 10)
			quiet(c)
		}
		if h := c.Health(); h != (Health{}) || !use() || !read(t, c, b, 0, 10) {
			t.Errorf("%s: afterwards %+v", name, h)
		}
		c.Abandon()
	}
}

// TestNoDisk: a file that cannot be made or opened bypasses the cache.
func TestNoDisk(t *testing.T) {
	o := testOptions(noStorage{})
	c := open(t, o)
	a := object(1, 0, LineBytes)
	c.Put(a, 0, content(a))
	c.Drop(a, Range{0, 10})
	c.DropLog(a.Log)
	for range 3 {
		if read(t, c, a, 0, 10) {
			t.Error("a hit")
		}
		quiet(c)
	}
	if h := c.Health(); !h.ReadsBypassed || !h.WritesBypassed || !fault.Is(h.Err, fault.Exhausted) {
		t.Errorf("health %v", h)
	}
	mustBe(t, c.Resize(2*MinSize), fault.Precondition)
	if s := c.Stats(); s.SizeBytes != 0 || s.OfLines != 0 || s.Dropped == 0 {
		t.Errorf("%+v", s)
	}
	must(t, c.Close(ctx))
}

type noStorage struct{}

func (noStorage) Open(string) (disk.File, error) { return nil, fault.New(fault.NotFound, "none") }
func (noStorage) Create(string, int64, []byte) (disk.File, error) {
	return nil, fault.New(fault.Exhausted, "no space")
}

// TestOptions: every fault is named.
func TestOptions(t *testing.T) {
	_, err := Open(ctx, Options{Path: "a", SizeBytes: 5, PendingBytes: -1, SaveEvery: -1})
	mustBe(t, err, fault.Invalid)
	for _, word := range []string{`path "a"`, "size 5", "pending bytes -1", "save every -1"} {
		if !bytes.Contains([]byte(err.Error()), []byte(word)) {
			t.Errorf("%v: want %s", err, word)
		}
	}
	d := &simdisk.Disk{}
	c := open(t, testOptions(d))
	defer c.Abandon()
	_, err = Open(ctx, testOptions(d))
	mustBe(t, err, fault.InUse)
	for name, o := range map[string]Object{
		"a checkpoint": {Kind: vlog.CheckpointKind, SizeBytes: 10},
		"no size":      {Kind: vlog.SegmentKind},
		"too large":    {Kind: vlog.SegmentKind, SizeBytes: MaxObject + 1},
	} {
		c.Put(o, 0, make([]byte, 10))
		if _, err := c.Read(ctx, o, 0, make([]byte, 1), neverFetch); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	a := object(1, 0, 100)
	for _, r := range []Range{{-1, 5}, {0, 0}, {90, 101}} {
		if _, err := c.Read(ctx, a, r.At, make([]byte, r.End-r.At), neverFetch); !fault.Is(err, fault.Invalid) {
			t.Errorf("%v: %v", r, err)
		}
	}
}

// TestReopen: a clean end keeps everything, a death what was saved.
func TestReopen(t *testing.T) {
	d := &simdisk.Disk{}
	c := open(t, testOptions(d))
	var all []Object
	for i := range 5 {
		o := object(1, i, 2*LineBytes)
		all = append(all, o)
		c.Put(o, 0, content(o))
		if i == 2 {
			must(t, c.save(ctx))
		}
	}
	c.Abandon()
	d.Restart()
	c = open(t, testOptions(d))
	for i, o := range all {
		if hit := read(t, c, o, 0, o.SizeBytes); hit != (i <= 2) {
			t.Errorf("object %d after a death: hit %v", i, hit)
		}
	}
	quiet(c)
	must(t, c.Close(ctx))
	d.Crash(func(int) bool { return false })
	c = open(t, testOptions(d))
	defer c.Abandon()
	for i, o := range all {
		if !read(t, c, o, 0, o.SizeBytes) {
			t.Errorf("object %d after a clean end: a miss", i)
		}
	}
}

// TestResize: what fits stays, online and when it is opened with another size.
func TestResize(t *testing.T) {
	f := &flaky{Storage: &simdisk.Disk{}}
	o := testOptions(f)
	c := open(t, o)
	a := object(1, 0, LineBytes)
	c.Put(a, 0, content(a))
	must(t, c.Resize(2*MinSize))
	c.index.check(t)
	if s := c.Stats(); s.OfLines != int64(linesIn(2*MinSize)) || s.SizeBytes > 2*MinSize || !read(t, c, a, 0, LineBytes) {
		t.Errorf("grown: %+v", s)
	}
	b := object(1, 1, 20*LineBytes)
	c.Put(b, 0, content(b))
	must(t, c.Resize(MinSize))
	c.index.check(t)
	if s := c.Stats(); s.OfLines != int64(linesIn(MinSize)) || !read(t, c, a, 0, LineBytes) {
		t.Errorf("shrunk: %+v", s)
	}
	read(t, c, b, 0, b.SizeBytes)
	quiet(c)
	mustBe(t, c.Resize(MinSize-1), fault.Invalid)
	must(t, c.Close(ctx))

	o.SizeBytes = 3 * MinSize
	f.resizes = true
	c = open(t, o)
	if h := c.Health(); h.ReadsBypassed || h.WritesBypassed || !fault.Is(h.Err, fault.Exhausted) || !read(t, c, a, 0, LineBytes) {
		t.Errorf("no room: %v", h)
	}
	must(t, c.Close(ctx))
	f.resizes = false
	c = open(t, o)
	if s := c.Stats(); s.OfLines != int64(linesIn(3*MinSize)) || c.Health().Err != nil || !read(t, c, a, 0, LineBytes) {
		t.Errorf("opened larger: %+v", s)
	}
	c.Abandon()
}

// TestPending: what is fetched faster than it is written is not kept, and uses no
// more memory than it may.
func TestPending(t *testing.T) {
	o := testOptions(&simdisk.Disk{})
	o.PendingBytes = 3 * payload
	c := open(t, o)
	defer c.Abandon()
	c.shape.Lock() // nothing is written meanwhile
	for i := range 10 {
		a := object(1, i, payload)
		read(t, c, a, 0, payload)
		if n := c.Stats().PendingBytes; n > o.PendingBytes {
			t.Errorf("%d bytes are pending, want at most %d", n, o.PendingBytes)
		}
	}
	// Those that wait are read from memory.
	if s := c.Stats(); s.Misses != 10 || s.PendingBytes != o.PendingBytes {
		t.Errorf("%+v", s)
	}
	if hit := read(t, c, object(1, 0, payload), 0, payload); hit || c.Stats().Shared != 1 {
		t.Error("not answered by the fetch that waits")
	}
	c.shape.Unlock()
	quiet(c)
	if s := c.Stats(); s.Lines != 3 {
		t.Errorf("%d lines, want 3", s.Lines)
	}
}

// TestSaves: the index is stored some time after a fill, by itself.
func TestSaves(t *testing.T) {
	d := &simdisk.Disk{}
	o := testOptions(d)
	o.SaveEvery = time.Millisecond
	c := open(t, o)
	defer c.Abandon()
	a := object(1, 0, LineBytes)
	c.Put(a, 0, content(a))
	deadline := time.After(10 * time.Second)
	for {
		b := d.Bytes(testPath)[unit : unit+block]
		if e := decodePage(b, c.life, 0); e != nil && e[0].print == a.printer().of(0) {
			return
		}
		select {
		case <-deadline:
			t.Fatal("not stored")
		case <-time.After(time.Millisecond):
		}
	}
}

// TestAtOnce: everything at the same time, on real files.
func TestAtOnce(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "cache"), SizeBytes: 2 * MinSize, SaveEvery: time.Millisecond, PendingBytes: 4 * LineBytes}
	for range 2 { // the second with what the first left
		c := open(t, o)
		rounds := 60
		if soak {
			rounds = 20000
		}
		var running sync.WaitGroup
		for g := range 8 {
			running.Go(func() {
				for i := range rounds {
					n := int(scramble(uint64(g*rounds + i)))
					if n < 0 {
						n = -n
					}
					a := object(byte(n%2), n/2%12, 3*LineBytes-7)
					at := int64(n/64) % (a.SizeBytes - 5000)
					switch {
					case n%17 == 0:
						c.Put(a, 0, content(a))
					case n%53 == 0:
						c.Drop(a, Range{at, at + 5000})
					case n%101 == 0:
						c.DropLog(a.Log)
					case n%67 == 0:
						if err := c.Resize(2*MinSize + int64(n/64%8)*unit); err != nil {
							t.Error(err)
						}
					default:
						p := make([]byte, 5000)
						if _, err := c.Read(ctx, a, at, p, func(_ context.Context, r Range) (int64, []byte, error) {
							return r.At, content(a)[r.At:r.End], nil
						}); err != nil || !bytes.Equal(p, content(a)[at:at+5000]) {
							t.Errorf("%s at %d: %v, or other bytes", a, at, err)
						}
					}
				}
			})
		}
		running.Wait()
		quiet(c)
		c.index.check(t)
		if s := c.Stats(); s.Hits == 0 || s.Misses == 0 || s.Errors != 0 || c.Health().Err != nil {
			t.Errorf("%+v, %v", s, c.Health())
		} else {
			t.Log(fmt.Sprintf("%+v", s))
		}
		must(t, c.Close(ctx))
	}
}
