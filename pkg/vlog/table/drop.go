package table

import (
	"context"
	"maps"

	"github.com/holkas-io/holkas/pkg/vlog"
)

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
// quicker to look through all of it, or where a whole directory may go: the last
// one, which may be shorter than a leaf.
func (t *Table) forget(first, end vlog.Block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.pending) == 0 || end-first < Fanout && end != t.blocks {
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

// Reclaim does the accounting of up to leaves dropped leaves, and reports
// whether there is more. What was dropped while it was not in memory is loaded to
// be counted. It changes nothing that Lookup sees.
func (t *Table) Reclaim(ctx context.Context, leaves int) (more bool, err error) {
	for ; leaves > 0; leaves-- {
		t.mu.Lock()
		found := t.reclaimLocked()
		var o Orphan
		if !found && len(t.orphans) > 0 {
			o = t.orphans[len(t.orphans)-1]
		}
		t.mu.Unlock()
		if found {
			continue
		}
		if o.Stored == 0 {
			return false, nil
		}
		var words Words
		if err := t.read(ctx, o.Page, o.Stored, &words); err != nil {
			return true, err
		}
		t.mu.Lock()
		t.orphans = t.orphans[:len(t.orphans)-1]
		t.live[o.Stored.Object()]--
		if o.Page < directoryPages {
			t.uncountLocked(&words)
		} else {
			n := uint64(o.Page-directoryPages) * Fanout
			for i, p := range words {
				if p != 0 {
					t.orphans = append(t.orphans, Orphan{LeafPage(n + uint64(i)), p})
				}
			}
		}
		t.mu.Unlock()
	}
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.dropped)+len(t.orphans) > 0, nil
}
