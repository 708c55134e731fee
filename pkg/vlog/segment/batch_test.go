package segment

import (
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// TestBatchIsAMap: against a plain map of block to the last thing that was done.
func TestBatchIsAMap(t *testing.T) {
	type state struct {
		kind EntryKind
		ref  uint64
	}
	rapid.Check(t, func(t *rapid.T) {
		var b Batch
		want := map[vlog.Block]state{}
		ref := uint64(0)
		for range rapid.IntRange(0, 40).Draw(t, "operations") {
			first := vlog.Block(rapid.Uint64Range(0, 80).Draw(t, "first"))
			count := rapid.Uint64Range(0, 40).Draw(t, "count")
			kind := []EntryKind{Data, Zeros, Discarded}[rapid.IntRange(0, 2).Draw(t, "kind")]
			if kind == Data {
				if rapid.Bool().Draw(t, "elsewhere") {
					ref += 100
				}
				b.Write(first, count, ref)
			} else {
				b.Zero(kind, first, count)
			}
			for i := range count {
				s := state{kind: kind}
				if kind == Data {
					s.ref = ref
					ref++
				}
				want[first+vlog.Block(i)] = s
			}
		}
		got := map[vlog.Block]state{}
		end, blocks := vlog.Block(0), uint64(0)
		for p := range b.Entries() {
			if p.First < end || p.Count == 0 {
				t.Fatalf("%d blocks from %d behind %d", p.Count, p.First, end)
			}
			end = p.First + vlog.Block(p.Count)
			if p.Kind != Data {
				for i := range p.Count {
					got[p.First+vlog.Block(i)] = state{kind: p.Kind}
				}
				continue
			}
			if p.First/vlog.FrameBlocks != (end-1)/vlog.FrameBlocks {
				t.Fatalf("a frame of blocks %d to %d crosses a multiple of %d", p.First, end, vlog.FrameBlocks)
			}
			at := p.First
			for _, piece := range p.Pieces {
				for i := range piece.Count {
					got[at] = state{Data, piece.Ref + i}
					at++
				}
			}
			if at != end {
				t.Fatalf("pieces end at %d, want %d", at, end)
			}
			blocks += p.Count
		}
		if len(got) != len(want) {
			t.Fatalf("%d blocks, want %d", len(got), len(want))
		}
		for block, s := range want {
			if got[block] != s {
				t.Fatalf("block %d: %v, want %v", block, got[block], s)
			}
		}
		if b.Blocks() != blocks || b.Empty() != (len(want) == 0) {
			t.Fatalf("%d blocks, empty %v; want %d", b.Blocks(), b.Empty(), blocks)
		}
	})
}

// TestBatchStopsEarly: a consumer may stop anywhere.
func TestBatchStopsEarly(t *testing.T) {
	var b Batch
	b.Write(0, 40, 7)
	b.Zero(Zeros, 50, 1)
	b.Write(60, 1, 100)
	for stop := 1; stop <= 5; stop++ {
		n := 0
		for range b.Entries() {
			if n++; n == stop {
				break
			}
		}
		if n != stop {
			t.Errorf("got %d entries, want to stop at %d", n, stop)
		}
	}
}

// TestBatchFits: what Fits admits, a writer takes, in the worst case.
func TestBatchFits(t *testing.T) {
	w := newTestWriter(t, nil)
	var b Batch
	for i := uint64(0); b.Fits(1); i++ {
		b.Write(vlog.Block(2*i), 1, i)
	}
	for p := range b.Entries() {
		must(t, w.Data(p.First, noise(int(p.Count)*vlog.BlockSize), 0))
	}
	if got := b.Blocks(); got < 3900 || w.Finish().Index.Entries == nil {
		t.Errorf("full with %d blocks", got)
	}
}

func BenchmarkBatch(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	var batch Batch
	for b.Loop() {
		if batch.Blocks() == 2048 {
			batch.Reset()
		}
		batch.Write(vlog.Block(r.Uint64N(1<<28)), 1, r.Uint64())
	}
}
