package image

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
)

// Writer says who makes a checkpoint, and how.
type Writer struct {
	Reign   frame.Reign
	KeyID   frame.KeyID
	Settled vlog.Epoch
	With    frame.Compression
	Now     time.Time
	// Store makes an object durable and repeats until it is, or the reign is over. It
	// is called for several objects at once.
	Store func(ctx context.Context, key string, object []byte) error
}

// Prepared is a checkpoint that is ready to be published, its pages stored.
type Prepared struct {
	checkpoint.Encoded
	Checkpoint *checkpoint.Checkpoint
	alone      bool
	dropped    []uint32
}

// Checkpoint stores what of the table changed, and forms the checkpoint of the
// head, to be published with Publish and then told to Published. An error of
// Store leaves what was stored to be listed by the next one.
func (m *Image) Checkpoint(ctx context.Context, w Writer) (Prepared, error) {
	if err := m.storePages(ctx, w); err != nil {
		return Prepared{}, err
	}
	cipher, err := m.Cipher(vlog.CheckpointKind, w.Reign, w.KeyID)
	if err != nil {
		return Prepared{}, err
	}
	c, dropped := m.describe(w)
	var base *checkpoint.Checkpoint
	if m.alone.Checkpoint != nil && len(c.Objects) > 256 && changes(m.alone.Checkpoint, c) < len(c.Objects)/4 && m.alone.Sequence < c.Sequence {
		base = m.alone.Checkpoint
	}
	e, err := checkpoint.Encode(c, cipher, base, m.alone.Digest)
	if err != nil {
		return Prepared{}, err
	}
	if base == nil {
		// Whether it will be published is not known from here on: none may add to the
		// one before (R1 of package garbage).
		m.alone = checkpoint.Read{}
	}
	return Prepared{Encoded: e, Checkpoint: c, alone: base == nil, dropped: dropped}, nil
}

// Published says that a prepared checkpoint is durable: its numbers may be given
// again, and later ones may add to it.
func (m *Image) Published(p Prepared) {
	if p.alone {
		m.alone = checkpoint.Read{Checkpoint: p.Checkpoint, Digest: p.Digest}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range p.dropped {
		if o := m.mu.objects[n]; o.Kind == vlog.SegmentKind {
			delete(m.mu.numbers, source(o.Object))
		}
		m.mu.objects[n] = object{}
		m.mu.free = append(m.mu.free, n)
	}
}

// changes returns how many objects of two lists are not in both, about.
func changes(a, b *checkpoint.Checkpoint) int {
	n, i := 0, 0
	for _, o := range b.Objects {
		for i < len(a.Objects) && a.Objects[i].Number < o.Number {
			i++
			n++
		}
		if i < len(a.Objects) && a.Objects[i].Number == o.Number {
			if a.Objects[i] != o {
				n++
			}
			i++
			continue
		}
		n++
	}
	return n + len(a.Objects) - i
}

// describe returns the checkpoint of the head, and the numbers of objects that it
// does not list any more.
func (m *Image) describe(w Writer) (c *checkpoint.Checkpoint, dropped []uint32) {
	orphans := m.table.Orphans()
	live := m.table.Live()
	root := m.table.Root()
	m.mu.RLock()
	defer m.mu.RUnlock()
	c = &checkpoint.Checkpoint{
		Reign: w.Reign, Sequence: m.mu.head.Sequence, Chain: m.mu.head.Chain, KeyID: w.KeyID, Settled: w.Settled,
		Blocks: m.mu.blocks, NextTable: m.nextTable, Time: w.Now, Root: root, Orphans: orphans,
		Snapshots: append([]checkpoint.Snapshot(nil), m.mu.snapshots...),
	}
	for n, o := range m.mu.objects {
		switch {
		case o.SizeBytes == 0:
		case n < len(live) && live[n] > 0:
			c.Objects, c.Live = append(c.Objects, o.Object), append(c.Live, live[n])
		default:
			dropped = append(dropped, uint32(n))
		}
	}
	return c, dropped
}

// Keep takes the bytes of a segment that was applied into the cache.
func (m *Image) Keep(id segment.Identity, bytes []byte) {
	if m.o.Cache == nil {
		return
	}
	o := object{Object: checkpoint.Object{Kind: vlog.SegmentKind, Reign: checkpoint.Reign{Reign: id.Reign}, Sequence: id.Sequence, SizeBytes: int64(len(bytes))}}
	m.o.Cache.Put(o.cached(), 0, bytes)
}
