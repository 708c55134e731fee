// Package overlay holds what of a volume is newer than its extent table: for each
// block that was written and does not count in the repository yet, where in the
// journal its bytes are, or that it is zeros.
//
// # Shape
//
// Single blocks are in a map; ranges of zeros beyond SmallRange blocks are spans,
// in a B-tree, so that a discard of any size is one entry. A span does not touch
// the map: it hides what was there before it, by the journal position up to which
// that is.
//
// The map is Go's: 35 bytes a block at most, and a look-up in no time. A B-tree of
// blocks would take as much and ten times as long. Spans are in google/btree and not
// in a sorted slice since there are as many as an unlucky filesystem discards: among
// 100,000 of them a new one costs 1 µs instead of 100.
//
// # Order
//
// Changes come in the order of the journal, and the last one wins. Retire says up
// to which journal position the table has everything. That moment what is of before
// is not here any more; a change of before that comes late, since who wrote it was
// not fast, is passed over. So a reader that looks here first and then in the table
// misses nothing: it finds the block here, or in the table. What Retire does after
// that is to give the memory back.
//
// # Cost
//
// Write, Zero and Lookup take time in proportion to the blocks of data and of small
// ranges, Retire to the blocks of the segment or, if that is less, to all that the
// overlay has; it lets others pass all the time. The memory is given back as the
// blocks go.
package overlay

import (
	"math"
	"sync"

	"github.com/google/btree"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// SmallRange is how many blocks of zeros are kept one by one.
const SmallRange = 64

// Costs of an entry in bytes, at most about.
const (
	blockBytes = 40
	spanBytes  = 72
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

// Overlay is what is newer than the table. The zero value is empty. All methods
// may be called at once.
type Overlay struct {
	mu     sync.RWMutex
	blocks map[vlog.Block]Ref
	most   int                 // entries that the map ever had: it does not shrink
	newest vlog.LSN            // of what was ever put into the map
	before vlog.LSN            // what is of before is in the table, also if it comes late
	spans  *btree.BTreeG[span] // by first block, disjoint; nil: none yet

	retiring sync.Mutex // before mu
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
	o.mu.Lock()
	defer o.mu.Unlock()
	switch {
	case count > SmallRange && record >= o.before:
		o.coverLocked(span{first, first + vlog.Block(count), Zeros(record), max(record, o.newest)})
	case count <= SmallRange:
		for i := range count {
			o.setLocked(first+vlog.Block(i), Zeros(record))
		}
	}
}

func (o *Overlay) setLocked(b vlog.Block, r Ref) {
	if r.At() < o.before {
		return
	}
	if o.blocks == nil {
		o.blocks = map[vlog.Block]Ref{}
	}
	o.blocks[b] = r
	o.most, o.newest = max(o.most, len(o.blocks)), max(o.newest, r.At())
}

// atATime is how many spans a look-up holds without memory of its own.
const atATime = 8

// Lookup fills refs with those of successive blocks from first on, and reports
// whether any is known. It is one moment's state.
func (o *Overlay) Lookup(first vlog.Block, refs []Ref) (any bool) {
	o.mu.RLock()
	defer o.mu.RUnlock()
	clear(refs)
	if len(o.blocks) > 0 {
		for i := range refs {
			if r, ok := o.blocks[first+vlog.Block(i)]; ok && r.At() >= o.before {
				refs[i], any = r, true
			}
		}
	}
	if o.spans == nil || o.spans.Len() == 0 {
		return any
	}
	var array [atATime]span
	end := first + vlog.Block(len(refs))
	for _, s := range o.overlapLocked(array[:0], first, end, math.MaxInt) {
		if s.ref.At() < o.before {
			continue
		}
		for b := max(s.first, first); b < min(s.end, end); b++ {
			if refs[b-first].At() <= s.hides {
				refs[b-first] = s.ref
			}
		}
		any = true
	}
	return any
}

// Bytes returns how much memory the overlay takes, about.
func (o *Overlay) Bytes() int64 {
	o.mu.RLock()
	defer o.mu.RUnlock()
	n := int64(o.most) * blockBytes
	if o.spans != nil {
		n += int64(o.spans.Len()) * spanBytes
	}
	return n
}

// Empty reports whether nothing is in the overlay.
func (o *Overlay) Empty() bool {
	o.mu.RLock()
	defer o.mu.RUnlock()
	return len(o.blocks) == 0 && (o.spans == nil || o.spans.Len() == 0)
}
