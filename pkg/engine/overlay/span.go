package overlay

import (
	"math"

	"github.com/google/btree"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// span is a range of zeros. It hides what the map has of up to a position: what
// was there when it came. That is not its record's, which may hold data as well,
// before the range and behind it.
type span struct {
	first, end vlog.Block
	ref        Ref
	hides      vlog.LSN
}

func byFirst(a, b span) bool { return a.first < b.first }

// part returns what of s lies in a range.
func (s span) part(first, end vlog.Block) span {
	s.first, s.end = max(s.first, first), min(s.end, end)
	return s
}

// coverLocked puts a span over all that are there.
func (o *Overlay) coverLocked(s span) {
	if o.spans == nil {
		o.spans = btree.NewG(32, byFirst)
	}
	var array [atATime]span
	for _, old := range o.overlapLocked(array[:0], s.first, s.end, math.MaxInt) {
		o.cutLocked(old, s.first, s.end)
	}
	o.spans.ReplaceOrInsert(s)
}

// cutLocked takes a range out of a span.
func (o *Overlay) cutLocked(s span, first, end vlog.Block) {
	o.spans.Delete(s)
	for _, rest := range [2]span{s.part(0, first), s.part(end, s.end)} {
		if rest.first < rest.end {
			o.spans.ReplaceOrInsert(rest)
		}
	}
}

// overlapLocked appends the spans that overlap a range, the first so many of them.
func (o *Overlay) overlapLocked(to []span, first, end vlog.Block, most int) []span {
	o.spans.DescendLessOrEqual(span{first: first}, func(s span) bool {
		if s.end > first {
			to = append(to, s)
		}
		return false
	})
	o.spans.AscendRange(span{first: first + 1}, span{first: end}, func(s span) bool {
		to = append(to, s)
		return len(to) < most
	})
	return to
}
