package table

import (
	"context"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// Range is a run of blocks.
type Range struct {
	First vlog.Block
	Count uint64
}

// ranges joins neighbours before it yields them.
type ranges struct {
	yield func(Range) bool
	last  Range
	done  bool
}

func (r *ranges) add(first vlog.Block, count uint64) {
	if r.last.Count > 0 && r.last.First+vlog.Block(r.last.Count) == first {
		r.last.Count += count
		return
	}
	r.flush()
	r.last = Range{first, count}
}

func (r *ranges) flush() {
	if r.last.Count > 0 && !r.done {
		r.done = !r.yield(r.last)
	}
	r.last = Range{}
}

// Allocated yields the runs of blocks from first on that are not holes, in
// ascending order, until yield returns false.
func (t *Table) Allocated(ctx context.Context, first vlog.Block, yield func(Range) bool) error {
	return Diff(ctx, nil, t, first, nil, yield)
}

// Diff yields the runs of blocks from first on whose place in b is not what it is
// in a, in ascending order, until yield returns false. a may be nil, for an empty
// table; what is beyond the end of the smaller one counts as holes there. same
// says whether an object number of a means the same object as one of b; nil if
// both are of the same list. Pages that both share are not read. The tables must
// not be changed meanwhile.
func Diff(ctx context.Context, a, b *Table, first vlog.Block, same func(a, b uint32) bool, yield func(Range) bool) error {
	if same == nil {
		same = func(a, b uint32) bool { return a == b }
	}
	if a == nil {
		a = &Table{}
	}
	equal := func(p, q vlog.Pointer) bool {
		const place = 1<<37 - 1
		return p == 0 && q == 0 || p != 0 && q != 0 && p&place == q&place && same(p.Object(), q.Object())
	}
	out := &ranges{yield: yield}
	for n := uint64(first / DirectoryBlocks); n < uint64(max(len(a.root), len(b.root))) && !out.done; n++ {
		start := vlog.Block(n) * DirectoryBlocks
		if p, q := a.directoryPage(n), b.directoryPage(n); p.clean && q.clean && equal(p.stored, q.stored) {
			continue
		}
		for i := uint64(max(first, start)-start) / Fanout; i < Fanout && !out.done; i++ {
			leaf := start + vlog.Block(i)*Fanout
			p, err := a.leafPage(ctx, leaf)
			if err != nil {
				return err
			}
			q, err := b.leafPage(ctx, leaf)
			if err != nil {
				return err
			}
			if p.clean && q.clean && equal(p.stored, q.stored) {
				continue
			}
			if err := diffLeaf(ctx, a, b, leaf, first, equal, out); err != nil {
				return err
			}
		}
	}
	out.flush()
	return nil
}

func diffLeaf(ctx context.Context, a, b *Table, leaf, first vlog.Block, equal func(p, q vlog.Pointer) bool, out *ranges) error {
	for at := max(leaf, first); at < leaf+Fanout; at++ {
		p, err := a.orHole(ctx, at)
		if err != nil {
			return err
		}
		q, err := b.orHole(ctx, at)
		if err != nil {
			return err
		}
		if !equal(p, q) {
			out.add(at, 1)
		}
	}
	return nil
}

func (t *Table) orHole(ctx context.Context, b vlog.Block) (vlog.Pointer, error) {
	if b >= t.Blocks() {
		return 0, nil
	}
	return t.Lookup(ctx, b)
}

// pageState is where a page is stored, and whether that is all of it.
type pageState struct {
	stored vlog.Pointer
	clean  bool
}

func (t *Table) directoryPage(n uint64) pageState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if n >= uint64(len(t.root)) {
		return pageState{clean: true}
	}
	e := &t.root[n]
	return pageState{e.stored, e.directory == nil || !e.directory.dirty}
}

// leafPage loads the leaf's directory if that must be.
func (t *Table) leafPage(ctx context.Context, b vlog.Block) (pageState, error) {
	dir, leaf, _ := where(b)
	for {
		t.mu.RLock()
		if dir >= len(t.root) {
			t.mu.RUnlock()
			return pageState{clean: true}, nil
		}
		e := t.root[dir]
		t.mu.RUnlock()
		if e.directory == nil && e.stored == 0 {
			return pageState{clean: true}, nil
		}
		if e.directory != nil {
			t.mu.RLock()
			defer t.mu.RUnlock()
			r := e.directory.refs[leaf]
			return pageState{r.stored, !r.dirty && r.pending == 0}, nil
		}
		if err := t.load(ctx, b); err != nil {
			return pageState{}, err
		}
	}
}
