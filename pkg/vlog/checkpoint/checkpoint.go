package checkpoint

import (
	"slices"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/table"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Reign is a reign that objects of the list are of.
type Reign struct {
	frame.Reign
	KeyID      frame.KeyID
	Repository volume.RepositoryID // where they are; empty: the log's own
}

// Object is an object that is needed.
type Object struct {
	Number    uint32 // as pointers have it
	Kind      vlog.Kind
	Reign     Reign
	Sequence  vlog.Sequence
	SizeBytes int64
	Digest    vlog.Digest
}

// Key returns the object's key in its repository.
func (o Object) Key() string {
	return vlog.Keys{Log: o.Reign.Log}.Object(o.Kind, vlog.Position{Epoch: o.Reign.Epoch, Sequence: o.Sequence})
}

// Snapshot is a snapshot that was sealed in this log and is still there.
type Snapshot struct {
	ID       volume.SnapshotID
	Position vlog.Position
	Blocks   vlog.Block
}

// Base names another checkpoint of the log.
type Base struct {
	Position vlog.Position
	Digest   vlog.Digest
}

// Checkpoint is a checkpoint with its whole object list.
type Checkpoint struct {
	Reign    frame.Reign // of its writer
	Sequence vlog.Sequence
	Chain    vlog.Chain
	KeyID    frame.KeyID
	Settled  vlog.Epoch
	Blocks   vlog.Block
	// NextTable is the counter of the epoch's next tables/ object.
	NextTable vlog.Sequence
	Time      time.Time

	Objects   []Object // ascending by number
	Live      []uint32 // of each of Objects
	Root      []table.Entry
	Orphans   []table.Orphan
	Snapshots []Snapshot
}

// Position returns what the checkpoint is the state of.
func (c *Checkpoint) Position() vlog.Position {
	return vlog.Position{Epoch: c.Reign.Epoch, Sequence: c.Sequence}
}

// Head returns the position and the chain there.
func (c *Checkpoint) Head() vlog.Head { return vlog.Head{Position: c.Position(), Chain: c.Chain} }

// Key returns the checkpoint's key.
func (c *Checkpoint) Key() string { return vlog.Keys{Log: c.Reign.Log}.Checkpoint(c.Position()) }

// Find returns an object by its number.
func (c *Checkpoint) Find(number uint32) (Object, bool) {
	i, ok := slices.BinarySearchFunc(c.Objects, number, func(o Object, n uint32) int { return int(o.Number) - int(n) })
	if !ok {
		return Object{}, false
	}
	return c.Objects[i], true
}

// LiveByNumber returns the live counts as table.Restore wants them.
func (c *Checkpoint) LiveByNumber() []uint32 {
	if len(c.Objects) == 0 {
		return nil
	}
	live := make([]uint32, c.Objects[len(c.Objects)-1].Number+1)
	for i, o := range c.Objects {
		live[o.Number] = c.Live[i]
	}
	return live
}

// Same reports whether a number means the same object in two checkpoints, for
// table.Diff.
func Same(a, b *Checkpoint) func(p, q uint32) bool {
	return func(p, q uint32) bool {
		x, ok := a.Find(p)
		y, also := b.Find(q)
		x.Number, y.Number = 0, 0
		return ok && also && x == y
	}
}

// validate reports what does not hang together: Internal where it is to be
// stored, Corrupt where it was read.
func (c *Checkpoint) validate(kind fault.Kind) error {
	key := c.Key()
	switch {
	case !c.Position().Valid() || c.Blocks > vlog.MaxBlocks || c.Settled >= c.Reign.Epoch && c.Settled > 0:
		return fault.New(kind, "%s: %d blocks, settled up to epoch %d: want a position, at most %d blocks, and an epoch before", key, c.Blocks, c.Settled, vlog.MaxBlocks)
	case len(c.Live) != len(c.Objects):
		return fault.New(kind, "%s: %d live counts: want one for each of %d objects", key, len(c.Live), len(c.Objects))
	}
	for i, o := range c.Objects {
		if o.Number >= vlog.MaxObjects || i > 0 && o.Number <= c.Objects[i-1].Number || o.Kind != vlog.SegmentKind && o.Kind != vlog.TableKind ||
			!(vlog.Position{Epoch: o.Reign.Epoch, Sequence: o.Sequence}).Valid() || o.Sequence == 0 || o.SizeBytes <= 0 {
			return fault.New(kind, "%s: object %d: number %d, %s %d of epoch %d, %d bytes: want ascending numbers below %d, and a segment or table", key, i, o.Number, o.Kind, o.Sequence, o.Reign.Epoch, o.SizeBytes, vlog.MaxObjects)
		}
	}
	tableAt := func(p vlog.Pointer) bool {
		o, ok := c.Find(p.Object())
		return ok && o.Kind == vlog.TableKind && !p.Hole() && p.Valid() && p.Offset()+p.Stored() <= o.SizeBytes
	}
	directories := uint64(c.Blocks+table.DirectoryBlocks-1) / table.DirectoryBlocks
	for i, e := range c.Root {
		if e.Directory >= directories || i > 0 && e.Directory <= c.Root[i-1].Directory || !tableAt(e.Stored) {
			return fault.New(kind, "%s: root entry %d: directory %d at %s: want ascending ones below %d, each in a table of the list", key, i, e.Directory, e.Stored, directories)
		}
	}
	for i, o := range c.Orphans {
		if !tableAt(o.Stored) {
			return fault.New(kind, "%s: orphan %d: page %d at %s: want it in a table of the list", key, i, o.Page, o.Stored)
		}
	}
	for i, s := range c.Snapshots {
		if _, err := volume.ParseSnapshotID(string(s.ID)); err != nil || !s.Position.Valid() || s.Blocks > c.Blocks {
			return fault.New(kind, "%s: snapshot %d: %q at %s, %d blocks: want an id, a position, and at most %d blocks", key, i, s.ID, s.Position, s.Blocks, c.Blocks)
		}
	}
	return nil
}
