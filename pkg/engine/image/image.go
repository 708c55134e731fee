package image

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/replay"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// Options say what an image is read with.
type Options struct {
	Store objstore.Store
	Log   vlog.LogID
	Codec *frame.Codec
	Cache *cache.Cache // nil: none
	// Key returns the data key with an id, nil for the zero id.
	Key func(frame.KeyID) (*frame.DataKey, error)
	// LimitBytes bounds the memory of the table, see table.Options.
	LimitBytes int64
	// ReadTimeout returns how long a read waits for a store that is away.
	ReadTimeout func() time.Duration
}

// Image is the state of a log at a position. See the package's comment.
type Image struct {
	o     Options
	table *table.Table

	mu struct {
		sync.RWMutex
		head      vlog.Head
		blocks    vlog.Block // the size there; the table may be larger already
		objects   []object   // by number
		numbers   map[segment.Source]uint32
		free      []uint32 // given back, the oldest first
		snapshots []checkpoint.Snapshot
		ciphers   map[cipherKey]*frame.Cipher
	}

	applying struct { // a segment whose Apply failed
		of     segment.Identity
		number uint32
	}
	alone     checkpoint.Read // the last of this epoch that stands alone; none if nil
	nextTable vlog.Sequence

	reuse, most int // see add
	stats       stats
}

// object is an object of the list; its SizeBytes is 0 where a number is free.
type object struct {
	checkpoint.Object
	cipher *frame.Cipher
	blocks uint32 // that a segment had when it was stored; 0 if that is not known
}

type cipherKey struct {
	kind  vlog.Kind
	reign frame.Reign
}

// New returns the image of a log that starts from nothing.
func New(o Options, blocks vlog.Block) (*Image, error) {
	m := &Image{o: o, nextTable: 1, reuse: reuse, most: vlog.MaxObjects}
	t, err := table.New(table.Options{Blocks: blocks, Pager: pager{m}, LimitBytes: o.LimitBytes})
	if err != nil {
		return nil, err
	}
	m.table, m.mu.blocks = t, blocks
	m.mu.numbers = map[segment.Source]uint32{}
	m.mu.ciphers = map[cipherKey]*frame.Cipher{}
	return m, nil
}

// Restore returns the image that a checkpoint describes. It may be another log's,
// that this one starts from: snapshots are the log's own only.
func Restore(o Options, c *checkpoint.Checkpoint) (*Image, error) {
	m, err := New(o, c.Blocks)
	if err != nil {
		return nil, err
	}
	if n := len(c.Objects); n > 0 {
		m.mu.objects = make([]object, c.Objects[n-1].Number+1)
	}
	for _, x := range c.Objects {
		cipher, err := m.Cipher(x.Kind, x.Reign.Reign, x.Reign.KeyID)
		if err == nil && x.Reign.Repository != "" {
			err = fault.New(fault.Unsupported, "object %s is in repository %s: want it in the log's own", x.Key(), x.Reign.Repository)
		}
		if err != nil {
			m.Close()
			return nil, err
		}
		m.mu.objects[x.Number] = object{Object: x, cipher: cipher}
		if x.Kind == vlog.SegmentKind {
			m.mu.numbers[source(x)] = x.Number
		}
	}
	for n := range m.mu.objects {
		if m.mu.objects[n].SizeBytes == 0 {
			m.mu.free = append(m.mu.free, uint32(n))
		}
	}
	m.mu.head = c.Head()
	if c.Reign.Log == o.Log {
		m.mu.snapshots = slices.Clone(c.Snapshots)
	}
	if err := m.table.Restore(c.Root, c.LiveByNumber(), c.Orphans); err != nil {
		m.Close()
		return nil, fault.Wrap(err, "restore", c.Key())
	}
	return m, nil
}

// Close gives the memory back. Nothing may use the image any more.
func (m *Image) Close() { m.table.Close() }

func source(o checkpoint.Object) segment.Source {
	return segment.Source{Log: o.Reign.Log, Epoch: o.Reign.Epoch, Sequence: o.Sequence}
}

// Cipher returns the cipher of a reign's objects of one kind: one for each, so
// that the writer's is the readers' too.
func (m *Image) Cipher(kind vlog.Kind, r frame.Reign, id frame.KeyID) (*frame.Cipher, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	k := cipherKey{kind, r}
	if c := m.mu.ciphers[k]; c != nil {
		return c, nil
	}
	key, err := m.o.Key(id)
	if err != nil {
		return nil, fault.Wrap(err, "open", r.Log.String())
	}
	c, err := m.o.Codec.Cipher(kind, r, key)
	if err == nil {
		m.mu.ciphers[k] = c
	}
	return c, err
}

// Head returns the position that the image is the state of.
func (m *Image) Head() vlog.Head {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.head
}

// SetHead says where the epoch begins, see epoch.Opening, or where a log with a
// base does.
func (m *Image) SetHead(h vlog.Head) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mu.head = h
}

// Blocks returns the size at the head.
func (m *Image) Blocks() vlog.Block {
	m.mu.RLock()
	defer m.mu.RUnlock()
	return m.mu.blocks
}

