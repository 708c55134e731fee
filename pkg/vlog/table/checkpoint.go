package table

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Entry is an entry of the root: a directory and where its page is.
type Entry struct {
	Directory uint64
	Stored    vlog.Pointer
}

// Restore makes an empty table the one that a checkpoint describes: its root, the
// live counts of its objects, by number, and its orphans. Corrupt if they cannot
// be.
func (t *Table) Restore(root []Entry, live []uint32, orphans []Orphan) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	bad := func(p vlog.Pointer) bool { return p.Hole() || !p.Valid() || int(p.Object()) >= len(live) }
	for i, e := range root {
		if e.Directory >= uint64(len(t.root)) || bad(e.Stored) || i > 0 && e.Directory <= root[i-1].Directory {
			return fault.New(fault.Corrupt, "root entry %d: directory %d of %d at %s: want ascending ones with a page in one of %d objects", i, e.Directory, len(t.root), e.Stored, len(live))
		}
	}
	for i, o := range orphans {
		if bad(o.Stored) {
			return fault.New(fault.Corrupt, "orphan %d: page %d at %s: want one in one of %d objects", i, o.Page, o.Stored, len(live))
		}
	}
	for _, e := range root {
		t.root[e.Directory].stored = e.Stored
	}
	t.live, t.orphans = slices.Clone(live), slices.Clone(orphans)
	return nil
}

// Orphans does the accounting of what was dropped while it was in memory, and
// returns what was not: a checkpoint keeps it beside Live, taken afterwards, so
// that its accounting survives a restart. The list is long only after large
// discards; Reclaim shortens it.
func (t *Table) Orphans() []Orphan {
	t.mu.Lock()
	defer t.mu.Unlock()
	for n := 0; t.reclaimLocked(); n++ {
		if n%1000 == 999 { // let readers go on
			t.mu.Unlock()
			t.mu.Lock()
		}
	}
	return slices.Clone(t.orphans)
}

// Live returns how many blocks and pages name each object, by number; counts may
// be too high, see the package's comment.
func (t *Table) Live() []uint32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.Clone(t.live)
}

// Dirty returns how many leaves a checkpoint would have to store, those in memory
// and those that changes wait for, at most.
func (t *Table) Dirty() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.dirty + len(t.pending)
}

// Changed yields the leaves that changed since they were stored, in ascending
// order, and then it is up to the caller to store them and to say where with
// Stored; words are valid until the next step. Leaves that became holes are
// dropped instead. What waits for leaves that are not in memory joins on the way,
// without taking memory. The table must not be changed meanwhile, but may be
// looked up.
func (t *Table) Changed(ctx context.Context, yield func(p Page, words *Words) error) error {
	t.joining = map[Page][]vlog.Pointer{}
	for n := range t.directories() {
		t.mu.RLock()
		d := t.root[n].directory
		changed := d != nil && d.dirty
		t.mu.RUnlock()
		if !changed {
			continue
		}
		for i := range d.refs {
			page := LeafPage(uint64(n)*Fanout + uint64(i))
			words, err := t.changed(ctx, page, d, &d.refs[i])
			if err == nil && words != nil {
				err = yield(page, words)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// directories returns how many there are: Grow may come at any time.
func (t *Table) directories() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.root)
}

// changed returns the content of a leaf that changed, or nil.
func (t *Table) changed(ctx context.Context, page Page, d *directory, r *ref) (*Words, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.slot == 0 && r.pending > 0 {
		words := new(Words)
		stored := r.stored
		t.mu.Unlock()
		err := t.read(ctx, page, stored, words)
		t.mu.Lock()
		if err != nil {
			return nil, err
		}
		if r.slot == 0 { // still
			old := make([]vlog.Pointer, 0, r.pending)
			for i := range words {
				if p, ok := t.pending[vlog.Block(page)*Fanout+vlog.Block(i)]; ok {
					old = append(old, words[i])
					words[i] = p
				}
			}
			t.joining[page] = old
			return words, nil
		}
	}
	if r.slot == 0 || !r.dirty {
		return nil, nil
	}
	words := t.slabs.leaf(r.slot - 1)
	if *words == (Words{}) {
		t.dropLeafLocked(uint64(page), d, r)
		return nil, nil
	}
	return words, nil
}

// Stored says where a page that Changed or ChangedDirectories yielded is now,
// durably: it need not be kept in memory from here on.
func (t *Table) Stored(p Page, at vlog.Pointer) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.addLive(at.Object(), 1)
	if p >= directoryPages {
		e := &t.root[p-directoryPages]
		t.count(e.stored, 0)
		e.stored, e.directory.dirty = at, false
		return
	}
	r := &t.root[p/Fanout].directory.refs[p%Fanout]
	t.count(r.stored, 0)
	r.stored = at
	if r.dirty {
		r.dirty = false
		t.dirty--
	}
	if r.slot == 0 {
		for _, old := range t.joining[p] {
			t.count(old, 0)
		}
		for i := range vlog.Block(Fanout) {
			delete(t.pending, vlog.Block(p)*Fanout+i)
		}
		r.pending = 0
	}
	delete(t.joining, p)
	t.roomLocked(0) // for what was applied beyond the limit
}

// ChangedDirectories yields the directories whose leaves' pages changed, once
// every leaf that Changed yielded is Stored, or in placed: those are on their way,
// and become Stored before the directories do.
func (t *Table) ChangedDirectories(placed map[Page]vlog.Pointer, yield func(p Page, words *Words) error) error {
	for n := range t.directories() {
		t.mu.Lock()
		e := &t.root[n]
		changed := e.directory != nil && e.directory.dirty
		var words Words
		if changed {
			for i := range e.directory.refs {
				words[i] = e.directory.refs[i].stored
				if at, ok := placed[LeafPage(uint64(n)*Fanout+uint64(i))]; ok {
					words[i] = at
				}
			}
			if words == (Words{}) {
				t.count(e.stored, 0)
				*e = rootEntry{}
				changed = false
			}
		}
		t.mu.Unlock()
		if changed {
			if err := yield(DirectoryPage(uint64(n)), &words); err != nil {
				return err
			}
		}
	}
	return nil
}

// Root returns the root as it is stored: complete, once every page that changed is
// Stored.
func (t *Table) Root() []Entry {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var root []Entry
	for n, e := range t.root {
		if e.stored != 0 {
			root = append(root, Entry{uint64(n), e.stored})
		}
	}
	return root
}
