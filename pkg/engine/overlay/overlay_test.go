package overlay

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// change is one of a record: data, or zeros.
type change struct {
	first  vlog.Block
	count  uint64
	at     vlog.LSN // of the data; 0 for zeros
	record vlog.LSN
}

func (c change) apply(o *Overlay) {
	if c.at == 0 {
		o.Zero(c.first, c.count, c.record)
	} else {
		o.Write(c.first, c.count, c.at)
	}
}

// entriesOf returns what the segment of changes covers.
func entriesOf(changes []change) (entries []segment.Entry) {
	var b segment.Batch
	for _, c := range changes {
		if c.at == 0 {
			b.Zero(segment.Zeros, c.first, c.count)
		} else {
			b.Write(c.first, c.count, uint64(c.at)/vlog.BlockSize)
		}
	}
	for e := range b.Entries() {
		entries = append(entries, segment.Entry{Kind: e.Kind, First: e.First, Count: e.Count})
	}
	return entries
}

const modelBlocks = 1200

// model is what the overlay must be: the last change of each block. It has the
// journal as well: records that are formed, and how many of them are applied.
type model struct {
	o       Overlay
	refs    [modelBlocks]Ref
	records [][]change
	ends    []vlog.LSN // of the records
	applied int
	retired int
	settled vlog.LSN
	next    vlog.LSN
}

// append forms a record of changes and moves on.
func (m *model) append(changes []change) {
	record := m.next
	m.next += vlog.BlockSize
	for i := range changes {
		c := &changes[i]
		if c.record = record; c.at != 0 {
			c.at = m.next
			m.next += vlog.LSN(c.count * vlog.BlockSize)
		}
	}
	m.records, m.ends = append(m.records, changes), append(m.ends, m.next)
}

// apply makes the next record visible, unless it is in the table already.
func (m *model) apply() {
	for _, c := range m.records[m.applied] {
		c.apply(&m.o)
		for i := range c.count {
			switch {
			case m.ends[m.applied] <= m.settled:
			case c.at == 0:
				m.refs[c.first+vlog.Block(i)] = Zeros(c.record)
			default:
				m.refs[c.first+vlog.Block(i)] = Data(c.at + vlog.LSN(i*vlog.BlockSize))
			}
		}
	}
	m.applied++
}

// retire takes records into the table, also those that are not applied yet.
func (m *model) retire(n int) {
	var changes []change
	for _, r := range m.records[m.retired : m.retired+n] {
		changes = append(changes, r...)
	}
	m.retired += n
	m.settled = m.ends[m.retired-1]
	m.o.Retire(entriesOf(changes), m.settled)
	for b, r := range m.refs {
		if r.At() < m.settled {
			m.refs[b] = 0
		}
	}
}

func (m *model) check(t *rapid.T, first vlog.Block, count int) {
	got := make([]Ref, count)
	got[0] = Data(4096) // what was there is not taken for an answer
	any := m.o.Lookup(first, got)
	want := m.refs[first:][:count]
	if any != slices.ContainsFunc(want, Ref.Known) {
		t.Fatalf("look up %d blocks from %d: got any %v, want the other", count, first, any)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("block %d: got %s, want %s", first+vlog.Block(i), got[i].text(), want[i].text())
		}
	}
}

func (r Ref) text() string {
	return fmt.Sprintf("{known %v zero %v at %d}", r.Known(), r.Zero(), r.At()/vlog.BlockSize)
}

