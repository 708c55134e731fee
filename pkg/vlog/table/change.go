package table

import (
	"context"
	"maps"

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

// Zero makes a range of blocks holes. Whole directories and leaves are dropped
// without looking into them.
func (t *Table) Zero(ctx context.Context, first vlog.Block, count uint64) error {
	t.mu.Lock()
	err := t.check(first, count)
	t.mu.Unlock()
	if err != nil || count == 0 {
		return err
	}
	end := first + vlog.Block(count)
	t.forget(first, end)
	for b := first; b < end; {
		done, err := t.zeroStep(b, end)
		if err == nil && done == b {
			err = t.load(ctx, b)
		}
		if err != nil {
			return err
		}
		b = done
	}
	return nil
}

// forget removes what is pending in a range that becomes holes, where it is
// quicker to look through all of it.
func (t *Table) forget(first, end vlog.Block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) == 0 || end-first < Fanout {
		return
	}
	// Only leaves that are covered whole: the others keep their pending holes.
	if end == t.blocks {
		end += Fanout - 1
	}
	first, end = (first+Fanout-1)/Fanout*Fanout, end/Fanout*Fanout
	maps.DeleteFunc(t.pending, func(b vlog.Block, p vlog.Pointer) bool {
		if b < first || b >= end {
			return false
		}
		t.count(p, 0)
		dir, leaf, _ := where(b)
		t.root[dir].directory.refs[leaf].pending--
		return true
	})
}

// zeroStep zeroes from b on up to the next border of a directory or leaf, and
// returns where it stopped: b itself if a directory must be loaded first.
func (t *Table) zeroStep(b, end vlog.Block) (vlog.Block, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	dir, leaf, at := where(b)
	e := &t.root[dir]
	border := min(end, (b/DirectoryBlocks+1)*DirectoryBlocks)
	whole := b%DirectoryBlocks == 0 && (border-b == DirectoryBlocks || border == t.blocks)
	switch {
	case e.directory == nil && e.stored == 0:
		return border, nil
	case whole:
		t.dropDirectoryLocked(dir)
		return border, nil
	case e.directory == nil:
		return b, nil
	}
	border = min(end, (b/Fanout+1)*Fanout)
	d := e.directory
	r := &d.refs[leaf]
	switch {
	case r.slot == 0 && r.stored == 0:
	case at == 0 && (border-b == Fanout || border == t.blocks):
		t.dropLeafLocked(uint64(b/Fanout), d, r)
	default:
		for ; b < border; b++ {
			if err := t.putLocked(b, 0); err != nil {
				return 0, err
			}
		}
	}
	return border, nil
}

// dropDirectoryLocked takes a directory out; Reclaim does its accounting.
func (t *Table) dropDirectoryLocked(n int) {
	e := &t.root[n]
	switch {
	case e.directory != nil:
		t.dropped = append(t.dropped, dropped{directory: e.directory, number: uint64(n)})
		if e.stored != 0 {
			t.live[e.stored.Object()]--
		}
		for i := range e.directory.refs {
			if e.directory.refs[i].dirty {
				t.dirty--
			}
		}
	case e.stored != 0:
		t.orphans = append(t.orphans, Orphan{DirectoryPage(uint64(n)), e.stored})
	}
	*e = rootEntry{}
}

// reclaimLocked does the accounting of one leaf of a dropped directory, and
// reports false if there is none.
func (t *Table) reclaimLocked() bool {
	for len(t.dropped) > 0 {
		x := &t.dropped[len(t.dropped)-1]
		for x.next < Fanout {
			r := &x.directory.refs[x.next]
			page := LeafPage(x.number*Fanout + uint64(x.next))
			x.next++
			switch {
			case r.slot != 0:
				t.uncountLocked(t.slabs.leaf(r.slot - 1))
				t.freeLocked(r)
				if r.stored != 0 {
					t.live[r.stored.Object()]--
				}
				return true
			case r.stored != 0:
				t.orphans = append(t.orphans, Orphan{page, r.stored})
				return true
			}
		}
		t.dropped = t.dropped[:len(t.dropped)-1]
	}
	return false
}

// dropLeafLocked takes a leaf out.
func (t *Table) dropLeafLocked(n uint64, d *directory, r *ref) {
	if r.dirty {
		t.dirty--
	}
	switch {
	case r.slot != 0:
		t.uncountLocked(t.slabs.leaf(r.slot - 1))
		t.freeLocked(r)
		if r.stored != 0 {
			t.live[r.stored.Object()]--
		}
	case r.stored != 0:
		t.orphans = append(t.orphans, Orphan{LeafPage(n), r.stored})
	}
	for i := range vlog.Block(Fanout) {
		if r.pending == 0 {
			break
		}
		b := vlog.Block(n)*Fanout + i
		if p, ok := t.pending[b]; ok {
			t.count(p, 0)
			delete(t.pending, b)
			r.pending--
		}
	}
	*r = ref{}
	d.dirty = true
}

func (t *Table) uncountLocked(words *Words) {
	for _, p := range words {
		if p != 0 {
			t.live[p.Object()]--
		}
	}
}

func (t *Table) freeLocked(r *ref) {
	slot := r.slot - 1
	t.owner[slot].Store(0)
	t.slabs.give(slot)
	r.slot = 0
}
