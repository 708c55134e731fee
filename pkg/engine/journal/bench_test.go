package journal

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/vlog"
)

const (
	benchRing  = 256 << 20
	benchRound = 400 * time.Millisecond
)

// BenchmarkDurableWrites compares durable 4 KiB writes through the journal with
// pwrite + fdatasync at random places of a file of the same size, written before,
// by as many goroutines, in alternating rounds. It reports the medians of the
// rounds' ratios and of their rates, and the median ratio of the median latencies.
func BenchmarkDurableWrites(b *testing.B) {
	for _, depth := range []int{1, 32, 128} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			raw := newRaw(b)
			j := newBench(b)
			var ratios, latencies, raws, ours []float64
			before := j.Stats()
			for b.Loop() {
				r := measure(depth, raw)
				o := measure(depth, j.write)
				ratios, latencies = append(ratios, o.rate/r.rate), append(latencies, o.latency/r.latency)
				raws, ours = append(raws, r.rate), append(ours, o.rate)
			}
			after := j.Stats()
			b.ReportMetric(median(ratios), "x-raw-rate")
			b.ReportMetric(median(latencies), "x-raw-p50")
			b.ReportMetric(median(raws), "raw/s")
			b.ReportMetric(median(ours), "journal/s")
			b.ReportMetric(float64(after.Batches-before.Batches)/float64(after.Writes-before.Writes), "batches/write")
			b.ReportMetric(float64(after.Batches-before.Batches)/float64(after.Syncs-before.Syncs), "batches/sync")
			b.ReportMetric(0, "ns/op")
		})
	}
}

type result struct{ rate, latency float64 }

// measure runs op in so many goroutines for a round.
func measure(depth int, op func(*rand.Rand)) result {
	var all []float64
	var mu sync.Mutex
	var running sync.WaitGroup
	var over atomic.Bool
	began := time.Now()
	for i := range depth {
		running.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 7))
			var mine []float64
			for !over.Load() {
				start := time.Now()
				op(random)
				mine = append(mine, float64(time.Since(start)))
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, mine...)
		})
	}
	end := time.AfterFunc(benchRound, func() { over.Store(true) })
	running.Wait()
	end.Stop()
	return result{float64(len(all)) / time.Since(began).Seconds(), median(all)}
}

func median(v []float64) float64 {
	v = slices.Clone(v)
	slices.Sort(v)
	return v[len(v)/2]
}

// newRaw returns a durable write at a random place.
func newRaw(b *testing.B) func(*rand.Rand) {
	f, err := disk.Files{}.Create(filepath.Join(b.TempDir(), "raw"), benchRing, make([]byte, block))
	must(b, err)
	b.Cleanup(func() { f.Close() })
	chunk := disk.Buffer(1 << 20)
	for at := int64(0); at < benchRing; at += int64(len(chunk)) {
		_, err := f.WriteAt(chunk, at)
		must(b, err)
	}
	must(b, f.Sync())
	data := sync.Pool{New: func() any { p := disk.Buffer(block); return &p }}
	return func(r *rand.Rand) {
		p := data.Get().(*[]byte)
		defer data.Put(p)
		_, err := f.WriteAt(*p, r.Int64N(benchRing/block)*block)
		if err == nil {
			err = f.Sync()
		}
		must(b, err)
	}
}

// benchJournal is a journal in use: what is written is given back, a segment at a
// time.
type benchJournal struct {
	*Journal
	b    *testing.B
	back chan vlog.LSN
}

func newBench(b *testing.B) *benchJournal {
	o := testOptions(nil)
	o.Path, o.Size = filepath.Join(b.TempDir(), "journal"), benchRing
	j, err := Create(ctx, o)
	must(b, err)
	must(b, j.Begin(ctx, 1))
	if !j.filler.reached(benchRing) {
		b.Fatal("not filled")
	}
	x := &benchJournal{j, b, make(chan vlog.LSN, 1)}
	var recycler sync.WaitGroup
	recycler.Go(func() {
		for at := range x.back {
			must(b, j.Recycle(ctx, at))
		}
	})
	b.Cleanup(func() {
		close(x.back)
		recycler.Wait()
		must(b, j.Close(ctx))
	})
	return x
}

func (x *benchJournal) write(r *rand.Rand) {
	data := benchBlocks.Get().(*[]byte)
	defer benchBlocks.Put(data)
	batch := Batch{Changes: []Change{{First: vlog.Block(r.Uint64N(1 << 28)), Count: 1, Data: *data}}}
	must(x.b, x.Append(ctx, &batch))
	must(x.b, x.Flush(ctx))
	if s := x.State(); s.Used > 8<<20 {
		select {
		case x.back <- batch.End:
		default:
		}
	}
}

var benchBlocks = sync.Pool{New: func() any { p := disk.Buffer(block); return &p }}
