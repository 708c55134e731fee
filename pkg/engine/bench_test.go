package engine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

// benchBlocks is 1 GiB.
const benchBlocks = 1 << 18

// benchVolume opens a volume on files of a real disk, on a store in memory.
func benchVolume(b *testing.B, store objstore.Store) *Volume {
	dir := benchDir(b)
	c, err := cache.Open(b.Context(), cache.Options{Path: filepath.Join(dir, "cache"), SizeBytes: 2 << 30})
	must(b, err)
	e, err := New(Options{Cache: c})
	must(b, err)
	log := vlog.NewLogID()
	must(b, Create(b.Context(), store, log, epoch.Base{Blocks: benchBlocks, Time: time.Now()}))
	v, err := e.Open(b.Context(), OpenOptions{
		LogOptions: LogOptions{Store: store, Log: log}, Volume: volume.NewID(), Blocks: benchBlocks, Owner: "node",
		Journal: filepath.Join(dir, "journal"), JournalBytes: 1 << 30, Durability: JournalDurability,
	})
	must(b, err)
	b.Cleanup(func() {
		v.Abandon()
		must(b, e.Close())
		c.Abandon()
	})
	return v
}

func benchDir(b *testing.B) string {
	dir, err := os.MkdirTemp("/var/tmp", "engine-bench-")
	must(b, err)
	b.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// atDepth runs b.N operations from so many goroutines.
func atDepth(b *testing.B, depth int, do func(r *rand.Rand) error) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range depth {
		wg.Go(func() {
			r := rand.New(rand.NewPCG(1, uint64(i)))
			for left.Add(-1) >= 0 {
				if err := do(r); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "op/s")
}

// BenchmarkDurable writes 4 KiB at random and makes it durable, on a volume and on
// a plain file beside it.
func BenchmarkDurable(b *testing.B) {
	for _, depth := range []int{1, 32, 128} {
		b.Run(fmt.Sprintf("volume/%d", depth), func(b *testing.B) {
			v := benchVolume(b, memory.New())
			page := sync.Pool{New: func() any { p := disk.Buffer(4096); rand.NewChaCha8([32]byte{1}).Read(p); return &p }}
			atDepth(b, depth, func(r *rand.Rand) error {
				p := page.Get().(*[]byte)
				defer page.Put(p)
				if err := v.WriteAt(context.Background(), *p, r.Int64N(benchBlocks)*4096); err != nil {
					return err
				}
				return v.Flush(context.Background())
			})
		})
		b.Run(fmt.Sprintf("file/%d", depth), func(b *testing.B) {
			f, err := (disk.Files{}).Create(filepath.Join(benchDir(b), "file"), 1<<30, nil)
			must(b, err)
			defer f.Close()
			page := sync.Pool{New: func() any { p := disk.Buffer(4096); return &p }}
			atDepth(b, depth, func(r *rand.Rand) error {
				p := page.Get().(*[]byte)
				defer page.Put(p)
				if _, err := f.WriteAt(*p, r.Int64N(benchBlocks)*4096); err != nil {
					return err
				}
				return f.Sync()
			})
		})
	}
}

// BenchmarkSequential writes 1 MiB after another, beyond what the journal holds.
func BenchmarkSequential(b *testing.B) {
	const size = 1 << 20
	p := disk.Buffer(size)
	rand.NewChaCha8([32]byte{1}).Read(p)
	b.Run("volume", func(b *testing.B) {
		v := benchVolume(b, nowhere{memory.New()})
		b.SetBytes(size)
		var at atomic.Int64
		atDepth(b, 4, func(*rand.Rand) error {
			return v.WriteAt(context.Background(), p, (at.Add(1)-1)%(benchBlocks/256)*size)
		})
	})
	b.Run("file", func(b *testing.B) {
		f, err := (disk.Files{}).Create(filepath.Join(benchDir(b), "file"), 1<<30, nil)
		must(b, err)
		defer f.Close()
		b.SetBytes(size)
		var at atomic.Int64
		atDepth(b, 4, func(*rand.Rand) error {
			_, err := f.WriteAt(p, (at.Add(1)-1)%(benchBlocks/256)*size)
			return err
		})
	})
}

// nowhere forgets what is large: a store without a limit.
type nowhere struct{ *memory.Store }

func (s nowhere) Create(ctx context.Context, key string, body []byte) error {
	if len(body) > 1<<20 {
		body = body[:1<<20]
	}
	return s.Store.Create(ctx, key, body)
}

// BenchmarkRead reads 4 KiB at random: from the journal, and from the cache.
func BenchmarkRead(b *testing.B) {
	for _, depth := range []int{1, 32} {
		b.Run(fmt.Sprintf("cache/%d", depth), func(b *testing.B) {
			v := benchVolume(b, memory.New())
			p := disk.Buffer(4096)
			c := rand.NewChaCha8([32]byte{1})
			const blocks = 1 << 15
			order := rand.New(c).Perm(blocks)
			for _, i := range order {
				c.Read(p)
				must(b, v.WriteAt(b.Context(), p, int64(i)*4096))
			}
			must(b, v.Sync(b.Context()))
			page := sync.Pool{New: func() any { p := disk.Buffer(4096); return &p }}
			atDepth(b, depth, func(r *rand.Rand) error {
				p := page.Get().(*[]byte)
				defer page.Put(p)
				return v.ReadAt(context.Background(), *p, r.Int64N(blocks)*4096)
			})
			s := v.State().Stats.Image
			b.ReportMetric(float64(s.Cold)/float64(b.N), "cold/op")
		})
		b.Run(fmt.Sprintf("file/%d", depth), func(b *testing.B) {
			f, err := (disk.Files{}).Create(filepath.Join(benchDir(b), "file"), 128<<20, nil)
			must(b, err)
			defer f.Close()
			big := disk.Buffer(1 << 20)
			for i := range int64(128) {
				_, err := f.WriteAt(big, i<<20)
				must(b, err)
			}
			page := sync.Pool{New: func() any { p := disk.Buffer(4096); return &p }}
			atDepth(b, depth, func(r *rand.Rand) error {
				p := page.Get().(*[]byte)
				defer page.Put(p)
				_, err := f.ReadAt(*p, r.Int64N(1<<15)*4096)
				return err
			})
		})
	}
}
