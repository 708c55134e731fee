// Package overlay holds what of a volume is newer than its extent table: for each
// block that was written and does not count in the repository yet, where in the
// journal its bytes are, or that it is zeros.
//
// # Shape
//
// Single blocks are in a map, 48 bytes each, about; ranges of zeros beyond
// SmallRange blocks are in a sorted list, so that a discard of any size is one
// entry. A block's entry in the map is always newer than the range that it lies
// in, since a range removes what it covers from the map.
//
// # Order
//
// Changes come in the order of the journal, and the last one wins. Retire takes
// out what is before a journal position once that is in the table, so a reader
// that looks here first and then in the table misses nothing: it finds the block
// here, or in the table, or in both.
package overlay

import (
	"slices"
	"sort"
	"sync"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// SmallRange is how many blocks of zeros are kept one by one.
const SmallRange = 64

// Costs of an entry in bytes, about.
const (
	blockBytes = 48
	rangeBytes = 40
)

// Ref says where a block is: the journal position of its bytes, or zeros that a
// record at a position made. The zero Ref is neither.
type Ref uint64

const zeroBit = 1 // positions are multiples of 4096

// Data returns the ref of bytes at a journal position.
func Data(at vlog.LSN) Ref { return Ref(at) | 2 }

// Zeros returns the ref of zeros that a record made.
func Zeros(record vlog.LSN) Ref { return Ref(record) | 2 | zeroBit }

// Known reports whether the overlay has the block at all.
func (r Ref) Known() bool { return r != 0 }

// Zero reports whether the block is zeros.
func (r Ref) Zero() bool { return r&zeroBit != 0 }

// At returns the journal position.
func (r Ref) At() vlog.LSN { return vlog.LSN(r &^ 3) }

// span is a range of zeros.
type span struct {
	first, end vlog.Block
	ref        Ref
}

// Overlay is what is newer than the table. The zero value is empty. All methods
// may be called at once.
type Overlay struct {
	mu     sync.RWMutex
	blocks map[vlog.Block]Ref
	most   int      // entries that the map ever had: it does not shrink
	before vlog.LSN // what is of before is in the table, also if it comes late
	spans  []span   // ascending, disjoint
}

// Write records that blocks from first on are in the journal at a position on.
func (o *Overlay) Write(first vlog.Block, count uint64, at vlog.LSN) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i := range count {
		o.setLocked(first+vlog.Block(i), Data(at+vlog.LSN(i*vlog.BlockSize)))
	}
}

// Zero records that a record made a range zeros.
func (o *Overlay) Zero(first vlog.Block, count uint64, record vlog.LSN) {
	if count == 0 {
		return
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	ref := Zeros(record)
	if count <= SmallRange {
		for i := range count {
			o.setLocked(first+vlog.Block(i), ref)
		}
		return
	}
	if record < o.before {
		return
	}
	end := first + vlog.Block(count)
	o.forgetLocked(first, end)
	i, j := o.overlapLocked(first, end)
	var with [3]span
	n := 0
	if i < j && o.spans[i].first < first {
		with[n] = span{o.spans[i].first, first, o.spans[i].ref}
		n++
	}
	with[n] = span{first, end, ref}
	n++
	if i < j && o.spans[j-1].end > end {
		with[n] = span{end, o.spans[j-1].end, o.spans[j-1].ref}
		n++
	}
	o.spans = slices.Replace(o.spans, i, j, with[:n]...)
}

func (o *Overlay) setLocked(b vlog.Block, r Ref) {
	if r.At() < o.before {
		return
	}
	if o.blocks == nil {
		o.blocks = map[vlog.Block]Ref{}
	}
	o.blocks[b] = r
	o.most = max(o.most, len(o.blocks))
}

// forgetLocked removes single blocks of a range, by the shorter way.
func (o *Overlay) forgetLocked(first, end vlog.Block) {
	if uint64(end-first) > uint64(len(o.blocks)) {
		for b := range o.blocks {
			if b >= first && b < end {
				delete(o.blocks, b)
			}
		}
		return
	}
	for b := first; b < end; b++ {
		delete(o.blocks, b)
	}
}

// overlapLocked returns which spans overlap a range: i to before j.
func (o *Overlay) overlapLocked(first, end vlog.Block) (i, j int) {
	i = sort.Search(len(o.spans), func(k int) bool { return o.spans[k].end > first })
	j = i
	for j < len(o.spans) && o.spans[j].first < end {
		j++
	}
	return i, j
}

// Lookup fills refs with those of successive blocks from first on, and reports
// whether any is known. It is one moment's state.
func (o *Overlay) Lookup(first vlog.Block, refs []Ref) (any bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	clear(refs)
	if len(o.spans) > 0 {
		i, j := o.overlapLocked(first, first+vlog.Block(len(refs)))
		for _, s := range o.spans[i:j] {
			for b := max(s.first, first); b < min(s.end, first+vlog.Block(len(refs))); b++ {
				refs[b-first], any = s.ref, true
			}
		}
	}
	if len(o.blocks) == 0 {
		return any
	}
	for i := range refs {
		if r, ok := o.blocks[first+vlog.Block(i)]; ok {
			refs[i], any = r, true
		}
	}
	return any
}

// Settle says that everything before a journal position is in the table: a change
// of before that comes late, since who wrote it was not fast, is passed over.
func (o *Overlay) Settle(before vlog.LSN) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before = max(o.before, before)
}

// Retire takes out of a range of blocks what is of before a journal position. What
// came later stays.
func (o *Overlay) Retire(first vlog.Block, count uint64, before vlog.LSN) {
	o.mu.Lock()
	defer o.mu.Unlock()
	end := first + vlog.Block(count)
	old := func(r Ref) bool { return r.At() < before }
	if count > uint64(len(o.blocks)) {
		for b, r := range o.blocks {
			if b >= first && b < end && old(r) {
				delete(o.blocks, b)
			}
		}
	} else {
		for b := first; b < end; b++ {
			if r, ok := o.blocks[b]; ok && old(r) {
				delete(o.blocks, b)
			}
		}
	}
	if len(o.spans) > 0 {
		i, j := o.overlapLocked(first, end)
		var with []span
		for _, s := range o.spans[i:j] {
			if !old(s.ref) {
				with = append(with, s)
				continue
			}
			if s.first < first {
				with = append(with, span{s.first, first, s.ref})
			}
			if s.end > end {
				with = append(with, span{end, s.end, s.ref})
			}
		}
		o.spans = slices.Replace(o.spans, i, j, with...)
	}
	if len(o.blocks) == 0 && o.most > 1024 {
		o.blocks, o.most = nil, 0
	}
}

// Bytes returns how much memory the overlay takes, about.
func (o *Overlay) Bytes() int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return int64(o.most)*blockBytes + int64(cap(o.spans))*rangeBytes
}

// Empty reports whether nothing is in the overlay.
func (o *Overlay) Empty() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return len(o.blocks) == 0 && len(o.spans) == 0
}
