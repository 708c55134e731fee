package overlay

import (
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// pieces is how many steps Retire does before it lets others pass.
const pieces = 512

// smallest is the size from which on the map is made anew when an eighth of it is
// left.
const smallest = 1024

// Retire says that the table has everything before a journal position, by a segment
// with these entries, ascending and without an overlap, and those before it.
func (o *Overlay) Retire(entries []segment.Entry, before vlog.LSN) {
	o.retiring.Lock()
	defer o.retiring.Unlock()
	o.mu.Lock()
	defer o.mu.Unlock()
	o.before = max(o.before, before)
	r := retirement{o: o}
	count := uint64(0)
	for _, e := range entries {
		count += e.Count
	}
	if count > uint64(len(o.blocks)) {
		r.walkLocked()
	} else {
		r.lookLocked(entries)
	}
	r.spansLocked(entries)
	o.shrinkLocked()
}

// retirement is a Retire on its way.
type retirement struct {
	o     *Overlay
	steps int
}

// stepLocked lets others pass from time to time.
func (r *retirement) stepLocked() {
	if r.steps++; r.steps >= pieces {
		r.steps = 0
		r.o.mu.Unlock()
		r.o.mu.Lock()
	}
}

// walkLocked goes through the map. What is put into it meanwhile may be passed
// over or not, and stays: it is newer. Only Retire makes another map.
func (r *retirement) walkLocked() {
	for b, ref := range r.o.blocks {
		if ref.At() < r.o.before {
			delete(r.o.blocks, b)
		}
		r.stepLocked()
	}
}

// lookLocked goes through the entries.
func (r *retirement) lookLocked(entries []segment.Entry) {
	for _, e := range entries {
		for b := e.First; b < e.First+vlog.Block(e.Count); b++ {
			if ref, ok := r.o.blocks[b]; ok && ref.At() < r.o.before {
				delete(r.o.blocks, b)
			}
			r.stepLocked()
		}
	}
}

// spansLocked cuts the entries out of the spans, some at a time.
func (r *retirement) spansLocked(entries []segment.Entry) {
	var found []span
	for _, e := range entries {
		end := e.First + vlog.Block(e.Count)
		for from := e.First; from < end; {
			if r.o.spans == nil || r.o.spans.Len() == 0 {
				return
			}
			found = r.o.overlapLocked(found[:0], from, end, pieces)
			if from = end; len(found) == pieces {
				from = found[pieces-1].end
			}
			for _, s := range found {
				if s.ref.At() < r.o.before {
					r.o.cutLocked(s, e.First, end)
				}
			}
			r.steps += len(found)
			r.stepLocked()
		}
	}
}

// shrinkLocked gives the memory of a map back that was much larger.
func (o *Overlay) shrinkLocked() {
	if o.most < smallest || len(o.blocks) > o.most/8 {
		return
	}
	left := make(map[vlog.Block]Ref, len(o.blocks))
	for b, r := range o.blocks {
		left[b] = r
	}
	o.blocks, o.most = left, len(left)
}
