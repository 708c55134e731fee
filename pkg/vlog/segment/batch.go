package segment

import (
	"iter"
	"slices"
	"sort"

	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
)

// Batch gathers what is to become one segment: the last write of a block wins.
// It holds references to the data, not the data, so that its memory is that of
// the distinct extents, whatever is overwritten meanwhile. The zero value is
// empty. It belongs to one goroutine.
type Batch struct {
	extents []extent // ascending, disjoint, neighbours joined
	blocks  uint64   // of data
}

// extent is a run of blocks of one kind; a data block First+i is at Ref+i.
type extent struct {
	first vlog.Block
	count uint64
	ref   uint64
	kind  EntryKind
}

func (e extent) end() vlog.Block { return e.first + vlog.Block(e.count) }

// from returns the part of e from block b on.
func (e extent) from(b vlog.Block) extent {
	skip := uint64(b - e.first)
	e.first, e.count = b, e.count-skip
	if e.kind == Data {
		e.ref += skip
	}
	return e
}

// joins reports whether f goes on where e ends.
func (e extent) joins(f extent) bool {
	return e.kind == f.kind && e.end() == f.first && (e.kind != Data || e.ref+e.count == f.ref)
}

// Write records that blocks from first on were written; the data of block first+i
// will be found under ref+i, which means something to the caller only.
func (b *Batch) Write(first vlog.Block, count, ref uint64) {
	b.put(extent{first: first, count: count, ref: ref, kind: Data})
}

// Zero records that blocks from first on became zeros; kind is Zeros or
// Discarded.
func (b *Batch) Zero(kind EntryKind, first vlog.Block, count uint64) {
	b.put(extent{first: first, count: count, kind: kind})
}

// Blocks returns the blocks of data.
func (b *Batch) Blocks() uint64 { return b.blocks }

// Empty reports whether nothing was recorded.
func (b *Batch) Empty() bool { return len(b.extents) == 0 }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() { *b = Batch{extents: b.extents[:0]} }

// Fits reports whether a segment surely has room for the batch and one more
// write or range of so many blocks, however badly it compresses and whatever it
// splits.
func (b *Batch) Fits(blocks uint64) bool {
	entries := uint64(len(b.extents)) + 2
	frames := entries + (b.blocks+blocks)/vlog.FrameBlocks
	bytes := (b.blocks+blocks)*vlog.BlockSize + frames*frame.Overhead
	return frames+entries <= MaxEntries && bytes <= vlog.MaxFrameOffset-frame.MaxBytes
}

func (b *Batch) put(e extent) {
	if e.count == 0 {
		return
	}
	i := sort.Search(len(b.extents), func(i int) bool { return b.extents[i].end() > e.first })
	j := i + sort.Search(len(b.extents)-i, func(k int) bool { return b.extents[i+k].first >= e.end() })
	var parts [3]extent
	with := parts[:0]
	for _, old := range b.extents[i:j] {
		if old.kind == Data {
			b.blocks -= uint64(min(old.end(), e.end()) - max(old.first, e.first))
		}
	}
	if i < j && b.extents[i].first < e.first {
		left := b.extents[i]
		left.count = uint64(e.first - left.first)
		with = append(with, left)
	}
	with = append(with, e)
	if i < j && b.extents[j-1].end() > e.end() {
		with = append(with, b.extents[j-1].from(e.end()))
	}
	if e.kind == Data {
		b.blocks += e.count
	}
	if i > 0 && b.extents[i-1].joins(with[0]) {
		i--
		with[0].first, with[0].count, with[0].ref = b.extents[i].first, with[0].count+b.extents[i].count, b.extents[i].ref
	}
	b.extents = slices.Replace(b.extents, i, j, with...)
}

// Piece is a run of blocks whose data is found under Ref, Ref+1, ...
type Piece struct{ Ref, Count uint64 }

// Planned is an entry to be: a frame's blocks, in pieces, or a range of zeros.
type Planned struct {
	Kind   EntryKind
	First  vlog.Block
	Count  uint64
	Pieces []Piece // of data; valid until the next step
}

// Entries yields the entries in the order that Writer wants. Frames do not cross
// multiples of vlog.FrameBlocks.
func (b *Batch) Entries() iter.Seq[Planned] {
	return func(yield func(Planned) bool) {
		var p Planned
		flush := func() bool {
			ok := p.Count == 0 || yield(p)
			p = Planned{Pieces: p.Pieces[:0]}
			return ok
		}
		for _, e := range b.extents {
			if e.kind != Data {
				if !flush() || !yield(Planned{Kind: e.kind, First: e.first, Count: e.count}) {
					return
				}
				continue
			}
			if p.Count > 0 && p.First+vlog.Block(p.Count) != e.first && !flush() {
				return
			}
			for e.count > 0 {
				if e.first%vlog.FrameBlocks == 0 && !flush() {
					return
				}
				if p.Count == 0 {
					p.First = e.first
				}
				n := min(e.count, vlog.FrameBlocks-uint64(e.first%vlog.FrameBlocks))
				p.Count += n
				p.Pieces = append(p.Pieces, Piece{e.ref, n})
				e = e.from(e.first + vlog.Block(n))
			}
		}
		flush()
	}
}
