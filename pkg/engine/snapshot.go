package engine

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Snapshot is a snapshot that is complete.
type Snapshot struct {
	ID volume.SnapshotID
	// Head is its position and the chain there, Checkpoint the digest of the
	// checkpoint at that position, which vouches for all of it.
	Head       vlog.Head
	Checkpoint vlog.Digest
	Blocks     vlog.Block
	// Cut is when it was cut and Pause for how long writers waited; both are zero if
	// that was in an earlier life.
	Cut   time.Time
	Pause time.Duration
}

// sealing is a snapshot on its way: cut in this life, or in the journal that it
// began with. Its fields are guarded by Volume.mu.
type sealing struct {
	end   vlog.LSN
	cut   time.Time
	pause time.Duration
	done  bool
	is    Snapshot
}

// Cut cuts a snapshot here and now: between two writes, by a record of the journal
// that survives this process when Cut returns. Snapshot completes it. A snapshot
// that was cut already is success.
func (v *Volume) Cut(ctx context.Context, id volume.SnapshotID) error {
	v.mu.Lock()
	s := v.mu.snapshots[id]
	if s == nil {
		if _, ok := v.image.Snapshot(string(id)); !ok {
			s = &sealing{}
			v.mu.snapshots[id] = s
			v.mu.Unlock()
			return v.cut(ctx, id, s)
		}
	}
	v.mu.Unlock()
	if s == nil {
		return nil // in an earlier life
	}
	return v.await(ctx, func() (bool, error) { return s.end > 0 || v.mu.snapshots[id] != s, nil })
}

func (v *Volume) cut(ctx context.Context, id volume.SnapshotID, s *sealing) error {
	v.growing.Lock() // nobody writes beyond the seal's size before it
	defer v.growing.Unlock()
	b := &journal.Batch{Seal: &journal.Seal{Snapshot: id, Blocks: vlog.Block(v.blocks.Load())}}
	began := v.e.o.Now()
	b.Apply = func() {
		v.mu.Lock()
		s.end, s.cut = b.End, v.e.o.Now()
		s.pause = s.cut.Sub(began)
		v.notifyLocked()
		v.mu.Unlock()
		v.noteChange(b.End)
	}
	err := v.journal.Append(ctx, b)
	if err != nil {
		v.mu.Lock()
		delete(v.mu.snapshots, id)
		v.notifyLocked()
		v.mu.Unlock()
		return err
	}
	return v.mayAcknowledge(ctx)
}

// Snapshot cuts a snapshot, if that was not done, and completes it: everything that
// it needs counts, the checkpoint of its position is published, and no successor
// was seen after that. Repeated with the same id it returns the same, also after
// an opening, if it was completed before.
func (v *Volume) Snapshot(ctx context.Context, id volume.SnapshotID) (Snapshot, error) {
	if err := v.Cut(ctx, id); err != nil {
		return Snapshot{}, err
	}
	v.mu.Lock()
	s := v.mu.snapshots[id]
	v.mu.Unlock()
	if s == nil {
		return v.earlier(ctx, id)
	}
	var is Snapshot
	v.mu.Lock()
	end := s.end
	v.mu.Unlock()
	v.demand(end)
	err := v.await(ctx, func() (bool, error) {
		is = s.is
		return s.done, nil
	})
	return is, err
}

// earlier reads a snapshot that was completed in an earlier life.
func (v *Volume) earlier(ctx context.Context, id volume.SnapshotID) (Snapshot, error) {
	s, ok := v.image.Snapshot(string(id))
	if !ok {
		return Snapshot{}, fault.New(fault.NotFound, "snapshot %s: volume %s has none of this id", id, v.o.Volume)
	}
	c, err := v.e.reader(v.o.LogOptions).at(ctx, s.Position)
	if err != nil {
		return Snapshot{}, fault.Wrap(err, "snapshot", string(id))
	}
	return Snapshot{ID: id, Head: c.Head(), Checkpoint: c.Digest, Blocks: s.Blocks}, nil
}

// complete completes the snapshots that a segment sealed, once the checkpoint of
// its position is published.
func (v *Volume) complete(u *upload) error {
	if len(u.segment.Index.Seals) == 0 {
		return nil
	}
	if err := v.persist(v.ctx, v.reign.Latest); err != nil {
		return err
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, seal := range u.segment.Index.Seals {
		s := v.mu.snapshots[seal.Snapshot]
		if s == nil { // it was let go meanwhile
			continue
		}
		s.done = true
		s.is = Snapshot{
			ID: seal.Snapshot, Head: vlog.Head{Position: u.segment.Position(), Chain: u.segment.Chain}, Checkpoint: v.digest,
			Blocks: seal.Blocks, Cut: s.cut, Pause: s.pause,
		}
	}
	v.notifyLocked()
	return nil
}

// Forget says that a snapshot was let go: later checkpoints do not list it.
func (v *Volume) Forget(id volume.SnapshotID) {
	v.image.Forget(string(id))
	v.soil(0)
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.mu.snapshots, id)
}
