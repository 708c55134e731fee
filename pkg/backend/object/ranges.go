package object

import (
	"context"
	"iter"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/vlog/table"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Allocated implements backend.Backend. It reads pages of the extent table, and no
// data.
func (b *Backend) Allocated(ctx context.Context, id volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return stream(offset, "list the ranges of snapshot "+string(id), func(yield func(backend.Extent) bool) error {
		s, err := b.site(ctx)
		if err != nil {
			return err
		}
		target, err := s.snapshot(ctx, id)
		if err != nil {
			return err
		}
		return b.ranges(ctx, s, nil, target.Value, offset, yield)
	})
}

// Delta implements backend.Backend. Pages that both share are not read.
func (b *Backend) Delta(ctx context.Context, base, target volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return stream(offset, "list the changes from snapshot "+string(base)+" to "+string(target), func(yield func(backend.Extent) bool) error {
		s, err := b.site(ctx)
		if err != nil {
			return err
		}
		from, err := s.snapshot(ctx, base)
		if err != nil {
			return err
		}
		to, err := s.snapshot(ctx, target)
		if err != nil {
			return err
		}
		f, t := from.Value, to.Value
		switch {
		case f.Volume != t.Volume || f.Log != t.Log:
			return fault.New(fault.Invalid, "base %s is of volume %s and target %s of volume %s: want two snapshots of one volume", base, f.Volume, target, t.Volume)
		case at(f).Compare(at(t)) > 0:
			return fault.New(fault.Invalid, "base %s was cut after target %s: want it before", base, target)
		}
		return b.ranges(ctx, s, &f, t, offset, yield)
	})
}

func at(s repository.ObjectSnapshot) vlog.Position {
	return vlog.Position{Epoch: s.Epoch, Sequence: s.Sequence}
}

// stream makes a stream of a function that yields, whose error is the last element.
func stream(offset int64, what string, do func(yield func(backend.Extent) bool) error) iter.Seq2[backend.Extent, error] {
	return func(yield func(backend.Extent, error) bool) {
		stopped := false
		err := do(func(e backend.Extent) bool {
			if before := offset - e.Offset; before > 0 {
				e.Offset, e.Length = offset, e.Length-before
			}
			if e.Length <= 0 {
				return true
			}
			stopped = !yield(e, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(backend.Extent{}, fault.Wrap(err, what, ""))
		}
	}
}

// ranges yields where a snapshot differs from another one, or from nothing.
func (b *Backend) ranges(ctx context.Context, s *site, base *repository.ObjectSnapshot, target repository.ObjectSnapshot, offset int64, yield func(backend.Extent) bool) error {
	size := int64(target.Blocks) * vlog.BlockSize
	if offset < 0 || offset > size {
		return fault.New(fault.OutOfRange, "offset %d: want 0 to %d", offset, size)
	}
	k, err := b.snapshotKeys(target)
	if err != nil {
		return err
	}
	to, err := b.snapshotView(ctx, s, target, k)
	if err != nil {
		return err
	}
	defer to.Close()
	var from *engine.View
	if base != nil {
		if from, err = b.snapshotView(ctx, s, *base, k); err != nil {
			return err
		}
		defer from.Close()
	}
	return engine.Diff(ctx, from, to, vlog.Block(offset/vlog.BlockSize), func(r table.Range) bool {
		e := backend.Extent{Offset: int64(r.First) * vlog.BlockSize, Length: int64(r.Count) * vlog.BlockSize}
		e.Length = min(e.Length, size-e.Offset)
		return yield(e)
	})
}

func (b *Backend) snapshotView(ctx context.Context, s *site, of repository.ObjectSnapshot, k keyring.Keys) (*engine.View, error) {
	log, h, checkpoint, err := head(of)
	if err != nil {
		return nil, err
	}
	w, err := b.options.Engine.View(ctx, engine.ViewOptions{
		LogOptions: engine.LogOptions{Store: s.Store, Log: log, Keys: engineKeys(k)}, At: h.Position, Checkpoint: checkpoint,
	})
	if fault.Is(err, fault.NotFound) {
		if _, e := s.snapshot(ctx, of.ID); e != nil { // deleted meanwhile
			return nil, e
		}
		err = fault.As(fault.Corrupt, err)
	}
	return w, err
}

// snapshotKeys returns the keys of an encrypted snapshot's volume, if that is open
// here: the calls that list ranges carry no secret.
func (b *Backend) snapshotKeys(of repository.ObjectSnapshot) (keyring.Keys, error) {
	if len(of.KeyIDs) == 0 {
		return keyring.Keys{}, nil
	}
	if l := b.live(of.Volume); l != nil && l.keys.Own != nil {
		return l.keys, nil
	}
	return b.keptKeys(of.Volume)
}
