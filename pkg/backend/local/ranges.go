package local

import (
	"context"
	"iter"
	"math"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// What a range of a disk reads as is a function of its mapping: zeros where it
// has none or an unwritten one, else the bytes at its physical address. So two
// disks of one filesystem read the same in a range now if both read as zeros
// there, or if both map it to the same address. It does not matter how that came
// to be, and therefore not whether the disks were made by FICLONE or as
// snapshots of a subvolume, nor whether a file has data copy-on-write: one
// method serves both kinds of pool. Snapshots never change, so what is the same
// now was always.
//
// What could make it wrong, and why it does not:
//
//   - An extent is freed and used again between the two cuts. Not while both
//     snapshots exist: whatever a snapshot maps, it holds a reference to, and
//     both filesystems write an extent with other references elsewhere. When a
//     snapshot is deleted meanwhile, the open file holds its extents until the
//     walk ends (btrfs drops a subvolume after its last inode is closed); the
//     walk fails all the same, since nobody can read the ranges that it yields.
//   - An unwritten extent is written in place between the two cuts. It then reads
//     as zeros in the one and has an address in the other: changed. (On XFS a
//     clone has a hole for it; on btrfs the snapshot shares it, and the write goes
//     elsewhere.)
//   - Bytes are in the page cache that the map does not show. A disk is synced
//     before it is renamed into place, and never written after. An extent that is
//     reported without a settled address (delayed, inline, encoded) is taken as
//     changed, whatever stands on the other side.
//   - Addresses of two devices or two pools. A clone is always on its origin's
//     device; btrfs addresses are of the whole filesystem; the pools are compared.
//   - A disk has another size than the other. Behind the end that its record
//     tells, a snapshot reads as zeros, whatever its file has there.
//   - Extents are moved under the walk (btrfs balance, xfs_fsr). What moved looks
//     changed, and is not: allowed. To look unchanged, one snapshot's bytes would
//     have to be moved onto the very address that the other's were moved away
//     from, between two readings of the maps.

// checkAfter is after how many steps a walk looks whether its snapshots are still
// there.
const checkAfter = 256

// Allocated implements backend.Backend.
func (b *Backend) Allocated(ctx context.Context, id volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return stream("list allocated ranges of snapshot", id, func(emit func(backend.Extent) bool) error {
		target, err := b.openMap(ctx, id)
		if err != nil {
			return err
		}
		defer target.close()
		return changed(ctx, nothing(), target, offset, emit)
	})
}

// Delta implements backend.Backend.
func (b *Backend) Delta(ctx context.Context, base, target volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return stream("list changed ranges of snapshot", target, func(emit func(backend.Extent) bool) error {
		from, err := b.openMap(ctx, base)
		if err != nil {
			return fault.Wrap(err, "base snapshot", string(base))
		}
		defer from.close()
		to, err := b.openMap(ctx, target)
		if err != nil {
			return err
		}
		defer to.close()
		if err := comparable(from, to); err != nil {
			return err
		}
		return changed(ctx, from, to, offset, emit)
	})
}

// comparable reports why a delta from one snapshot to another makes no sense.
func comparable(base, target *diskMap) error {
	b, t := base.place.record, target.place.record
	switch {
	case b.Volume != t.Volume:
		return fault.New(fault.Invalid, "base snapshot: %s is of volume %s: want one of volume %s", b.ID, b.Volume, t.Volume)
	case b.CreatedAt.After(t.CreatedAt):
		return fault.New(fault.Invalid, "base snapshot: %s was cut at %v, after %s at %v: want an older one", b.ID, b.CreatedAt, t.ID, t.CreatedAt)
	case base.place.pool.ID != target.place.pool.ID:
		return fault.New(fault.Corrupt, "base snapshot: %s is in pool %s, but %s of the same volume is in pool %s", b.ID, base.place.name, t.ID, target.place.name)
	}
	return nil
}

// stream makes a sequence of what do emits, with its error as the last element.
func stream(op string, id volume.SnapshotID, do func(emit func(backend.Extent) bool) error) iter.Seq2[backend.Extent, error] {
	return func(yield func(backend.Extent, error) bool) {
		stopped := false
		err := do(func(e backend.Extent) bool {
			stopped = !yield(e, nil)
			return !stopped
		})
		if err != nil && !stopped {
			yield(backend.Extent{}, fault.Wrap(err, op, string(id)))
		}
	}
}

// changed emits the ranges of target from offset on that do not read the same in
// base, neighbours as one.
func changed(ctx context.Context, base, target *diskMap, offset int64, emit func(backend.Extent) bool) error {
	size := target.size
	if offset < 0 || offset > size {
		return fault.New(fault.OutOfRange, "starting offset: %d: want 0 to %d, the snapshot's size", offset, size)
	}
	var run backend.Extent // found, and not emitted yet
	for at, steps := offset, 1; at < size; steps++ {
		if err := check(ctx, base, target, steps); err != nil {
			return err
		}
		t, err := target.at(at)
		if err != nil {
			return err
		}
		b, err := base.at(at)
		if err != nil {
			return err
		}
		end := min(t.end, b.end, size)
		if !t.readsAs(b) {
			if run.Offset+run.Length != at && run.Length > 0 {
				if !emit(run) {
					return nil
				}
				run.Length = 0
			}
			if run.Length == 0 {
				run.Offset = at
			}
			run.Length += end - at
		}
		at = end
	}
	if err := check(ctx, base, target, checkAfter); err != nil {
		return err
	}
	if run.Length > 0 {
		emit(run)
	}
	return nil
}

// check reports that the context ended or, now and then, that a snapshot is gone.
func check(ctx context.Context, base, target *diskMap, steps int) error {
	if err := ctx.Err(); err != nil || steps%checkAfter != 0 {
		return err
	}
	if err := base.present(); err != nil {
		return err
	}
	return target.present()
}

// mapping is what a disk has from some offset up to end.
type mapping struct {
	end     int64
	holds   content
	address uint64 // of the first byte, if it holds data
}

type content int

const (
	zeros   content = iota
	data            // at its address
	unknown         // it has no settled address
)

// readsAs reports whether two mappings of one offset surely read the same.
func (m mapping) readsAs(o mapping) bool {
	switch {
	case m.holds != o.holds || m.holds == unknown:
		return false
	case m.holds == data:
		return m.address == o.address
	}
	return true
}

// rest is a mapping of zeros without end.
func rest() mapping { return mapping{end: math.MaxInt64} }
