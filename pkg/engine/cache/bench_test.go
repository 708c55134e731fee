package cache

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
)

const (
	benchObject  = 8 << 20
	benchObjects = 32
	benchFrame   = 4096 + 32 // a block that does not compress, as a frame
	benchRound   = 300 * time.Millisecond
)

// BenchmarkHit compares reads of frames of one block that the cache has with
// pread(O_DIRECT) of the same file at random places, by as many goroutines, in
// alternating rounds: of one block, and of the two that such a frame lies in. It
// reports the medians of the rounds' ratios and rates, and of what the median
// latency is more than the raw one's.
func BenchmarkHit(b *testing.B) {
	path := filepath.Join(b.TempDir(), "cache")
	c := open(b, Options{Path: path, SizeBytes: fileBytes(benchObjects * (benchObject/LineBytes + 1))})
	defer c.Abandon()
	for i := range benchObjects {
		o := object(1, i, benchObject)
		c.Put(o, 0, content(o))
	}
	must(b, c.file.Sync())
	raw, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECT, 0)
	must(b, err)
	defer raw.Close()
	buffers := sync.Pool{New: func() any { p := disk.Buffer(2 * block); return &p }}
	pread := func(n int) func(*rand.Rand) {
		return func(r *rand.Rand) {
			p := buffers.Get().(*[]byte)
			defer buffers.Put(p)
			_, err := raw.ReadAt((*p)[:n], r.Int64N(fileBytes(len(c.index.prints))/block-1)*block)
			must(b, err)
		}
	}
	hit := func(r *rand.Rand) {
		p := buffers.Get().(*[]byte)
		defer buffers.Put(p)
		at := 80 + r.Int64N((benchObject-80)/benchFrame)*benchFrame
		_, err := c.Read(ctx, object(1, r.IntN(benchObjects), benchObject), at, (*p)[:benchFrame], neverFetch)
		must(b, err)
	}
	for _, depth := range []int{1, 32} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			var one, two, more, rates, raws []float64
			for b.Loop() {
				r1 := measure(depth, pread(block))
				h := measure(depth, hit)
				r2 := measure(depth, pread(2*block))
				one, two = append(one, h.rate/r1.rate), append(two, h.rate/r2.rate)
				more = append(more, (h.latency-r1.latency)/1e3)
				rates, raws = append(rates, h.rate), append(raws, r1.rate)
			}
			b.ReportMetric(median(one), "x-pread-4k")
			b.ReportMetric(median(two), "x-pread-8k")
			b.ReportMetric(median(more), "µs-over-pread-4k-p50")
			b.ReportMetric(median(rates), "hits/s")
			b.ReportMetric(median(raws), "pread-4k/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

func neverFetch(context.Context, Range) (int64, []byte, error) {
	return 0, nil, fault.New(fault.Internal, "a miss")
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
			random := rand.New(rand.NewPCG(uint64(i), uint64(began.UnixNano())))
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

// BenchmarkIndex is the cost of finding a line in memory, in a cache of 1 TiB.
func BenchmarkIndex(b *testing.B) {
	lines := linesIn(1 << 40)
	x := newIndex(lines)
	o := object(1, 0, MaxObject)
	p := o.printer()
	for slot := range lines {
		x.load(uint32(slot), entry{p.of(int64(slot)), 0xffff, proven})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for b.Loop() {
		q := o.printer().of(r.Int64N(int64(lines)))
		if x.use(q)&1 == 0 {
			b.Fatal("not there")
		}
	}
}
