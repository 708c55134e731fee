package journal

import (
	"context"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// gated is storage whose writes and syncs wait at a gate.
type gated struct {
	*simdisk.Disk
	writes, syncs sync.Mutex
}

type gatedFile struct {
	disk.File
	g *gated
}

func (g *gated) Open(path string) (disk.File, error) {
	f, err := g.Disk.Open(path)
	return gatedFile{f, g}, err
}

func (f gatedFile) WriteAt(p []byte, at int64) (int, error) {
	f.g.writes.Lock()
	defer f.g.writes.Unlock()
	return f.File.WriteAt(p, at)
}

func (f gatedFile) Sync() error {
	f.g.syncs.Lock()
	defer f.g.syncs.Unlock()
	return f.File.Sync()
}

func openGated(t *testing.T) (*Journal, *gated) {
	g := &gated{Disk: filled(0)}
	j, err := Open(ctx, testOptions(g))
	must(t, err)
	must(t, j.Begin(ctx, 1))
	t.Cleanup(j.Abandon)
	return j, g
}

// queued waits until so many appends wait for the one that writes.
func (w *world) queued(n int) {
	for {
		w.j.mu.Lock()
		got := len(w.j.queue)
		w.j.mu.Unlock()
		if got == n {
			return
		}
		runtime.Gosched()
	}
}

func one(first vlog.Block) *Batch {
	return &Batch{Changes: []Change{{First: first, Count: 1, Data: make([]byte, block)}}}
}

// TestGroupCommit: what is queued while one writes is one write and one record;
// a seal among it splits the record, and is not crossed.
func TestGroupCommit(t *testing.T) {
	j, g := openGated(t)
	w := &world{d: g.Disk, j: j}
	before := j.Stats()

	g.writes.Lock()
	var running sync.WaitGroup
	var order []*Batch
	var batches []*Batch
	appendOne := func(b *Batch) {
		b.Apply = func() { order = append(order, b) }
		batches = append(batches, b)
		running.Go(func() { must(t, j.Append(ctx, b)) })
	}
	appendOne(one(0))
	for !w.leads() {
		runtime.Gosched()
	}
	w.queued(0)
	for i, b := range []*Batch{one(1), one(2), {Seal: &Seal{Snapshot: testSnapshot}}, one(3)} {
		appendOne(b)
		w.queued(i + 1)
	}
	g.writes.Unlock()
	running.Wait()

	s := j.Stats()
	if got := s.Writes - before.Writes; got != 3 { // a small ring's buffer holds five blocks
		t.Errorf("%d writes for 5 batches, want 3", got)
	}
	if got := s.Records - before.Records; got != 4 {
		t.Errorf("%d records, want 4", got)
	}
	for i, b := range batches {
		if order[i] != b {
			t.Errorf("batch %d was not applied in its place", i)
		}
	}
	if batches[1].Record != batches[2].Record || batches[2].End != batches[3].Record || batches[3].End != batches[4].Record {
		t.Errorf("records %d %d | %d | %d, want the seal between", batches[1].Record, batches[2].Record, batches[3].Record, batches[4].Record)
	}
	mustBe(t, j.Recycle(ctx, batches[4].End), fault.Invalid) // not durable
	must(t, j.Flush(ctx))
	mustBe(t, j.Recycle(ctx, batches[1].Record+block), fault.Invalid) // not a record
	must(t, j.Recycle(ctx, batches[3].Record))
	must(t, j.Recycle(ctx, 0)) // long ago
	mustBe(t, j.Read(ctx, batches[1].Changes[0].At, make([]byte, block)), fault.NotFound)
	for _, err := range j.Records(ctx, batches[0].Record, batches[4].End) {
		mustBe(t, err, fault.NotFound)
	}
	must(t, j.Read(ctx, batches[4].Changes[0].At, make([]byte, block)))
}

func (w *world) leads() bool {
	w.j.mu.Lock()
	defer w.j.mu.Unlock()
	return w.j.leading
}

// TestCancelledAppend: an append that nobody took up yet leaves nothing behind;
// one that is under way is waited for.
func TestCancelledAppend(t *testing.T) {
	j, g := openGated(t)
	w := &world{d: g.Disk, j: j}

	g.writes.Lock()
	short, cancel := context.WithCancel(ctx)
	results := make(chan error, 3)
	leader := one(1)
	go func() { results <- j.Append(short, leader) }()
	for !w.leads() {
		runtime.Gosched()
	}
	w.queued(0)
	go func() { results <- j.Append(short, one(2)) }()
	w.queued(1)
	cancel()
	mustBe(t, <-results, fault.Canceled)
	g.writes.Unlock()
	must(t, <-results)
	mustBe(t, j.Append(short, one(3)), fault.Canceled)
	if s := j.State(); s.End != leader.End || j.pace.reserved != 0 {
		t.Errorf("ends at %d, %d bytes reserved; want %d and none", s.End, j.pace.reserved, leader.End)
	}
	must(t, j.Append(ctx, one(4)))
}

// TestFlushesShareASync: those that wait for what a running sync covers wait for
// that, all others for the next one.
func TestFlushesShareASync(t *testing.T) {
	j, g := openGated(t)
	must(t, j.Append(ctx, one(1)))
	g.syncs.Lock()
	var running sync.WaitGroup
	flush := func(n int) {
		for range n {
			running.Go(func() { must(t, j.Flush(ctx)) })
		}
	}
	flush(1)
	for syncing := false; !syncing; {
		j.mu.Lock()
		syncing = j.syncing != nil
		j.mu.Unlock()
		runtime.Gosched()
	}
	flush(5)
	must(t, j.Append(ctx, one(2))) // appends go on meanwhile
	flush(10)
	short, cancel := context.WithCancel(ctx)
	cancel()
	mustBe(t, j.Flush(short), fault.Canceled)
	g.syncs.Unlock()
	running.Wait()
	if got := j.Stats().Syncs; got != 2 {
		t.Errorf("%d syncs for 16 flushes, want 2", got)
	}
	if j.Durable() != j.State().End {
		t.Error("not everything is durable")
	}
}

// TestWindow: no header is too far ahead of what it knows to be durable, though
// nobody flushes; recovery looks no further than that.
func TestWindow(t *testing.T) {
	w := began(t, 0)
	w.fill(t, 1)
	if got := w.j.Stats().Syncs; got == 0 || got > 10 {
		t.Errorf("%d syncs, want some", got)
	}
	s := &scan{j: w.j, buffer: *w.j.buffer()}
	for c := w.j.tail; c.at < w.j.end.at; {
		h, _, err := s.next(c)
		must(t, err)
		if got := int64(h.end() - h.durable); got > w.j.ring.window() && h.typ != padRecord {
			t.Errorf("record at %d ends %d ahead of what is durable, want at most %d", h.at, got, w.j.ring.window())
		}
		c = h.after()
	}
}

// TestMemory: the checksums of what was given back are let go, wherever the ring
// is cut.
func TestMemory(t *testing.T) {
	r := ring{16 << 20}
	for start := vlog.LSN(0); start < 2*16<<20; start += 777 * block {
		s := sums{ring: r}
		at, tail := start, start
		for range 20 {
			for i := 0; i < 1500 && at+block <= tail+16<<20; i++ {
				s.set(at, uint32(at/block))
				at += block
			}
			s.release(tail, at-700*block, at)
			tail = at - 700*block
			for p := tail; p < at; p += block {
				if s.get(p) != uint32(p/block) {
					t.Fatalf("the checksum at %d is lost, with the tail at %d", p, tail)
				}
			}
			if got := s.bytes(); got > 3*4*slabBlocks {
				t.Fatalf("%d bytes for 700 blocks", got)
			}
		}
		s.release(tail, at, at)
		if got := s.bytes(); got > 4*slabBlocks {
			t.Fatalf("%d bytes for nothing", got)
		}
	}
}

// TestEverybodyAtOnce: writers, flushers, readers, a recycler and the filling of
// the ring; every block that is in use reads as it was written, and applied order
// is the journal's.
func TestEverybodyAtOnce(t *testing.T) {
	d := &simdisk.Disk{}
	o := testOptions(d)
	o.Size = 4 << 20
	j, err := Create(ctx, o)
	must(t, err)
	must(t, j.Begin(ctx, 1))
	var mu sync.Mutex
	var applied []*Batch
	var running, recycler sync.WaitGroup
	over := make(chan struct{})
	recycler.Go(func() { recycleOften(t, j, &mu, &applied, over) })
	for i := range 8 {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 3))
			for n := range 150 {
				b := &Batch{}
				for range 1 + random.IntN(3) {
					b.Changes = append(b.Changes, (&world{}).change(uint64(i*1000+n), len(b.Changes), Data, 1+random.Uint64N(4)))
				}
				b.Apply = func() {
					mu.Lock()
					applied = append(applied, b)
					mu.Unlock()
				}
				must(t, j.Append(ctx, b))
				if random.IntN(3) == 0 {
					must(t, j.Flush(ctx))
				}
				c := b.Changes[random.IntN(len(b.Changes))]
				p := make([]byte, len(c.Data))
				if err := j.Read(ctx, c.At, p); err == nil && string(p) != string(c.Data) {
					t.Errorf("other data at %d", c.At)
				} else if err != nil && !fault.Is(err, fault.NotFound) {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	close(over)
	recycler.Wait()
	for i := 1; i < len(applied); i++ {
		if applied[i].Record < applied[i-1].Record {
			t.Fatalf("batch at %d applied after the one at %d", applied[i].Record, applied[i-1].Record)
		}
	}
	if len(applied) != 8*150 {
		t.Errorf("%d applied", len(applied))
	}
	must(t, j.Close(ctx))
	j, err = Open(ctx, o)
	must(t, err)
	s := j.State()
	for _, err := range j.Records(ctx, s.Tail, s.End) {
		must(t, err)
	}
	if !s.Clean || s.End < 2*4<<20 {
		t.Errorf("%+v, want a clean end after some laps", s)
	}
	j.Abandon()
}

func recycleOften(t *testing.T, j *Journal, mu *sync.Mutex, applied *[]*Batch, over chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		if s := j.State(); s.Used < 1<<20 {
			runtime.Gosched()
			continue
		}
		mu.Lock()
		all := *applied
		mu.Unlock()
		if len(all) > 10 {
			must(t, j.Flush(ctx))
			must(t, j.Recycle(ctx, all[len(all)-5].End))
		}
	}
}
