package engine

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// most is how many slots are begun beyond what is in the table.
const most = 32

// upload is a segment on its way.
type upload struct {
	segment image.Segment
	object  []byte   // until it is stored
	end     vlog.LSN // of its journal range; 0 if it has none
	moves   *batch   // what it moves, if it does that alone
	bytes   int      // of data in the journal that it has, also what was overwritten there
	stored  bool
}

// former forms segments of what is in the journal, in its order: when there is
// enough, when it is old enough, or when somebody waits for it.
func (v *Volume) former() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, any := v.due()
		next := v.next
		moves := v.movesDue(any && wait <= 0)
		if moves {
			next = v.moves
		}
		if moves || any && wait <= 0 {
			if err := v.form(v.ctx, next); err != nil {
				if v.ctx.Err() == nil {
					v.fail(err)
				}
				return
			}
			continue
		}
		timer.Stop() // nothing to do: nothing is asked of anybody
		if any {
			timer.Reset(wait)
		}
		select {
		case <-v.ctx.Done():
			return
		case <-v.kick:
		case <-timer.C:
		}
	}
}

// due says whether there is anything to form a segment of, and in how long.
func (v *Volume) due() (wait time.Duration, any bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.err != nil || v.mu.newest <= v.mu.cut {
		return 0, false
	}
	if v.enoughLocked() || v.mu.force > v.mu.cut {
		return 0, true
	}
	return v.mu.ages.oldest(v.mu.cut).Add(v.tuning.Load().UploadDelay).Sub(v.e.o.Now()), true
}

// enoughLocked reports whether there is enough for a segment: as many bytes of data,
// or of the journal twice as many, which small records take; less of a small one.
func (v *Volume) enoughLocked() bool {
	return v.mu.fresh >= segmentBytes || int64(v.mu.newest-v.mu.cut) >= min(2*segmentBytes, v.ring/4)
}

// form forms one segment and sends it on its way.
func (v *Volume) form(ctx context.Context, next func(context.Context) (*upload, error)) error {
	if err := v.await(ctx, func() (bool, error) { return len(v.mu.inflight) < most, nil }); err != nil {
		return err
	}
	if err := v.e.uploads.Acquire(ctx, 1); err != nil {
		return err
	}
	u, err := next(ctx)
	if err != nil || u == nil {
		v.e.uploads.Release(1)
		return err
	}
	v.mu.Lock()
	v.mu.cut = max(v.mu.cut, u.end)
	v.mu.fresh -= int64(u.bytes)
	v.mu.inflight = append(v.mu.inflight, u)
	if u.moves != nil {
		v.mu.batch, u.moves.upload, u.moves.over = nil, u, true
	}
	v.notifyLocked()
	v.mu.Unlock()
	if !v.background(func() { v.store(u) }) {
		v.e.uploads.Release(1)
	}
	return nil
}

// next gathers records from the cut on and forms the segment; nil if there are
// none that change anything.
func (v *Volume) next(ctx context.Context) (*upload, error) {
	if err := v.e.forming.Acquire(ctx, 1); err != nil {
		return nil, err
	}
	defer v.e.forming.Release(1)
	if err := v.journal.Flush(ctx); err != nil { // a segment covers what is durable only
		return nil, err
	}
	arena := v.e.arenas.Get().(*[]byte)
	defer v.e.arenas.Put(arena)
	g := gathering{arena: *arena}
	v.mu.Lock()
	first := v.mu.cut
	v.mu.Unlock()
	end := first
	for r, err := range v.journal.Records(ctx, first, v.journal.Durable()) {
		if err != nil {
			return nil, err
		}
		if !g.take(r) {
			break
		}
		if end = r.End; r.Seal != nil {
			break
		}
	}
	if g.batch.Empty() && g.seal == nil {
		v.mu.Lock()
		v.mu.cut = end // epochs' beginnings alone; the next segment's range has them
		v.mu.Unlock()
		return nil, nil
	}
	with := v.tuning.Load().Compression
	blocks := vlog.Block(v.blocks.Load())
	if g.seal != nil {
		blocks = g.seal.Blocks // the volume may be larger by now
	}
	u, err := v.segment(end, blocks, g.used, func(w *segment.Writer) error { return g.fill(w, with) })
	if err == nil {
		u.bytes = g.used
	}
	return u, err
}

// gathering is what goes into one segment.
type gathering struct {
	batch segment.Batch
	arena []byte
	used  int
	seal  *journal.Seal
}

// take takes a record, or reports that it does not fit.
func (g *gathering) take(r journal.Record) bool {
	if r.Seal != nil {
		seal := *r.Seal
		g.seal = &seal
		return true
	}
	bytes, blocks := 0, uint64(0)
	for _, c := range r.Changes {
		bytes += len(c.Data)
		blocks += max(1, uint64(len(c.Data)/vlog.BlockSize))
	}
	// Each change may split what is there, so that there is room for as many more.
	if g.used+bytes > len(g.arena) || !g.batch.Fits(blocks+2*vlog.FrameBlocks*uint64(len(r.Changes))) {
		return false
	}
	for _, c := range r.Changes {
		if c.Kind != journal.Data {
			g.batch.Zero(segment.EntryKind(c.Kind), c.First, c.Count)
			continue
		}
		g.batch.Write(c.First, c.Count, uint64(g.used/vlog.BlockSize))
		g.used += copy(g.arena[g.used:], c.Data)
	}
	return true
}

