package engine

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/engine/overlay"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// batch is blocks on their way into a segment of moves. What is below is guarded by
// Volume.mu.
type batch struct {
	arena  []byte
	most   int // blocks
	blocks []moving
	whole  uint64 // victims that nothing is left of

	taken  bool    // the former forms it
	over   bool    // it is formed, or there was nothing left to form
	upload *upload // of it; nil if there was nothing left
}

// moving is a block, where it was, and where in the arena its bytes are.
type moving struct {
	block vlog.Block
	from  segment.Moved
	at    int
}

// first returns so many blocks of pieces at most, and whether those are all.
func first(pieces []image.Piece, most int) ([]image.Piece, bool) {
	for i := range pieces {
		if p := &pieces[i]; p.Count > most {
			p.Count = most
			return slices.DeleteFunc(pieces[:i+1], func(p image.Piece) bool { return p.Count == 0 }), false
		}
		most -= pieces[i].Count
	}
	return pieces, true
}

// add adds blocks that were read into the arena behind those that it has.
func (b *batch) add(victim checkpoint.Object, pieces []image.Piece) {
	of := segment.Source{Log: victim.Reign.Log, Epoch: victim.Reign.Epoch, Sequence: victim.Sequence}
	for _, p := range pieces {
		for i := range p.Count {
			from := segment.Moved{Source: of, Offset: p.Offset, Index: p.Index + i, Count: 1}
			b.blocks = append(b.blocks, moving{p.First + vlog.Block(i), from, len(b.blocks)})
		}
	}
}

// hand gives a batch to the former, and waits until it is formed. Busy if data keep
// the former from it for long.
func (c *cleaner) hand(b *batch) error {
	c.mu.Lock()
	c.mu.batch = b
	c.mu.Unlock()
	c.poke()
	limit, cancel := context.WithTimeout(c.ctx, handPatience)
	defer cancel()
	formed := func() (bool, error) { return b.over, nil }
	err := c.await(limit, formed)
	if err == nil || c.ctx.Err() != nil {
		return err
	}
	c.mu.Lock()
	taken := b.taken
	if !taken {
		c.mu.batch = nil
	}
	c.mu.Unlock()
	if taken {
		return c.await(c.ctx, formed)
	}
	return fault.New(fault.Busy, "volume %s: cleaning: nothing was formed within %s: %w", c.o.Volume, handPatience, err)
}

// movesDue reports whether a batch is to be formed. Data that are due come first if
// somebody waits for them, or will: when the journal is more than half full.
func (v *Volume) movesDue(late bool) bool {
	v.mu.Lock()
	due, waits := v.mu.batch != nil && v.mu.held == 0 && v.mu.err == nil, v.mu.force > v.mu.cut
	v.mu.Unlock()
	if !due || !late {
		return due
	}
	s := v.journal.State()
	return !waits && s.Used <= s.Size/2
}

// moves forms the batch's segment: it covers none of the journal, and leaves the size
// as it was, since a snapshot of before the growth may still be on its way. nil if
// nothing of it is left to be moved.
func (v *Volume) moves(ctx context.Context) (*upload, error) {
	v.mu.Lock()
	b := v.mu.batch
	if b == nil || v.mu.held > 0 {
		v.mu.Unlock()
		return nil, nil
	}
	b.taken = true
	v.mu.Unlock()
	if err := v.e.forming.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer v.e.forming.Release(1)
	// What was written again, and is on its way, is left where it is, to die there.
	b.blocks = slices.DeleteFunc(b.blocks, func(x moving) bool {
		var refs [1]overlay.Ref
		return v.overlay.Lookup(x.block, refs[:])
	})
	if len(b.blocks) == 0 {
		v.mu.Lock()
		defer v.mu.Unlock()
		v.mu.batch, b.over = nil, true
		v.notifyLocked()
		return nil, nil
	}
	slices.SortFunc(b.blocks, func(x, y moving) int { return int(x.block) - int(y.block) })
	with := v.tuning.Load().Compression
	u, err := v.segment(v.formedEnd, v.formedBlocks, len(b.blocks)*vlog.BlockSize, func(w *segment.Writer) error { return b.fill(w, with) })
	if err != nil {
		return nil, err
	}
	u.end, u.moves = 0, b
	v.stats.moves.Add(1)
	v.stats.moveBytes.Add(uint64(len(u.object)))
	return u, nil
}

// fill forms frames of neighbours, each with where its blocks were.
func (b *batch) fill(w *segment.Writer, with frame.Compression) error {
	payload := make([]byte, 0, vlog.FrameBlocks*vlog.BlockSize)
	var from []segment.Moved
	for i := 0; i < len(b.blocks); {
		first := b.blocks[i].block
		payload, from = payload[:0], from[:0]
		for ; i < len(b.blocks) && b.blocks[i].block == first+vlog.Block(len(payload)/vlog.BlockSize); i++ {
			x := b.blocks[i]
			if len(payload) > 0 && x.block%vlog.FrameBlocks == 0 {
				break
			}
			payload = append(payload, b.arena[x.at*vlog.BlockSize:][:vlog.BlockSize]...)
			if k := len(from) - 1; k >= 0 && from[k].Source == x.from.Source && from[k].Offset == x.from.Offset && from[k].Index+from[k].Count == x.from.Index {
				from[k].Count++
				continue
			}
			from = append(from, x.from)
		}
		if err := w.Move(first, payload, from, with); err != nil {
			return err
		}
	}
	return nil
}

// hold keeps moves from being formed, for who ends the epoch; still reports that
// none are under way.
func (v *Volume) hold(by int) {
	v.mu.Lock()
	v.mu.held += by
	v.mu.Unlock()
	v.poke()
}

func (v *Volume) still() (bool, error) {
	return len(v.mu.inflight) == 0 && (v.mu.batch == nil || !v.mu.batch.taken), nil
}
