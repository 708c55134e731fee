package replay

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

const blocks = 4000

// block is the content of a block that write number n wrote.
func block(b vlog.Block, n uint64) []byte {
	content := binary.LittleEndian.AppendUint64(nil, uint64(b))
	content = binary.LittleEndian.AppendUint64(content, n)
	return bytes.Repeat(content, vlog.BlockSize/len(content))
}

// world is a log with its segments stored, a table that each was applied to, and
// a plain map of what every block holds.
type world struct {
	*rapid.T
	store  *memory.Store
	cipher *frame.Cipher
	table  *table.Table
	head   vlog.Head
	tails  []segment.Tail // of segment i+1, whose number is i
	want   map[vlog.Block]uint64
	writes uint64
}

func (w *world) must(err error) {
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) find(s segment.Source) (uint32, bool) { return uint32(s.Sequence - 1), true }

// add forms a segment, stores it, reads it back and applies it.
func (w *world) add(fill func(x *segment.Writer)) {
	ctx := context.Background()
	id := segment.Identity{Reign: w.cipher.Reign(), Sequence: w.head.Sequence + 1}
	x, err := segment.NewWriter(w.cipher, segment.Info{Identity: id, Blocks: blocks, Previous: w.head.Chain}, nil)
	w.must(err)
	fill(x)
	f := x.Finish()
	w.must(w.store.Create(ctx, f.Key(), f.Object))
	tail, err := segment.ReadTail(ctx, w.store, id, int64(len(f.Object)), w.cipher)
	w.must(err)
	w.must(Follows(w.head, tail))
	w.must(Apply(ctx, w.table, tail.Index, Options{Number: uint32(len(w.tails)), Find: w.find}))
	w.tails = append(w.tails, tail)
	w.head = vlog.Head{Position: tail.Position(), Chain: tail.Chain}
}

// batch is writes, zeros and discards as an engine gathers them.
func (w *world) batch() {
	var b segment.Batch
	data := map[uint64][]byte{}
	for range rapid.IntRange(1, 12).Draw(w.T, "operations") {
		first := vlog.Block(rapid.IntRange(0, 60).Draw(w.T, "first"))
		if rapid.IntRange(0, 9).Draw(w.T, "far") == 0 {
			first += blocks - 200
		}
		count := rapid.Uint64Range(1, 40).Draw(w.T, "count")
		kind := segment.EntryKind(rapid.IntRange(0, 3).Draw(w.T, "kind"))
		if kind == segment.Zeros || kind == segment.Discarded {
			b.Zero(kind, first, count)
			for i := range count {
				delete(w.want, first+vlog.Block(i))
			}
			continue
		}
		ref := w.writes + 1
		for i := range count {
			w.writes++
			data[w.writes] = block(first+vlog.Block(i), w.writes)
			w.want[first+vlog.Block(i)] = w.writes
		}
		b.Write(first, count, ref)
	}
	w.add(func(x *segment.Writer) {
		for p := range b.Entries() {
			if p.Kind != segment.Data {
				w.must(x.Zero(p.Kind, p.First, p.Count))
				continue
			}
			var payload []byte
			for _, piece := range p.Pieces {
				for i := range piece.Count {
					payload = append(payload, data[piece.Ref+i]...)
				}
			}
			w.must(x.Data(p.First, payload, frame.Zstd))
		}
	})
}

