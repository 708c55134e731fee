package table

import (
	"context"
	"sync/atomic"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// load brings the directory of a block into memory. It reads without holding the
// table.
func (t *Table) load(ctx context.Context, b vlog.Block) error {
	dir, _, _ := where(b)
	t.mu.RLock()
	e := t.root[dir]
	t.mu.RUnlock()
	if e.directory != nil || e.stored == 0 {
		return nil // somebody else did
	}
	var words Words
	if err := t.read(ctx, DirectoryPage(uint64(dir)), e.stored, &words); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := &t.root[dir]; now.directory == nil && now.stored == e.stored {
		now.directory = new(directory)
		for i, p := range words {
			now.directory.refs[i].stored = p
		}
	}
	return nil
}

// fetch loads the leaf of a block, whose directory is in memory, answers from it,
// and keeps it if there is room. It reports false if the table changed meanwhile.
func (t *Table) fetch(ctx context.Context, b vlog.Block) (vlog.Pointer, bool, error) {
	dir, leaf, at := where(b)
	t.mu.RLock()
	d := t.root[dir].directory
	if d == nil || d.refs[leaf].slot != 0 || d.refs[leaf].stored == 0 {
		t.mu.RUnlock()
		return 0, false, nil
	}
	stored := d.refs[leaf].stored
	t.mu.RUnlock()
	var words Words
	if err := t.read(ctx, LeafPage(uint64(b/Fanout)), stored, &words); err != nil {
		return 0, false, err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.root[dir].directory != d || d.refs[leaf].slot != 0 || d.refs[leaf].stored != stored {
		return 0, false, nil
	}
	p, ok := t.pending[b]
	if !ok {
		p = words[at]
	}
	if !t.roomLocked(1) {
		return p, true, nil
	}
	return p, true, t.installLocked(b, &d.refs[leaf], &words)
}

// read loads a page and sees that its pointers are such.
func (t *Table) read(ctx context.Context, page Page, at vlog.Pointer, words *Words) error {
	if t.pager == nil {
		return fault.New(fault.Internal, "page %d at %s: the table has no pager", page, at)
	}
	if err := t.pager.Load(ctx, page, at, words); err != nil {
		return err
	}
	for i, p := range words {
		if !p.Valid() {
			return fault.New(fault.Corrupt, "page %d at %s: entry %d: got %#x, want a pointer", page, at, i, uint64(p))
		}
	}
	return nil
}

// installLocked gives a leaf memory, with words or holes, and joins what waited
// for it. Exhausted if the system has no memory.
func (t *Table) installLocked(b vlog.Block, r *ref, words *Words) error {
	slot, err := t.slabs.take()
	if err != nil {
		return err
	}
	if need := len(t.slabs.all) * slabLeaves; len(t.owner) < need {
		grown := make([]atomic.Uint32, need)
		for i := range t.owner {
			grown[i].Store(t.owner[i].Load())
		}
		t.owner = grown
	}
	n := b / Fanout
	t.owner[slot].Store(uint32(n) + 1)
	r.slot = slot + 1
	into := t.slabs.leaf(slot)
	if words == nil {
		clear(into[:])
		return nil
	}
	*into = *words
	if r.pending == 0 {
		return nil
	}
	for i := range into {
		at := n*Fanout + vlog.Block(i)
		if p, ok := t.pending[at]; ok {
			t.count(into[i], 0) // p was counted when it began to wait
			into[i] = p
			delete(t.pending, at)
		}
	}
	r.pending = 0
	t.soilLocked(t.root[b/DirectoryBlocks].directory, r)
	return nil
}

// roomLocked makes room for more leaves, by dropping clean ones, and reports
// false if the limit cannot be kept since everything in memory is changed.
func (t *Table) roomLocked(more int) bool {
	full := func() bool {
		return t.limit > 0 && int64(t.slabs.used+more)*LeafBytes+int64(len(t.pending))*pendingBytes > t.limit
	}
	for full() && t.reclaimLocked() { // first, since nothing owns those leaves' slots
	}
	for full() {
		if !t.evictLocked() {
			return false
		}
	}
	return true
}

// evictLocked drops a clean leaf that was not looked at for the longest time,
// about.
func (t *Table) evictLocked() bool {
	if t.dirty >= t.slabs.used {
		return false
	}
	for range 2*len(t.owner) + 1 { // at most once to clear the touched bits, once to find
		slot := t.hand
		if t.hand++; int(t.hand) >= len(t.owner) {
			t.hand = 0
		}
		o := t.owner[slot].Load()
		switch {
		case o == 0:
		case o&touched != 0:
			t.owner[slot].Store(o &^ touched)
		default:
			n := uint64(o - 1)
			if r := &t.root[n/Fanout].directory.refs[n%Fanout]; !r.dirty {
				t.freeLocked(r)
				return true
			}
		}
	}
	return false
}

// Full reports whether the table should be checkpointed before more is applied:
// what changed takes half of the memory limit.
func (t *Table) Full() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.limit > 0 && int64(t.dirty)*LeafBytes+int64(len(t.pending))*pendingBytes >= t.limit/2
}
