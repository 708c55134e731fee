package image

import (
	"context"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// places are where the model writes: near borders of leaves and directories.
var places = []vlog.Block{0, table.Fanout - 20, 40 * table.Fanout, table.DirectoryBlocks - 20, 2*table.DirectoryBlocks + 5, worldBlocks - 120}

func place(t *rapid.T) vlog.Block {
	return rapid.SampledFrom(places).Draw(t, "place") + vlog.Block(rapid.IntRange(0, 60).Draw(t, "off"))
}

// TestModel: whatever is written, discarded, moved and published, the image has what
// a map has, and so has one that is restored from a checkpoint, though nothing is
// kept that the last checkpoint does not list, and numbers are given again at once.
func TestModel(t *testing.T) {
	codec := newCodec(t)
	rapid.Check(t, func(t *rapid.T) {
		w := newWorld(t, rapid.SampledFrom([]string{"", "a secret of thirty-two bytes ...."[:32]}).Draw(t, "secret"), codec)
		defer func() { w.m.Close() }()
		w.m.reuse = rapid.IntRange(0, 2).Draw(t, "reuse")
		t.Repeat(map[string]func(*rapid.T){
			"write": func(t *rapid.T) {
				w.segment(w.data(place(t), rapid.IntRange(1, 40).Draw(t, "count")))
			},
			"discard": func(t *rapid.T) {
				first := place(t)
				count := rapid.OneOf(rapid.Uint64Range(1, 100), rapid.Uint64Range(1, worldBlocks)).Draw(t, "count")
				w.segment(w.zero(first, min(count, uint64(worldBlocks-first))))
			},
			"move": func(t *rapid.T) { w.move(t) },
			"checkpoint": func(t *rapid.T) {
				if w.m.Head().Sequence == 0 || w.m.Head().Position == w.published {
					t.Skip("nothing since the last one")
				}
				again := w.restore(w.checkpoint().Checkpoint.Position())
				w.hasAll(again)
				again.Close()
			},
			"reopen": func(t *rapid.T) {
				if w.m.Head().Sequence == 0 || w.m.Head().Position == w.published {
					t.Skip("nothing since the last one")
				}
				at := w.checkpoint().Checkpoint.Position()
				w.m.Close()
				reuse := w.m.reuse
				w.m = w.restore(at)
				w.m.reuse = reuse
				w.begin()
			},
			"reclaim": func(*rapid.T) {
				_, err := w.m.Reclaim(w.ctx)
				must(w, err)
			},
			"": func(t *rapid.T) { w.has(w.m, place(t), place(t)) },
		})
		w.segment(w.data(5, 1))
		w.hasAll(w.m)
		w.empty()
	})
}

// move moves a segment's blocks, those that live and others, perhaps of a segment
// that nothing has needed for long.
func (w *world) move(t *rapid.T) {
	var there []vlog.Position
	for at := range w.index {
		there = append(there, at)
	}
	if len(there) == 0 {
		t.Skip("no segment")
	}
	slices.SortFunc(there, vlog.Position.Compare)
	tail := w.index[rapid.SampledFrom(there).Draw(t, "victim")]
	source := segment.Source{Log: w.o.Log, Epoch: tail.Epoch, Sequence: tail.Sequence}
	cipher, err := w.m.Cipher(vlog.SegmentKind, tail.Reign, tail.KeyID)
	must(w, err)
	w.segment(func(x *segment.Writer) {
		for _, e := range tail.Index.Entries {
			if e.Kind > segment.Move {
				continue
			}
			b, err := cipher.Read(w.ctx, w.store.Store, tail.Sequence, e.Pointer(0, 0), uint64(e.First), nil)
			if fault.Is(err, fault.NotFound) {
				b, err = make([]byte, e.Count*vlog.BlockSize), nil
			}
			must(w, err)
			must(w, x.Move(e.First, b, []segment.Moved{{Source: source, Offset: e.Offset, Index: 0, Count: int(e.Count)}}, frame.Zstd))
		}
	})
}

// empty discards everything: what nothing names leaves the list.
func (w *world) empty() {
	w.segment(w.zero(0, worldBlocks))
	for more := true; more; {
		var err error
		more, err = w.m.Reclaim(w.ctx)
		must(w, err)
	}
	if p := w.checkpoint(); len(p.Checkpoint.Objects) > 0 {
		w.Fatalf("all is discarded: the checkpoint lists %d objects, want none", len(p.Checkpoint.Objects))
	}
}

// TestLateMove: a move from a segment that is not in the list any more moves
// nothing, though its number is another segment's, with the block in the same place.
func TestLateMove(t *testing.T) {
	w := newWorld(t, "", newCodec(t))
	defer func() { w.m.Close() }()
	w.m.reuse = 0
	w.segment(w.data(5, 1))
	first := w.index[w.m.Head().Position]
	at, err := w.m.table.Lookup(w.ctx, 5)
	must(t, err)
	for again := vlog.Pointer(0); again != at; {
		w.segment(w.data(5, 1))
		w.checkpoint()
		again, err = w.m.table.Lookup(w.ctx, 5)
		must(t, err)
	}
	w.segment(func(x *segment.Writer) {
		source := segment.Source{Log: w.o.Log, Epoch: first.Epoch, Sequence: first.Sequence}
		must(w, x.Move(5, content(5, 1), []segment.Moved{{Source: source, Offset: first.Index.Entries[0].Offset, Count: 1}}, frame.Zstd))
	})
	w.hasAll(w.m)
}

// TestStoreFails: whichever object of a checkpoint cannot be stored, the next
// checkpoint has everything, and what was lost on the way is not listed.
func TestStoreFails(t *testing.T) {
	for fail := range 4 {
		w := newWorld(t, "", newCodec(t))
		for i := range vlog.Block(40) { // leaves of two directories
			w.segment(w.data(i*table.Fanout*20, 3))
		}
		x, n := w.writer(), 0
		var mu sync.Mutex
		inner := x.Store
		x.Store = func(ctx context.Context, key string, object []byte) error {
			mu.Lock()
			n++
			mine := n - 1
			mu.Unlock()
			if mine == fail || fail == 3 {
				return fault.New(fault.Unsupported, "injected")
			}
			return inner(ctx, key, object)
		}
		_, err := w.m.Checkpoint(w.ctx, x)
		if wrong := fail < 2 || fail == 3; wrong != fault.Is(err, fault.Unsupported) {
			t.Fatalf("object %d fails: got %v, and %d objects", fail, err, n)
		}
		w.hasAll(w.m)
		w.segment(w.data(7, 2))
		again := w.restore(w.checkpoint().Checkpoint.Position())
		w.hasAll(again)
		again.Close()
		w.empty()
		w.m.Close()
	}
}