// collect moves some frames of an earlier segment, as of a table that may have
// changed since: late entries must not win.
func (w *world) collect() {
	ctx := context.Background()
	number, moves := uint32(len(w.tails)), map[vlog.Block]bool{} // whether each block is to move
	from := w.tails[rapid.IntRange(0, len(w.tails)-1).Draw(w.T, "victim")]
	w.add(func(x *segment.Writer) {
		for _, e := range from.Index.Entries {
			if e.Kind > segment.Move || rapid.Bool().Draw(w.T, "skip") {
				continue
			}
			payload, err := w.cipher.Read(ctx, w.store, from.Sequence, e.Pointer(0, 0), uint64(e.First), nil)
			w.must(err)
			moved := segment.Moved{Source: segment.Source{Log: from.Log, Epoch: from.Epoch, Sequence: from.Sequence}, Offset: e.Offset, Count: int(e.Count)}
			w.must(x.Move(e.First, payload, []segment.Moved{moved}, frame.None))
			for i := range int(e.Count) {
				b := e.First + vlog.Block(i)
				p, err := w.table.Lookup(ctx, b)
				w.must(err)
				moves[b] = p == e.Pointer(uint32(from.Sequence-1), i)
			}
		}
	})
	for b, want := range moves {
		if p, err := w.table.Lookup(ctx, b); err != nil || (!p.Hole() && p.Object() == number) != want {
			w.Fatalf("block %d: %s, %v, moved to object %d: want %v", b, p, err, number, want)
		}
	}
}

// check reads every block through the table.
func (w *world) check(t *table.Table) {
	ctx := context.Background()
	for b := range vlog.Block(blocks) {
		p, err := t.Lookup(ctx, b)
		w.must(err)
		n, ok := w.want[b]
		if p.Hole() != !ok {
			w.Fatalf("block %d: %s, want write %d, %v", b, p, n, ok)
		}
		if p.Hole() {
			continue
		}
		got, err := w.cipher.Read(ctx, w.store, vlog.Sequence(p.Object()+1), p, uint64(b), nil)
		w.must(err)
		if !bytes.Equal(got[p.Index()*vlog.BlockSize:][:vlog.BlockSize], block(b, n)) {
			w.Fatalf("block %d: not what write %d wrote", b, n)
		}
	}
}

// TestReplay: batches and moves against a map of contents, through every layer;
// and the log replayed into a new table, from the start and again, gives the same.
func TestReplay(t *testing.T) {
	codec, err := frame.NewCodec(1)
	if err != nil {
		t.Fatal(err)
	}
	defer codec.Close()
	key, err := frame.NewDataKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		w := &world{T: t, store: memory.New(), want: map[vlog.Block]uint64{}}
		reign := frame.Reign{Log: vlog.LogID{1}, Epoch: 1, Nonce: vlog.NewNonce()}
		var k *frame.DataKey
		if rapid.Bool().Draw(t, "encrypted") {
			k = key
		}
		w.cipher, err = codec.Cipher(vlog.SegmentKind, reign, k)
		w.must(err)
		w.head = vlog.Head{Position: vlog.Position{Epoch: 1}, Chain: vlog.Chain{}.Begin(reign.Log, 1, reign.Nonce)}
		begin := w.head
		w.table, err = table.New(table.Options{Blocks: blocks})
		w.must(err)
		defer w.table.Close()
		for range rapid.IntRange(1, 8).Draw(t, "segments") {
			if len(w.tails) > 0 && rapid.IntRange(0, 2).Draw(t, "collect") == 0 {
				w.collect()
			} else {
				w.batch()
			}
		}
		w.check(w.table)
		again, err := table.New(table.Options{Blocks: blocks})
		w.must(err)
		defer again.Close()
		for i, tail := range w.tails {
			w.must(Follows(begin, tail))
			begin = vlog.Head{Position: tail.Position(), Chain: tail.Chain}
			for range 1 + i%2 { // one that was interrupted is applied twice
				w.must(Apply(context.Background(), again, tail.Index, Options{Number: uint32(i), Find: w.find}))
			}
		}
		w.check(again)
		if a, b := w.table.Live(), again.Live(); !slices.Equal(a, b) {
			t.Fatalf("live %v, want %v", b, a)
		}
		first := w.tails[0]
		if err := Follows(vlog.Head{Position: vlog.Position{Epoch: 1, Sequence: 1}}, first); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("a segment behind itself: %v, want corrupt", err)
		}
		if err := Follows(vlog.Head{Position: vlog.Position{Epoch: 1}}, first); !fault.Is(err, fault.Corrupt) {
			t.Fatalf("a segment behind another chain: %v, want corrupt", err)
		}
	})
}
