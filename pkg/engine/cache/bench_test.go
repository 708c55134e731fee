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
	benchRound   = 300 * time.Millisecond
)

// BenchmarkHit compares reads of frames of one block that the cache has, as they
// are if they do not compress and if they compress to a half, with pread(O_DIRECT)
// of the same file at random places, by as many goroutines, in alternating rounds:
// of one block, and of the two that a frame lies in at most times. It reports the
// medians of the rounds' ratios and rates, and of what the median latency is more
// than the raw one's.
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
	hit := func(frame int64) func(*rand.Rand) {
		return func(r *rand.Rand) {
			p := buffers.Get().(*[]byte)
			defer buffers.Put(p)
			at := 80 + r.Int64N((benchObject-80)/frame)*frame
			_, err := c.Read(ctx, object(1, r.IntN(benchObjects), benchObject), at, (*p)[:frame], neverFetch)
			must(b, err)
		}
	}
	for _, d := range []struct {
		depth int
		frame int64
	}{{1, 4128}, {32, 4128}, {1, 2080}, {32, 2080}} {
		depth := d.depth
		b.Run(fmt.Sprintf("depth=%d/frame=%d", depth, d.frame), func(b *testing.B) {
			var one, two, more, rates, raws []float64
			for b.Loop() {
				r1 := measure(depth, pread(block))
				h := measure(depth, hit(d.frame))
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

// BenchmarkPut compares putting segments into a full cache with writing as many
// bytes into a file of the same size, 64 KiB at a time (O_DIRECT), in alternating
// rounds.
func BenchmarkPut(b *testing.B) {
	size := fileBytes(benchObjects * (benchObject/LineBytes + 1))
	c := open(b, Options{Path: filepath.Join(b.TempDir(), "cache"), SizeBytes: size})
	defer c.Abandon()
	raw, err := disk.Files{}.Create(filepath.Join(b.TempDir(), "raw"), size, make([]byte, block))
	must(b, err)
	defer raw.Close()
	data := content(object(1, 0, benchObject))
	piece := disk.Buffer(unit)
	write := func(i int) {
		for at := int64(0); at < benchObject; at += unit {
			_, err := raw.WriteAt(piece, int64(i)*benchObject%(size-benchObject)/unit*unit+at)
			must(b, err)
		}
	}
	put := func(i int) { c.Put(object(1, i, benchObject), 0, data) }
	n := 0
	for range 2 * benchObjects { // every block is written once before
		write(n)
		put(n)
		n++
	}
	var ratios, rates []float64
	for b.Loop() {
		seconds := func(do func(int)) float64 {
			began := time.Now()
			for i := range 8 {
				do(n + i)
			}
			return time.Since(began).Seconds()
		}
		r := seconds(write)
		p := seconds(put)
		n += 8
		ratios, rates = append(ratios, r/p), append(rates, 8*benchObject/1e6/p)
	}
	b.ReportMetric(median(ratios), "x-pwrite-64k")
	b.ReportMetric(median(rates), "put-MB/s")
	b.ReportMetric(0, "ns/op")
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
