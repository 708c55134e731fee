package cache

import (
	"bytes"
	"context"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

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
		if s := c.Stats(); !fails.reads && (s.BadLines != 0 || s.Lines != 1) {
			t.Errorf("%s: what was not written is there: %+v", name, s)
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

type noStorage struct{ disk.Storage } // of which no other method is called

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

// TestSaved: what could not be stored is stored later, and so is what was dropped.
func TestSaved(t *testing.T) {
	d := &simdisk.Disk{}
	f := &flaky{Storage: d}
	now := &clock{now: time.Unix(1e9, 0)}
	o := testOptions(f)
	o.Now = now.read
	c := open(t, o)
	a, b := object(1, 0, LineBytes), object(1, 1, LineBytes)
	c.Put(a, 0, content(a))
	c.Put(b, 0, content(b))
	f.set(false, true)
	if err := c.save(ctx); err == nil {
		t.Error("stored by a disk that fails")
	}
	f.set(false, false)
	now.add(longRest)
	must(t, c.save(ctx))
	if decodePage(d.Bytes(testPath)[unit:unit+block], c.life, 0) == nil {
		t.Error("not stored again")
	}
	c.Drop(b, Range{0, 1})
	must(t, c.Close(ctx))
	c = open(t, o)
	defer c.Abandon()
	if s := c.Stats(); s.Lines != 1 || !read(t, c, a, 0, LineBytes) {
		t.Errorf("%+v, want the one that was not dropped", s)
	}
}

// TestWrongIndex: an index that is whole and wrong costs misses, once.
func TestWrongIndex(t *testing.T) {
	d := &simdisk.Disk{}
	c := open(t, testOptions(d))
	const objects = 8
	for i := range objects {
		o := object(1, i, LineBytes)
		c.Put(o, 0, content(o))
	}
	must(t, c.Close(ctx))
	page := d.Bytes(testPath)[unit : unit+block]
	entries := decodePage(page, c.life, 0)
	first := entries[0]
	copy(entries, entries[1:objects])
	entries[objects-1] = first
	clear(page)
	putPage(page, entries, c.life, 0)
	d.Damage(testPath, unit, page)
	c = open(t, testOptions(d))
	defer c.Abandon()
	for round := range 2 {
		for i := range objects {
			if hit := read(t, c, object(1, i, LineBytes), 0, LineBytes); hit != (round == 1) {
				t.Errorf("round %d, object %d: hit %v", round, i, hit)
			}
		}
		quiet(c)
		c.index.check(t)
	}
	if s := c.Stats(); s.BadLines != objects {
		t.Errorf("%d bad lines, want %d", s.BadLines, objects)
	}
}

// TestGroups: lines of a second group of a real file are found again.
func TestGroups(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "cache"), SizeBytes: fileBytes(groupLines + 20), SaveEvery: time.Hour}
	c := open(t, o)
	for range groupLines - 10 {
		c.index.pop(&c.index.free) // as if they were used
	}
	a := object(1, 0, 30*LineBytes)
	c.Put(a, 0, content(a))
	if !read(t, c, a, 0, a.SizeBytes) {
		t.Error("a miss")
	}
	must(t, c.Close(ctx))
	c = open(t, o)
	c.index.check(t)
	if s := c.Stats(); s.Lines != 30 || !read(t, c, a, 0, a.SizeBytes) {
		t.Errorf("opened again: %+v", s)
	}
	must(t, c.Close(ctx))
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
	read(t, c, b, 0, b.SizeBytes) // more than there is room for
	quiet(c)
	read(t, c, a, 0, LineBytes)
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
			t.Logf("%+v", s)
		}
		must(t, c.Close(ctx))
	}
}