// TestModel: whatever was written, discarded and retired, a block's ref is that of
// its last change which is not in the table.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &model{next: vlog.BlockSize * vlog.LSN(rapid.IntRange(0, 1).Draw(t, "start"))}
		t.Repeat(map[string]func(*rapid.T){
			"record": func(t *rapid.T) {
				var changes []change
				for range rapid.IntRange(1, 4).Draw(t, "changes") {
					c := change{first: vlog.Block(rapid.IntRange(0, modelBlocks-1).Draw(t, "first"))}
					most := uint64(modelBlocks - c.first)
					switch rapid.IntRange(0, 3).Draw(t, "kind") {
					case 0:
						c.count = min(most, rapid.Uint64Range(1, SmallRange).Draw(t, "small"))
					case 1:
						c.count = min(most, rapid.Uint64Range(SmallRange+1, modelBlocks).Draw(t, "large"))
					default:
						c.count, c.at = min(most, rapid.Uint64Range(1, 40).Draw(t, "data")), 1
					}
					changes = append(changes, c)
				}
				m.append(changes)
				if rapid.IntRange(0, 3).Draw(t, "late") > 0 {
					for m.applied < len(m.records) {
						m.apply()
					}
				}
			},
			"apply": func(t *rapid.T) {
				if m.applied < len(m.records) {
					m.apply()
				}
			},
			"retire": func(t *rapid.T) {
				if n := len(m.records) - m.retired; n > 0 {
					m.retire(rapid.IntRange(1, n).Draw(t, "records"))
				}
			},
			"look up": func(t *rapid.T) {
				first := rapid.IntRange(0, modelBlocks-1).Draw(t, "from")
				m.check(t, vlog.Block(first), rapid.IntRange(1, min(256, modelBlocks-first)).Draw(t, "run"))
			},
			"": func(t *rapid.T) { m.check(t, 0, modelBlocks) },
		})
		for m.applied < len(m.records) {
			m.apply()
		}
		if m.retired < len(m.records) {
			m.retire(len(m.records) - m.retired)
		}
		if !m.o.Empty() {
			t.Fatal("everything is in the table: want it empty")
		}
	})
}