// Grow makes room in the table for what is written beyond the size at the head.
func (m *Image) Grow(blocks vlog.Block) { m.table.Grow(blocks) }

// Table returns the extent table, to be read.
func (m *Image) Table() *table.Table { return m.table }

// Full reports that a checkpoint is due before more is applied.
func (m *Image) Full() bool { return m.table.Full() }

// Reclaim does a part of the accounting of what was dropped, and reports whether
// there is more.
func (m *Image) Reclaim(ctx context.Context) (bool, error) { return m.table.Reclaim(ctx, 64) }

// Segment is a segment to apply.
type Segment struct {
	segment.Info
	Index     segment.Index
	Digest    vlog.Digest
	Chain     vlog.Chain // behind it
	SizeBytes int64
}

// Apply applies the segment that follows the head. It may be called again after an
// error, with the same segment, before anything else is done. Corrupt if it does
// not follow.
func (m *Image) Apply(ctx context.Context, s Segment) error {
	if err := replay.Follows(m.Head(), segment.Tail{Info: s.Info}); err != nil {
		return err
	}
	number, err := m.number(s)
	if err != nil {
		return err
	}
	m.table.Grow(s.Blocks)
	find := func(s segment.Source) (uint32, bool) {
		m.mu.RLock()
		defer m.mu.RUnlock()
		n, ok := m.mu.numbers[s]
		return n, ok
	}
	if err := replay.Apply(ctx, m.table, s.Index, replay.Options{Number: number, Find: find}); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.applying.of = segment.Identity{}
	for _, seal := range s.Index.Seals {
		m.mu.snapshots = append(m.mu.snapshots, checkpoint.Snapshot{ID: seal.Snapshot, Position: s.Position(), Blocks: seal.Blocks})
	}
	m.mu.head, m.mu.blocks = vlog.Head{Position: s.Position(), Chain: s.Chain}, s.Blocks
	return nil
}

// number puts a segment into the list, once.
func (m *Image) number(s Segment) (uint32, error) {
	if m.applying.of == s.Identity {
		return m.applying.number, nil
	}
	cipher, err := m.Cipher(vlog.SegmentKind, s.Reign, s.KeyID)
	if err != nil {
		return 0, err
	}
	x := checkpoint.Object{
		Kind: vlog.SegmentKind, Reign: checkpoint.Reign{Reign: s.Reign, KeyID: s.KeyID},
		Sequence: s.Sequence, SizeBytes: s.SizeBytes, Digest: s.Digest,
	}
	n, err := m.add(object{Object: x, cipher: cipher, blocks: blocksOf(s.Index)})
	if err == nil {
		m.applying.of, m.applying.number = s.Identity, n
	}
	return n, err
}

// reuse is how many free numbers wait before the first one is given again.
const reuse = 4096

// add gives an object a number. Exhausted if there is none.
func (m *Image) add(x object) (uint32, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var n uint32
	switch {
	case len(m.mu.free) > m.reuse, len(m.mu.objects) >= m.most && len(m.mu.free) > 0:
		n = m.mu.free[0]
		m.mu.free = m.mu.free[1:]
	case len(m.mu.objects) < m.most:
		n = uint32(len(m.mu.objects))
		m.mu.objects = append(m.mu.objects, object{})
	default:
		return 0, fault.New(fault.Exhausted, "log %s: %d objects are in use: want fewer, by collection", m.o.Log, m.most)
	}
	x.Number = n
	m.mu.objects[n] = x
	if x.Kind == vlog.SegmentKind {
		m.mu.numbers[source(x.Object)] = n
	}
	return n, nil
}

// object returns the object that a pointer names.
func (m *Image) object(n uint32) (object, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	if int(n) >= len(m.mu.objects) || m.mu.objects[n].SizeBytes == 0 {
		return object{}, fault.New(fault.Corrupt, "log %s at %s: the table names object %d, which is not in the list of %d", m.o.Log, m.mu.head.Position, n, len(m.mu.objects))
	}
	return m.mu.objects[n], nil
}

// Snapshot returns a snapshot that was sealed in this log.
func (m *Image) Snapshot(id string) (checkpoint.Snapshot, bool) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	for _, s := range m.mu.snapshots {
		if string(s.ID) == id {
			return s, true
		}
	}
	return checkpoint.Snapshot{}, false
}

// Forget takes a snapshot that was let go out of what later checkpoints list.
func (m *Image) Forget(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var kept []checkpoint.Snapshot
	for _, s := range m.mu.snapshots {
		if string(s.ID) != id {
			kept = append(kept, s)
		}
	}
	m.mu.snapshots = kept
}

// Same reports whether a number of a means the same object as one of b, for
// table.Diff.
func Same(a, b *Image) func(p, q uint32) bool {
	return func(p, q uint32) bool {
		x, err := a.object(p)
		y, err2 := b.object(q)
		x.Number, y.Number = 0, 0
		return err == nil && err2 == nil && x.Object == y.Object
	}
}
