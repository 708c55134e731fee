package engine_test

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/dir"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/vlog/table"
	"github.com/holkas-io/holkas/pkg/volume"
)

// The targets that are about size: of volumes, of tables, of memory. HOLKAS_SOAK=1
// runs them in full size.

const (
	tib       = vlog.Block(1 << 28)
	tibBytes  = int64(tib) * vlog.BlockSize
	gibBlocks = vlog.Block(1 << 18)
)

var soak = os.Getenv("HOLKAS_SOAK") == "1"

// sized returns what is used by default, and what in full size.
func sized[T any](small, full T) T {
	if soak {
		return full
	}
	return small
}

// scratch is a folder on a disk.
func scratch(t *testing.T) string {
	folder, err := os.MkdirTemp("/var/tmp", "engine-targets-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(folder)) })
	return folder
}

// onDisk is a new volume with its journal on a disk.
func onDisk(t *testing.T, e *engine.Engine, store objstore.Store, blocks vlog.Block, journalBytes int64) *engine.Volume {
	o := options(store, vlog.NewLogID(), blocks)
	o.Journal, o.JournalBytes = filepath.Join(scratch(t), "journal"), journalBytes
	must(t, engine.Create(t.Context(), store, o.Log, epoch.Base{Blocks: blocks, Time: time.Now()}))
	v, err := e.Open(t.Context(), o)
	must(t, err)
	return v
}

func newEngine(t *testing.T) *engine.Engine {
	e, err := engine.New(engine.Options{})
	must(t, err)
	t.Cleanup(func() { must(t, e.Close()) })
	return e
}

// TestDiscardOf2TiB (T19): a discard of all of a volume takes no time, is seen at
// once, and stays when it is uploaded.
func TestDiscardOf2TiB(t *testing.T) {
	const size = 2 * tibBytes
	store := memory.New()
	v := onDisk(t, newEngine(t), store, 2*tib, 64<<20)
	r := rand.New(rand.NewPCG(1, 1))
	var at []int64
	write := func(n int) {
		for range n {
			at = append(at, r.Int64N(size/vlog.BlockSize)*vlog.BlockSize)
			must(t, v.WriteAt(t.Context(), block, at[len(at)-1]))
		}
	}
	write(2000)
	must(t, v.Checkpoint(t.Context()))
	write(2000)
	gone := func(when string) {
		t.Helper()
		p := make([]byte, vlog.BlockSize)
		for _, off := range at {
			if must(t, v.ReadAt(t.Context(), p, off)); !bytes.Equal(p, make([]byte, len(p))) {
				t.Fatalf("%s, at %d: got data, want zeros", when, off)
			}
		}
	}
	began := time.Now()
	must(t, v.Zero(t.Context(), 0, size, true))
	took := time.Since(began)
	gone("after the discard")
	began = time.Now()
	must(t, v.Checkpoint(t.Context()))
	t.Logf("discard of 2 TiB: %v; its upload and a checkpoint: %v", took, time.Since(began))
	if took > 500*time.Millisecond { // 50 ms on a machine of its own
		t.Errorf("discard of 2 TiB took %v: want 50 ms", took)
	}
	gone("after the checkpoint")
	must(t, v.Close(t.Context()))
}

// TestCutUnderLoad (T12): cutting a snapshot is a record of the journal, however
// large the volume is.
func TestCutUnderLoad(t *testing.T) {
	noise := 20 * time.Millisecond // of other tests on the same disk
	if os.Getenv("HOLKAS_SOAK") != "" {
		noise = time.Millisecond
	}
	e := newEngine(t)
	var medians []time.Duration
	for _, blocks := range []vlog.Block{gibBlocks, tib} {
		v := onDisk(t, e, memory.New(), blocks, 256<<20)
		ctx, stop := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for i := range 32 {
			wg.Go(func() {
				r := rand.New(rand.NewPCG(2, uint64(i)))
				for ctx.Err() == nil {
					if err := v.WriteAt(t.Context(), block, r.Int64N(int64(blocks))*vlog.BlockSize); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var cuts []time.Duration
		var last volume.SnapshotID
		for range sized(40, 400) {
			last = volume.NewSnapshotID()
			began := time.Now()
			must(t, v.Cut(t.Context(), last))
			cuts = append(cuts, time.Since(began))
			time.Sleep(5 * time.Millisecond) // the load goes on
		}
		stop()
		wg.Wait()
		s, err := v.Snapshot(t.Context(), last)
		must(t, err)
		slices.Sort(cuts)
		median, worst := cuts[len(cuts)/2], cuts[len(cuts)*99/100]
		t.Logf("%d GiB, 32 writers: cut %v at the median, %v at p99; the last paused writers for %v", blocks/gibBlocks, median, worst, s.Pause)
		if median > noise+5*time.Millisecond {
			t.Errorf("%d GiB: a cut takes %v, want 5 ms", blocks/gibBlocks, median)
		}
		medians = append(medians, median)
		v.Abandon()
	}
	if medians[1] > medians[0]*6/5+noise {
		t.Errorf("a cut of 1 TiB takes %v, of 1 GiB %v: want no more than 1.2 times", medians[1], medians[0])
	}
}

// synthetic is a log with a checkpoint that maps blocks from 0 on, whose data is
// not there but for the first frame.
type synthetic struct {
	store objstore.Store
	log   vlog.LogID
	reign frame.Reign
	m     *image.Image
	codec *frame.Codec
}

func newSynthetic(t *testing.T, store objstore.Store, blocks vlog.Block, limit int64) *synthetic {
	codec, err := frame.NewCodec(1)
	must(t, err)
	x := &synthetic{store: store, log: vlog.NewLogID(), codec: codec}
	x.m, err = image.New(image.Options{
		Store: store, Log: x.log, Codec: codec, LimitBytes: limit,
		Key:         func(frame.KeyID) (*frame.DataKey, error) { return nil, nil },
		ReadTimeout: func() time.Duration { return time.Minute },
	}, blocks)
	must(t, err)
	x.reign = frame.Reign{Log: x.log, Epoch: 1, Nonce: vlog.NewNonce()}
	x.m.SetHead(vlog.Head{Position: vlog.Position{Epoch: 1}, Chain: vlog.Chain{}.Begin(x.log, 1, x.reign.Nonce)})
	t.Cleanup(func() { x.m.Close(); codec.Close() })
	return x
}

// apply applies a segment with entries, of whose data there is none.
func (x *synthetic) apply(t *testing.T, entries []segment.Entry) {
	if x.m.Full() {
		x.checkpoint(t)
	}
	head := x.m.Head()
	id := segment.Identity{Reign: x.reign, Sequence: head.Sequence + 1}
	must(t, x.m.Apply(t.Context(), image.Segment{
		Info:  segment.Info{Identity: id, Blocks: x.m.Blocks(), Previous: head.Chain},
		Index: segment.Index{Entries: entries}, Digest: vlog.Digest{1}, Chain: head.Chain.Next(vlog.Digest{1}), SizeBytes: 9 << 20,
	}))
}

// fill maps blocks from 0 on in frames of 16.
func (x *synthetic) fill(t *testing.T, blocks vlog.Block) {
	for at := vlog.Block(0); at < blocks; {
		var entries []segment.Entry
		for i := int64(0); i < 128 && at < blocks; i++ {
			entries = append(entries, segment.Entry{First: at, Count: 16, Offset: 80 + i*65568, Stored: 65568})
			at += 16
		}
		x.apply(t, entries)
	}
}

// real writes the first frame for real.
func (x *synthetic) real(t *testing.T) {
	cipher, err := x.m.Cipher(vlog.SegmentKind, x.reign, frame.KeyID{})
	must(t, err)
	head := x.m.Head()
	w, err := segment.NewWriter(cipher, segment.Info{Identity: segment.Identity{Reign: x.reign, Sequence: head.Sequence + 1}, Blocks: x.m.Blocks(), Previous: head.Chain}, nil)
	must(t, err)
	must(t, w.Data(0, bytes.Repeat(block, 16), frame.Zstd))
	f := w.Finish()
	must(t, x.store.Create(t.Context(), f.Key(), f.Object))
	must(t, x.m.Apply(t.Context(), image.Segment{Info: f.Info, Index: f.Index, Digest: f.Digest, Chain: f.Chain, SizeBytes: int64(len(f.Object))}))
}

func (x *synthetic) checkpoint(t *testing.T) image.Prepared {
	p, err := x.m.Checkpoint(t.Context(), image.Writer{
		Reign: x.reign, With: frame.Zstd, Now: time.Now(),
		Store: func(ctx context.Context, key string, b []byte) error { return x.store.Create(ctx, key, b) },
	})
	must(t, err)
	must(t, checkpoint.Publish(t.Context(), x.store, p.Encoded))
	x.m.Published(p)
	return p
}

// TestOpenLarge (T15, and attaching 1 TiB): a volume on a snapshot with much in it is
// open, and its first byte is read, as soon as a small one.
func TestOpenLarge(t *testing.T) {
	mapped := sized(4*gibBlocks, 100*gibBlocks)
	store := memory.New()
	x := newSynthetic(t, store, tib, 1<<30)
	x.fill(t, mapped)
	x.real(t)
	p := x.checkpoint(t)
	e := newEngine(t)
	o := options(store, vlog.NewLogID(), tib)
	o.Journal = filepath.Join(scratch(t), "journal")
	began := time.Now()
	must(t, engine.Create(t.Context(), store, o.Log, epoch.Base{From: x.log, Head: p.Checkpoint.Head(), Checkpoint: p.Digest, Blocks: tib, Time: began}))
	v, err := e.Open(t.Context(), o)
	must(t, err)
	got := make([]byte, vlog.BlockSize)
	must(t, v.ReadAt(t.Context(), got, 5*vlog.BlockSize))
	took := time.Since(began)
	if !bytes.Equal(got, block) {
		t.Error("the first read: got another content")
	}
	t.Logf("1 TiB on a snapshot with %d GiB in it: open, and read, after %v, with %d KiB of table and overlay", mapped/gibBlocks, took, v.State().MemoryBytes>>10)
	if took > time.Second {
		t.Errorf("it took %v: want 1 s", took)
	}
	must(t, v.Close(t.Context()))
}

// TestLargeTable (T18): a table of which every block is mapped keeps its limit of 320
// MiB for 1 TiB, pages come and go without a loss, and a look-up of what is there is
// at least half as fast as without a limit.
func TestLargeTable(t *testing.T) {
	blocks := sized(tib/64, tib)
	limit := int64(290<<20) * int64(blocks) / int64(tib)
	x := newSynthetic(t, memory.New(), blocks, limit)
	x.fill(t, blocks)
	r := rand.New(rand.NewPCG(3, 3))
	bound := int64(320<<20)*int64(blocks)/int64(tib) + 1<<20
	want := map[vlog.Block]vlog.Pointer{}
	for n := range sized(20, 200) { // random overwrites: pages in and out
		var entries []segment.Entry
		for i := int64(0); i < 1000; i++ {
			b := vlog.Block(i)*(blocks/1000) + vlog.Block(r.Uint64N(uint64(blocks/1000)))
			entries = append(entries, segment.Entry{First: b, Count: 1, Offset: 80 + i*4128, Stored: 4128})
		}
		x.apply(t, entries)
		for _, e := range entries {
			p, err := x.m.Table().Lookup(t.Context(), e.First)
			must(t, err)
			if want[e.First] = p; p.Offset() != e.Offset || p.Stored() != e.Stored {
				t.Fatalf("block %d: got %s, want offset %d", e.First, p, e.Offset)
			}
		}
		if got := x.m.Table().MemoryBytes(); got > bound {
			t.Fatalf("after %d segments: %d MiB of memory, want %d", n, got>>20, bound>>20)
		}
	}
	for b, p := range want {
		got, err := x.m.Table().Lookup(t.Context(), b)
		if must(t, err); got != p {
			t.Fatalf("block %d: got %s, want %s", b, got, p)
		}
	}
	x.checkpoint(t) // what waits for pages takes memory as well
	hot := vlog.Block(limit/table.LeafBytes) * table.Fanout / 2
	free := newSynthetic(t, memory.New(), blocks, 0)
	free.fill(t, hot)
	bounded, unbounded := hits(t, x.m.Table(), hot), hits(t, free.m.Table(), hot)
	for range 4 { // side by side, and the best of each: others use this machine
		bounded, unbounded = min(bounded, hits(t, x.m.Table(), hot)), min(unbounded, hits(t, free.m.Table(), hot))
	}
	t.Logf("%d GiB in %d MiB: a hit takes %v, without a limit %v", blocks/gibBlocks, x.m.Table().MemoryBytes()>>20, bounded, unbounded)
	if bounded > 2*unbounded {
		t.Errorf("a hit takes %v, without a limit %v: want at most twice that", bounded, unbounded)
	}
}

// hits returns how long a look-up of a block takes whose leaf is in memory.
func hits(t *testing.T, x *table.Table, hot vlog.Block) time.Duration {
	for b := vlog.Block(0); b < hot; b += table.Fanout {
		_, err := x.Lookup(t.Context(), b)
		must(t, err)
	}
	r := rand.New(rand.NewPCG(4, 4))
	const n = 200_000
	began := time.Now()
	for range n {
		_, _ = x.Lookup(t.Context(), vlog.Block(r.Uint64N(uint64(hot))))
	}
	return time.Since(began) / n
}

// TestHundredVolumes (T22): a hundred open volumes that are written keep the memory
// that they are given together. What is beside it, 8 MiB of directories for each TiB
// that was touched, is little here: see the package's comment.
func TestHundredVolumes(t *testing.T) {
	store, err := dir.Open(t.Context(), dir.Options{Root: filepath.Join(scratch(t), "store"), Create: true})
	must(t, err)
	e := newEngine(t)
	before := taken()
	var volumes []*engine.Volume
	for range 100 {
		volumes = append(volumes, onDisk(t, e, store, tib/16, 1<<20))
	}
	opened := taken() - before
	var group sync.WaitGroup
	for i := range 8 {
		group.Go(func() {
			r := rand.New(rand.NewPCG(5, uint64(i)))
			for n := range sized(8_000, 400_000) / 8 {
				must(t, volumes[(n*8+i)%100].WriteAt(t.Context(), block, r.Int64N(int64(tib/16))*vlog.BlockSize))
			}
		})
	}
	group.Wait()
	written, tables := taken()-before, int64(0)
	for _, v := range volumes {
		tables += v.State().MemoryBytes
	}
	t.Logf("100 volumes of 64 GiB: %d MiB of heap when they are open, %d MiB when they were written, and %d MiB of tables", opened>>20, written>>20, tables>>20)
	if written+tables > engine.DefaultMemory {
		t.Errorf("100 volumes take %d MiB: want %d", (written+tables)>>20, engine.DefaultMemory>>20)
	}
	for _, v := range volumes {
		must(t, v.Close(t.Context()))
	}
}

// taken returns the bytes that Go has from the system and did not give back.
func taken() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.Sys - m.HeapReleased)
}