// TestReaders: beside changes and Retire, a reader finds each block as it was last
// written or newer, unless that is in the table by then.
func TestReaders(t *testing.T) {
	const blocks, records = 4096, 3000
	var o Overlay
	var last [blocks]atomic.Uint64 // of each block, the position of a change that was applied
	var settled atomic.Uint64
	formed := make(chan change, records)
	var done atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() { // the writer
		defer close(formed)
		r := rand.New(rand.NewPCG(1, 1))
		for i := range records {
			c := change{first: vlog.Block(r.IntN(blocks - 2000)), count: 1 + r.Uint64N(16), record: vlog.LSN(1+i*20) * vlog.BlockSize}
			if i%50 == 0 {
				c.count = 100 + r.Uint64N(1900)
			} else {
				c.at = c.record + vlog.BlockSize
			}
			c.apply(&o)
			for i := range c.count {
				last[uint64(c.first)+i].Store(uint64(c.record))
			}
			formed <- c
		}
	})
	wg.Go(func() { // the applier
		defer done.Store(true)
		var segment []change
		for c := range formed {
			if segment = append(segment, c); len(segment) < 100 {
				continue
			}
			before := c.record + 20*vlog.BlockSize
			settled.Store(uint64(before)) // it is in the table
			o.Retire(entriesOf(segment), before)
			segment = nil
		}
	})
	for i := range 2 {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(2, uint64(i)))
			var refs [64]Ref
			var was [64]uint64
			for !done.Load() {
				first := r.IntN(blocks - len(refs))
				for k := range was {
					was[k] = last[first+k].Load()
				}
				o.Lookup(vlog.Block(first), refs[:])
				for k, ref := range refs {
					if was[k] > 0 && uint64(ref.At()) < was[k] && (ref.Known() || was[k] >= settled.Load()) {
						t.Errorf("block %d: got %s, want a position from %d on", first+k, ref.text(), was[k]/vlog.BlockSize)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	if !o.Empty() {
		t.Error("everything is in the table: want it empty")
	}
}

// heap returns the bytes of Go's heap that are in use.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// million fills the overlay with single blocks, and returns what takes them out
// again but for the last few.
func million(o *Overlay, n, few int) (retire func()) {
	at := func(i int) vlog.LSN { return vlog.LSN(i+1) * 2 * vlog.BlockSize }
	for i := range n {
		o.Write(vlog.Block(i)*7919%(1<<29), 1, at(i))
	}
	return func() {
		for i := 0; i < n-few; i += 2000 {
			end := min(i+2000, n-few)
			var entries []segment.Entry
			for k := i; k < end; k++ {
				entries = append(entries, segment.Entry{First: vlog.Block(k) * 7919 % (1 << 29), Count: 1})
			}
			slices.SortFunc(entries, func(a, b segment.Entry) int { return int(a.First) - int(b.First) })
			o.Retire(entries, at(end))
		}
	}
}

// TestMemory: Bytes is not less than what is taken, and comes back when the blocks
// go, also while a few stay.
func TestMemory(t *testing.T) {
	for _, n := range []int{30_000, 250_000, 1_000_000} {
		var o Overlay
		before := heap()
		retire := million(&o, n, 1000)
		taken, said := heap()-before, o.Bytes()
		t.Logf("%d blocks: %d bytes each, said %d", n, taken/int64(n), said/int64(n))
		if said < taken || said > 4*taken {
			t.Errorf("%d blocks: Bytes is %d, want at least the %d that they take, and no more than four times", n, said, taken)
		}
		retire()
		if left, said := heap()-before, o.Bytes(); left > taken/4 || said > taken/4 {
			t.Errorf("%d blocks went, 1000 stayed: got %d bytes in use, Bytes %d, want a quarter of %d at most", n-1000, left, said, taken)
		}
		runtime.KeepAlive(&o)
	}
	var o Overlay
	before := heap()
	const n = 100_000
	for i := range n {
		o.Zero(vlog.Block(i*7919%n*4096), 100, vlog.LSN(i+1)*vlog.BlockSize)
	}
	if taken, said := heap()-before, o.Bytes(); said < taken || said > 2*taken {
		t.Errorf("%d spans: Bytes is %d, want at least the %d that they take, and no more than twice", n, said, taken)
	}
	o.Retire([]segment.Entry{{First: 0, Count: n * 4096}}, (n+1)*vlog.BlockSize)
	if !o.Empty() || o.Bytes() != 0 {
		t.Errorf("all spans went: got %d bytes", o.Bytes())
	}
}

// TestPauses: with a million blocks, a discard of 2 TiB takes no time, and readers
// do not wait for what takes it out again, nor for 100,000 discards that it is made
// of.
func TestPauses(t *testing.T) {
	const tib2 = 1 << 29
	var o Overlay
	million(&o, 1_000_000, 0)
	end := vlog.LSN(4_000_000) * vlog.BlockSize
	began := time.Now()
	o.Zero(0, tib2, end)
	t.Logf("discard of 2 TiB over a million blocks: %v", time.Since(began))
	if took := time.Since(began); took > 50*time.Millisecond {
		t.Errorf("discard of 2 TiB took %v: want 50 ms", took)
	}
	t.Logf("retiring it: %v", retiring(t, &o, []segment.Entry{{Kind: segment.Zeros, Count: tib2}}, end+1))
	const n = 100_000
	began = time.Now()
	for i := range vlog.LSN(n) {
		o.Zero(vlog.Block(i*7919%n*4096), 100, end+(i+1)*vlog.BlockSize)
	}
	t.Logf("%d discards: %v each", n, time.Since(began)/n)
	t.Logf("retiring them: %v", retiring(t, &o, []segment.Entry{{Kind: segment.Zeros, Count: tib2}}, end*2))
	if !o.Empty() {
		t.Error("everything went: want it empty")
	}
}

// retiring retires, and returns for how long a reader waited at most meanwhile, and
// how long it took.
func retiring(t *testing.T, o *Overlay, entries []segment.Entry, before vlog.LSN) string {
	done := make(chan time.Duration)
	go func() {
		began := time.Now()
		o.Retire(entries, before)
		done <- time.Since(began)
	}()
	var waits []time.Duration
	var refs [1]Ref
	for {
		select {
		case took := <-done:
			slices.Sort(waits)
			if n := len(waits); n > 0 && waits[n*99/100] > 10*time.Millisecond {
				t.Errorf("one read in 100 waited for %v: want at most 10 ms", waits[n*99/100])
			}
			if len(waits) < 10 {
				t.Errorf("%d reads passed in %v: want more", len(waits), took)
			}
			return fmt.Sprintf("%v, %d reads passed, the slowest after %v", took, len(waits), waits[len(waits)-1])
		default:
			began := time.Now()
			o.Lookup(5, refs[:])
			waits = append(waits, time.Since(began))
		}
	}
}

// BenchmarkLookup finds a block among a million, and one that is not there, with and
// without spans.
func BenchmarkLookup(b *testing.B) {
	for _, spans := range []int{0, 1, 100_000} {
		b.Run(fmt.Sprintf("%d spans", spans), func(b *testing.B) {
			var o Overlay
			million(&o, 1_000_000, 0)
			for i := range spans {
				o.Zero(vlog.Block(i*4096+1<<30), 100, vlog.LSN(4_000_000+i)*vlog.BlockSize)
			}
			var refs [1]Ref
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				o.Lookup(vlog.Block(i)*7919%(1<<29), refs[:])
			}
		})
	}
}
