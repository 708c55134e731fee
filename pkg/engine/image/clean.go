package image

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// Census is what lives in the segments of an image, and the snapshots that keep
// them: what package garbage chooses victims from.
type Census struct {
	// Checkpoint has the segments with their live counts, as of now and at most, and
	// the snapshots. It has no pages: it is not one to publish.
	*checkpoint.Checkpoint
	stored []uint32 // of each of Objects
	// Dead is the bytes of the log's own segments of which nothing lives: they go when
	// a checkpoint does without them.
	Dead int64
}

// Census counts. A segment that is being applied is not in it.
func (m *Image) Census() Census {
	live := m.table.Live()
	m.mu.RLock()
	defer m.mu.RUnlock()
	head := m.mu.head
	c := Census{Checkpoint: &checkpoint.Checkpoint{
		Reign: frame.Reign{Log: m.o.Log, Epoch: head.Epoch}, Sequence: head.Sequence,
		Snapshots: append([]checkpoint.Snapshot(nil), m.mu.snapshots...),
	}}
	blocks, bytes := uint64(0), int64(0)
	for n, o := range m.mu.objects {
		coming := o.Reign.Log == m.o.Log && (vlog.Position{Epoch: o.Reign.Epoch, Sequence: o.Sequence}).Compare(head.Position) > 0
		if o.SizeBytes == 0 || o.Kind != vlog.SegmentKind || coming {
			continue
		}
		if n >= len(live) || live[n] == 0 {
			if o.Reign.Log == m.o.Log {
				c.Dead += o.SizeBytes
			}
			continue
		}
		c.Objects, c.Live, c.stored = append(c.Objects, o.Object), append(c.Live, live[n]), append(c.stored, o.blocks)
		if o.blocks > 0 {
			blocks, bytes = blocks+uint64(o.blocks), bytes+o.SizeBytes
		}
	}
	perByte := 1. / vlog.BlockSize
	if bytes > 0 {
		perByte = max(perByte, float64(blocks)/float64(bytes))
	}
	for i, n := range c.stored {
		if n == 0 {
			c.stored[i] = max(1, uint32(float64(c.Objects[i].SizeBytes)*perByte))
		}
	}
	return c
}

// Stored returns how many blocks a segment of the census had when it was stored. Of
// one whose index was not seen since the image was restored it is an estimate: as
// many for its bytes as the others have.
func (c Census) Stored(o checkpoint.Object) uint32 {
	i, _ := slices.BinarySearchFunc(c.Objects, o.Number, func(o checkpoint.Object, n uint32) int { return int(o.Number) - int(n) })
	return c.stored[i]
}

// Share returns how many blocks live in the log's own segments, of how many that
// they had when they were stored.
func (c Census) Share() (live, stored uint64) {
	for i, o := range c.Objects {
		if o.Reign.Log == c.Reign.Log {
			live, stored = live+uint64(min(c.Live[i], c.stored[i])), stored+uint64(c.stored[i])
		}
	}
	return live, stored
}

// blocksOf returns how many blocks the frames of a segment have.
func blocksOf(x segment.Index) (n uint32) {
	for _, e := range x.Entries {
		if e.Kind <= segment.Move {
			n += uint32(e.Count)
		}
	}
	return n
}

// Tail reads the index of a segment by its number. Corrupt if it is not the one
// that the list vouches for; NotFound if it is gone; Transient as of Read.
func (m *Image) Tail(ctx context.Context, number uint32) (t segment.Tail, err error) {
	o, err := m.object(number)
	if err != nil {
		return t, err
	}
	id := segment.Identity{Reign: o.Reign.Reign, Sequence: o.Sequence}
	for range 2 {
		err = m.patiently(ctx, func(ctx context.Context) (err error) {
			t, err = segment.ReadTail(ctx, ranges{m: m, o: o}, id, o.SizeBytes, o.cipher)
			return err
		})
		if err == nil && t.Digest != o.Digest {
			err = fault.New(fault.Corrupt, "%s: got digest %s, want %s", o.Key(), t.Digest, o.Digest)
		}
		if !fault.Is(err, fault.Corrupt) {
			break
		}
		m.stats.bad.Add(1)
		if m.o.Cache != nil { // the index lies behind the frames, and how long it is is not known
			m.o.Cache.Drop(o.cached(), cache.Range{End: o.SizeBytes})
		}
	}
	if err != nil {
		return t, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if is := &m.mu.objects[number]; is.Digest == o.Digest {
		is.blocks = blocksOf(t.Index)
	}
	return t, nil
}

// Piece is blocks that lie next to each other in a frame of a segment.
type Piece struct {
	First          vlog.Block
	Count          int
	Offset, Stored int64 // of the frame
	Index          int   // of the first block in it
}

// Living returns what of a segment lives, in the order of blocks: the blocks for
// which the table names the place that the index gives them.
func (m *Image) Living(ctx context.Context, number uint32, x segment.Index) (all []Piece, err error) {
	for _, e := range x.Entries {
		if e.Kind > segment.Move {
			continue
		}
		pointers, err := m.lookup(ctx, e.First, e.Count)
		if err != nil {
			return nil, err
		}
		for i, p := range pointers {
			if p != e.Pointer(number, i) {
				continue
			}
			if k := len(all) - 1; k >= 0 && all[k].Offset == e.Offset && all[k].Index+all[k].Count == i {
				all[k].Count++
				continue
			}
			all = append(all, Piece{e.First + vlog.Block(i), 1, e.Offset, e.Stored, i})
		}
	}
	return all, nil
}

// gap is how many bytes that nobody wants a read of pieces passes over, rather than
// asking once more.
const gap = 128 << 10

// ReadPieces reads pieces of a segment, in their order, into p, which is as long as
// they are. Errors as of Read; NotFound if the segment is gone.
func (m *Image) ReadPieces(ctx context.Context, number uint32, pieces []Piece, p []byte) error {
	o, err := m.object(number)
	if err != nil {
		return err
	}
	var r run
	flush := func() error {
		if len(r.frames) == 0 {
			return nil
		}
		return m.patiently(ctx, func(ctx context.Context) error { return m.get(ctx, &r) })
	}
	for _, x := range pieces {
		into := p[:x.Count*vlog.BlockSize]
		p = p[len(into):]
		end := x.Offset + x.Stored
		if r.object.SizeBytes == 0 || x.Offset > r.at+r.bytes+gap || end-r.at > runBytes {
			if err := flush(); err != nil {
				return err
			}
			r = run{object: o, at: x.Offset}
		}
		r.bytes = end - r.at
		r.frames = append(r.frames, piece{
			frame.Place{Sequence: o.Sequence, Offset: x.Offset, First: uint64(x.First) - uint64(x.Index)}, x.Stored, x.Index, into,
		})
	}
	return flush()
}
