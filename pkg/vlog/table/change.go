package table

import (
	"context"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Set makes count blocks from first on point to successive blocks of one frame,
// beginning with at's. It never waits for room: see Full. An error of a page that
// cannot be loaded may leave a part of the blocks set, and the call can be
// repeated.
func (t *Table) Set(ctx context.Context, first vlog.Block, count int, at vlog.Pointer) error {
	if at.Hole() || !at.Valid() || count < 1 || at.Index()+count > vlog.FrameBlocks {
		return fault.New(fault.Internal, "set %d blocks to %s: want 1 to %d blocks within one frame", count, at, vlog.FrameBlocks)
	}
	for done := 0; done < count; {
		t.mu.Lock()
		err := t.check(first, uint64(count))
		loaded := true
		for ; err == nil && done < count; done++ {
			b := first + vlog.Block(done)
			if loaded = t.directoryLoadedLocked(b); !loaded {
				break
			}
			if err = t.putLocked(b, at+vlog.Pointer(done)); err != nil {
				break
			}
		}
		t.mu.Unlock()
		if err == nil && !loaded {
			err = t.load(ctx, first+vlog.Block(done))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// samePlace compares all of two pointers but the stored length, which the place
// determines.
func samePlace(a, b vlog.Pointer) bool {
	const length = vlog.Pointer(1<<13-1) << 4
	return a&^length == b&^length
}

// Move makes a block point to now if it points to the place of old, and reports
// whether it did. Of old the stored length does not matter.
func (t *Table) Move(ctx context.Context, b vlog.Block, old, now vlog.Pointer) (bool, error) {
	if old.Hole() || now.Hole() || !now.Valid() {
		return false, fault.New(fault.Internal, "move block %d from %s to %s: want places", b, old, now)
	}
	p, err := t.Lookup(ctx, b)
	if err != nil || !samePlace(p, old) {
		return false, err
	}
	// Nobody else changes the table in between.
	return true, t.Set(ctx, b, 1, now)
}

// directoryLoadedLocked makes a directory where there is a hole, and reports
// false if there is one to load.
func (t *Table) directoryLoadedLocked(b vlog.Block) bool {
	dir, _, _ := where(b)
	e := &t.root[dir]
	if e.directory == nil && e.stored == 0 {
		e.directory = new(directory)
	}
	return e.directory != nil
}

// putLocked sets one block, whose directory is loaded, to p or a hole.
func (t *Table) putLocked(b vlog.Block, p vlog.Pointer) error {
	dir, leaf, at := where(b)
	d := t.root[dir].directory
	r := &d.refs[leaf]
	if r.slot == 0 && r.stored == 0 {
		if p == 0 {
			return nil
		}
		t.roomLocked(1) // or else it is beyond the limit
		if err := t.installLocked(b, r, nil); err != nil {
			return err
		}
	}
	if r.slot == 0 {
		t.waitLocked(b, d, r, p)
		return nil
	}
	words := t.slabs.leaf(r.slot - 1)
	t.touch(r.slot - 1)
	t.count(words[at], p)
	words[at] = p
	t.soilLocked(d, r)
	return nil
}

// waitLocked keeps a change for a leaf that is not in memory.
func (t *Table) waitLocked(b vlog.Block, d *directory, r *ref, p vlog.Pointer) {
	before, ok := t.pending[b]
	if !ok {
		r.pending++
	}
	t.count(before, p)
	t.pending[b] = p
	d.dirty = true
}

func (t *Table) soilLocked(d *directory, r *ref) {
	d.dirty = true
	if !r.dirty {
		r.dirty = true
		t.dirty++
	}
}

// count moves one block's count from an old pointer's object to a new one's.
func (t *Table) count(old, p vlog.Pointer) {
	if old != 0 {
		t.live[old.Object()]--
	}
	if p != 0 {
		t.addLive(p.Object(), 1)
	}
}

func (t *Table) addLive(object uint32, n uint32) {
	if int(object) >= len(t.live) {
		t.live = append(t.live, make([]uint32, int(object)+1-len(t.live))...)
	}
	t.live[object] += n
}