// bytes returns the blocks of a frame, through a buffer if they do not lie together.
func (g *gathering) bytes(pieces []segment.Piece, buffer *[]byte) []byte {
	*buffer = (*buffer)[:0]
	for _, p := range pieces {
		b := g.arena[p.Ref*vlog.BlockSize:][:p.Count*vlog.BlockSize]
		if len(pieces) == 1 {
			return b
		}
		*buffer = append(*buffer, b...)
	}
	return *buffer
}

// fill puts what was gathered into a segment.
func (g *gathering) fill(w *segment.Writer, with frame.Compression) (err error) {
	payload := make([]byte, 0, vlog.FrameBlocks*vlog.BlockSize)
	for p := range g.batch.Entries() {
		if p.Kind != segment.Data {
			err = w.Zero(p.Kind, p.First, p.Count)
		} else {
			err = w.Data(p.First, g.bytes(p.Pieces, &payload), with)
		}
		if err != nil {
			return err
		}
	}
	if g.seal != nil {
		return w.Seal(segment.Seal{Snapshot: g.seal.Snapshot, Blocks: g.seal.Blocks})
	}
	return nil
}

// segment forms the next segment, which covers the journal up to a position. It is
// not formed twice: an error is the end of the reign.
func (v *Volume) segment(end vlog.LSN, blocks vlog.Block, bytes int, fill func(w *segment.Writer) error) (*upload, error) {
	v.mu.Lock()
	v.mu.begun++
	id := segment.Identity{Reign: v.reign.Reign, Sequence: v.mu.begun}
	v.mu.Unlock()
	covers := vlog.JournalRange{Incarnation: v.journal.Found().Incarnation, First: v.formedEnd, End: end}
	w, err := segment.NewWriter(v.ciphers.segment, segment.Info{Identity: id, Journal: covers, Blocks: blocks, Previous: v.formed.Chain}, make([]byte, 0, bytes+bytes/64+64<<10))
	if err != nil {
		return nil, err
	}
	if err := fill(w); err != nil {
		return nil, err
	}
	f := w.Finish()
	v.formed = vlog.Head{Position: f.Position(), Chain: f.Chain}
	v.formedEnd, v.formedBlocks = end, blocks
	v.stats.segments.Add(1)
	v.stats.segmentBytes.Add(uint64(len(f.Object)))
	return &upload{
		segment: image.Segment{Info: f.Info, Index: f.Index, Digest: f.Digest, Chain: f.Chain, SizeBytes: int64(len(f.Object))},
		object:  f.Object, end: end,
	}, nil
}

// store stores a segment, again and again until it is or the reign is over, and
// notes what counts.
func (v *Volume) store(u *upload) {
	defer v.e.uploads.Release(1)
	v.image.Keep(u.segment.Identity, u.object)
	err := v.persist(v.ctx, func(ctx context.Context) error { return v.reign.Put(ctx, u.segment.Sequence, u.object) })
	if v.ctx.Err() != nil {
		return
	}
	if err != nil {
		v.fail(err)
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	u.stored, u.object = true, nil
	for _, x := range v.mu.inflight {
		if !x.stored {
			break
		}
		v.mu.counted = max(v.mu.counted, x.end)
	}
	v.mu.ages.forget(v.mu.counted)
	v.notifyLocked()
}

// ages tells how old what is not uploaded is: the times of some journal positions,
// ascending, never more than a few.
type ages []age

type age struct {
	at   vlog.LSN
	time time.Time
}

const maxAges = 256

// add notes the time of a change; those that come close behind one that is noted
// are taken to be as old as that.
func (a *ages) add(at vlog.LSN, now time.Time) {
	if n := len(*a); n > 0 && now.Sub((*a)[n-1].time) < 50*time.Millisecond {
		(*a)[n-1].at = at
		return
	}
	if len(*a) >= maxAges { // every second one goes: the rest stands for it, as older
		kept := (*a)[:0]
		for i := 0; i+1 < len(*a); i += 2 {
			kept = append(kept, age{(*a)[i+1].at, (*a)[i].time})
		}
		*a = kept
	}
	*a = append(*a, age{at, now})
}

// oldest returns the time of the oldest change that ends behind a position; zero if
// there is none.
func (a ages) oldest(behind vlog.LSN) time.Time {
	for _, x := range a {
		if x.at > behind {
			return x.time
		}
	}
	return time.Time{}
}

// forget drops what ends at or before a position.
func (a *ages) forget(upTo vlog.LSN) {
	n := 0
	for n < len(*a) && (*a)[n].at <= upTo {
		n++
	}
	*a = append((*a)[:0], (*a)[n:]...)
}
