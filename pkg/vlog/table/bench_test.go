package table

import (
	"context"
	"math/rand/v2"
	"runtime"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/vlog"
)

const tib = vlog.Block(1 << 28)

// fill sets every block of a table from 0 to n, 16 blocks a step.
func fill(b testing.TB, t *Table, n vlog.Block) {
	for at := vlog.Block(0); at < n; at += 16 {
		must(b, t.Set(b.Context(), at, 16, vlog.NewPointer(uint32(at/2048), 80+int64(at%2048)/16*65568, 65568, 0)))
	}
}

// BenchmarkFlat is the plain thing to compare with: a two-level array without
// locks, counts and paging.
func BenchmarkFlat(b *testing.B) {
	const blocks = 1 << 22
	dir := make([]*Words, blocks/Fanout)
	for i := range dir {
		dir[i] = new(Words)
	}
	r := rand.New(rand.NewPCG(1, 1))
	at := make([]uint32, 1<<16)
	for i := range at {
		at[i] = uint32(r.IntN(blocks))
	}
	b.ResetTimer()
	for i := range b.N {
		x := at[i&(1<<16-1)]
		dir[x>>9][x&511] = vlog.Pointer(i)
	}
}

// BenchmarkTable updates and looks up random blocks of 16 GiB in memory.
func BenchmarkTable(b *testing.B) {
	const blocks = 1 << 22
	t, err := New(Options{Blocks: blocks})
	must(b, err)
	defer t.Close()
	fill(b, t, blocks)
	r := rand.New(rand.NewPCG(1, 1))
	at := make([]vlog.Block, 1<<16)
	for i := range at {
		at[i] = vlog.Block(r.IntN(blocks))
	}
	p := vlog.NewPointer(5, 80, 4128, 0)
	ctx := b.Context()
	b.Run("update", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			_ = t.Set(ctx, at[i&(1<<16-1)], 1, p)
		}
	})
	b.Run("lookup", func(b *testing.B) {
		b.ReportAllocs()
		for i := range b.N {
			_, _ = t.Lookup(ctx, at[i&(1<<16-1)])
		}
	})
	b.Run("update16", func(b *testing.B) {
		for i := range b.N {
			_ = t.Set(ctx, at[i&(1<<16-1)]&^15, 16, p)
		}
	})
}

// BenchmarkDiscard2TiB drops 2 TiB of which every directory is in memory, with 128k leaves.
func BenchmarkDiscard2TiB(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		t, err := New(Options{Blocks: 2 * tib})
		must(b, err)
		for at := vlog.Block(0); at < 2*tib; at += 8 * Fanout { // every eighth leaf: 512 MiB
			must(b, t.Set(b.Context(), at, 1, vlog.NewPointer(uint32(at/2048), 80, 4128, 0)))
		}
		b.StartTimer()
		start := time.Now()
		must(b, t.Zero(b.Context(), 0, uint64(2*tib)))
		b.ReportMetric(float64(time.Since(start).Microseconds())/1000, "ms/discard")
		b.StopTimer()
		t.Close()
		b.StartTimer()
	}
}

// BenchmarkPaged is 1 TiB of which every block is mapped, in 320 MiB: most
// lookups load a page, from a pager that costs nothing.
func BenchmarkPaged(b *testing.B) {
	t, err := New(Options{Blocks: tib, LimitBytes: 290 << 20, Pager: made{}})
	must(b, err)
	defer t.Close()
	root := make([]Entry, tib/DirectoryBlocks)
	for i := range root {
		root[i] = Entry{uint64(i), vlog.NewPointer(1, 80, 4128, 0)}
	}
	must(b, t.Restore(root, make([]uint32, 1<<20), nil))
	r := rand.New(rand.NewPCG(1, 1))
	ctx := b.Context()
	run := func(name string, span vlog.Block) {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				_, err := t.Lookup(ctx, vlog.Block(r.Uint64N(uint64(span))))
				must(b, err)
			}
			b.ReportMetric(float64(t.MemoryBytes())/(1<<20), "MiB")
		})
	}
	run("all", tib)
	for at := vlog.Block(0); at < 1<<24; at += Fanout {
		_, _ = t.Lookup(ctx, at)
	}
	run("hot64GiB", 1<<24)
}

// made makes up pages.
type made struct{}

func (made) Load(_ context.Context, _ Page, _ vlog.Pointer, words *Words) error {
	for i := range words {
		words[i] = vlog.NewPointer(uint32(i), 80, 4128, 0)
	}
	return nil
}

// TestMemory: 1 TiB in the worst case is bounded by the limit, and the collector
// sees nearly nothing of it.
func TestMemory(t *testing.T) {
	table, err := New(Options{Blocks: tib, LimitBytes: 64 << 20, Pager: made{}})
	must(t, err)
	defer table.Close()
	root := make([]Entry, tib/DirectoryBlocks)
	for i := range root {
		root[i] = Entry{uint64(i), vlog.NewPointer(1, 80, 4128, 0)}
	}
	must(t, table.Restore(root, make([]uint32, 1<<17), nil))
	for at := vlog.Block(0); at < tib; at += 16 * Fanout {
		_, err := table.Lookup(t.Context(), at)
		must(t, err)
	}
	if got := table.leafMemoryLocked(); got > 64<<20 {
		t.Errorf("leaves take %d bytes, want the limit of 64 MiB at most", got)
	}
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	if m.HeapAlloc > 32<<20 {
		t.Errorf("%d bytes in the collector's heap", m.HeapAlloc)
	}
	if got := table.MemoryBytes(); got > 80<<20 {
		t.Errorf("%d bytes in all", got)
	}
}

// TestDiscardIsQuick bounds 2 TiB by far more than it takes: time in proportion
// to blocks would be seconds.
func TestDiscardIsQuick(t *testing.T) {
	table, err := New(Options{Blocks: 2 * tib, Pager: made{}})
	must(t, err)
	defer table.Close()
	root := make([]Entry, 2*tib/DirectoryBlocks)
	for i := range root {
		root[i] = Entry{uint64(i), vlog.NewPointer(1, 80, 4128, 0)}
	}
	must(t, table.Restore(root, make([]uint32, 1<<17), nil))
	for at := vlog.Block(0); at < 2*tib; at += DirectoryBlocks {
		_, err := table.Lookup(t.Context(), at)
		must(t, err)
	}
	start := time.Now()
	must(t, table.Zero(t.Context(), 1, uint64(2*tib-2)))
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %v", took)
	} else {
		t.Logf("took %v", took)
	}
}
