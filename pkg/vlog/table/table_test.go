package table

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// shelf is a pager over a map.
type shelf struct {
	mu    sync.Mutex
	pages map[vlog.Pointer]Words
	names map[vlog.Pointer]Page
	loads int
	next  int64
}

func newShelf() *shelf {
	return &shelf{pages: map[vlog.Pointer]Words{}, names: map[vlog.Pointer]Page{}}
}

func (s *shelf) Load(_ context.Context, p Page, at vlog.Pointer, words *Words) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loads++
	if s.names[at] != p {
		return fault.New(fault.Corrupt, "page %d at %s: got page %d", p, at, s.names[at])
	}
	*words = s.pages[at]
	return nil
}

// put stores a page in object 1000 or above, one for each 100 pages.
func (s *shelf) put(p Page, words *Words) vlog.Pointer {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.next++
	at := vlog.NewPointer(uint32(1000+s.next/100), s.next%100*4096+16, 4096, 0)
	s.pages[at], s.names[at] = *words, p
	return at
}

// checkpoint stores all that changed and returns the root.
func checkpoint(t interface{ Fatal(...any) }, table *Table, s *shelf) []Entry {
	err := table.Changed(context.Background(), func(p Page, words *Words) error {
		table.Stored(p, s.put(p, words))
		return nil
	})
	if err == nil {
		err = table.ChangedDirectories(nil, func(p Page, words *Words) error {
			table.Stored(p, s.put(p, words))
			return nil
		})
	}
	if err != nil {
		t.Fatal(err)
	}
	return table.Root()
}

func newTable(t interface {
	Helper()
	Fatal(...any)
}, blocks vlog.Block, s *shelf) *Table {
	t.Helper()
	table, err := New(Options{Blocks: blocks, Pager: s})
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func pointer(object uint32, n int) vlog.Pointer {
	return vlog.NewPointer(object, int64(n%1000+5)*vlog.Unit*300, 4128, n%16)
}

// recount returns the live counts that a model has: blocks by object, and pages
// as the table's own structure names them.
func recount(table *Table, model map[vlog.Block]vlog.Pointer) map[uint32]uint32 {
	live := map[uint32]uint32{}
	for _, p := range model {
		live[p.Object()]++
	}
	for _, e := range table.root {
		if e.stored != 0 {
			live[e.stored.Object()]++
		}
		if e.directory == nil {
			continue
		}
		for _, r := range e.directory.refs {
			if r.stored != 0 {
				live[r.stored.Object()]++
			}
		}
	}
	return live
}

// TestModel plays random changes, checkpoints, losses of memory and reopenings
// against a plain map, under a memory limit of a few leaves.
func TestModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const blocks = 3*DirectoryBlocks - 1000
		ctx := context.Background()
		s := newShelf()
		table := newTable(t, blocks, s)
		defer func() { table.Close() }()
		limit := int64(rapid.IntRange(3, 9).Draw(t, "leaves")) * LeafBytes
		if rapid.IntRange(0, 3).Draw(t, "limited") > 0 {
			table.limit = limit
		}
		model, stored := map[vlog.Block]vlog.Pointer{}, map[vlog.Block]vlog.Pointer{}
		var root []Entry
		var storedLive []uint32
		var storedOrphans []Orphan
		block := func() vlog.Block { // few distinct leaves, so that they meet again
			leaf := vlog.Block(rapid.IntRange(0, 11).Draw(t, "leaf"))
			if leaf == 11 { // the last, of which a part is beyond the end
				return blocks - 1 - vlog.Block(rapid.IntRange(0, 20).Draw(t, "from the end"))
			}
			b := leaf/4*DirectoryBlocks + leaf%4*Fanout*100 + vlog.Block(rapid.IntRange(0, Fanout-1).Draw(t, "at"))
			return b
		}
		save := func() {
			root = checkpoint(t, table, s)
			stored, storedOrphans, storedLive = maps.Clone(model), table.Orphans(), table.Live()
			if table.Dirty() != 0 || table.Full() {
				t.Fatalf("%d dirty behind a checkpoint", table.Dirty())
			}
		}
		do := func(err error) {
			if err != nil {
				t.Fatal(err)
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch op := rapid.IntRange(0, 9).Draw(t, "op"); op {
			case 0, 1, 2, 3:
				b, n := block(), rapid.IntRange(1, 16).Draw(t, "count")
				n = min(n, int(blocks-b))
				p := vlog.NewPointer(uint32(rapid.IntRange(0, 20).Draw(t, "object")), 4096, 4128, 0)
				do(table.Set(ctx, b, n, p))
				for i := range n {
					model[b+vlog.Block(i)] = p + vlog.Pointer(i)
				}
			case 4, 5:
				b := block()
				n := uint64([]int{1, 3, Fanout, 5 * Fanout, DirectoryBlocks, 2*DirectoryBlocks + 7, 1 << 30}[rapid.IntRange(0, 6).Draw(t, "range")])
				if rapid.Bool().Draw(t, "aligned") {
					b = b / DirectoryBlocks * DirectoryBlocks
				}
				n = min(n, uint64(blocks-b))
				do(table.Zero(ctx, b, n))
				maps.DeleteFunc(model, func(at vlog.Block, _ vlog.Pointer) bool { return at >= b && at-b < vlog.Block(n) })
			case 6:
				b := block()
				old, now := model[b], pointer(30, int(b))
				want := old != 0
				if !want || rapid.Bool().Draw(t, "elsewhere") {
					old, want = pointer(31, int(b)), false
				}
				const length = vlog.Pointer(1<<13-1) << 4
				moved, err := table.Move(ctx, b, old^length&(7<<4), now)
				do(err)
				if moved != want {
					t.Fatalf("move of block %d from %s: %v, want %v", b, old, moved, want)
				}
				if moved {
					model[b] = now
				}
			case 7:
				save()
			case 8: // a crash: back to the last checkpoint
				table.Close()
				table = newTable(t, blocks, s)
				table.limit = limit
				if err := table.Restore(root, storedLive, storedOrphans); err != nil && len(root) > 0 {
					t.Fatal(err)
				}
				model = maps.Clone(stored)
			case 9:
				if _, err := table.Reclaim(ctx, rapid.IntRange(0, 700).Draw(t, "reclaim")); err != nil {
					t.Fatal(err)
				}
			}
			b := block()
			got, err := table.Lookup(ctx, b)
			do(err)
			if got != model[b] {
				t.Fatalf("block %d: %s, want %s", b, got, model[b])
			}
			live := table.Live()
			for object, n := range recount(table, model) {
				if int(object) >= len(live) || live[object] < n {
					t.Fatalf("object %d: counted too low, want at least %d", object, n)
				}
			}
			if most := int64(table.dirty+1) * LeafBytes; table.limit > 0 && int64(table.slabs.used)*LeafBytes > max(limit, most)+table.overdue() {
				t.Fatalf("%d leaves in memory, %d changed, limit %d", table.slabs.used, table.dirty, limit/LeafBytes)
			}
			if table.Full() && rapid.Bool().Draw(t, "obey") {
				save()
			}
		}
		check(t, table, model)
		root = checkpoint(t, table, s)
		for more := true; more; {
			var err error
			if more, err = table.Reclaim(ctx, 1000); err != nil {
				t.Fatal(err)
			}
		}
		want := recount(table, model)
		loadAll(t, table, s)
		maps.Copy(want, recount(table, model))
		for object, n := range table.Live() {
			if n != want[uint32(object)] {
				t.Fatalf("object %d: %d live, want %d", object, n, want[uint32(object)])
			}
		}
		again := newTable(t, blocks, s)
		defer again.Close()
		if err := again.Restore(root, table.Live(), nil); err != nil {
			t.Fatal(err)
		}
		check(t, again, model)
	})
}

// overdue is the memory of leaves that are dropped and not yet reclaimed.
func (t *Table) overdue() (n int64) {
	for _, x := range t.dropped {
		for _, r := range x.directory.refs {
			if r.slot != 0 {
				n += LeafBytes
			}
		}
	}
	return n
}

// loadAll loads every directory, so that recount sees all pages.
func loadAll(t *rapid.T, table *Table, _ *shelf) {
	for n := range table.root {
		if table.root[n].directory == nil && table.root[n].stored != 0 {
			if err := table.load(context.Background(), vlog.Block(n)*DirectoryBlocks); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// check compares all of a table with a model.
func check(t *rapid.T, table *Table, model map[vlog.Block]vlog.Pointer) {
	got := map[vlog.Block]bool{}
	table.limit = 0
	err := table.Allocated(context.Background(), 0, func(r Range) bool {
		for i := range r.Count {
			got[r.First+vlog.Block(i)] = true
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != len(model) {
		t.Fatalf("%d blocks allocated, want %d", len(got), len(model))
	}
	for b, want := range model {
		if p, err := table.Lookup(context.Background(), b); err != nil || p != want || !got[b] {
			t.Fatalf("block %d: %s, %v, want %s", b, p, err, want)
		}
	}
}

// TestDiff: against comparing all blocks, with renumbered objects, and without
// reading what two versions share.
func TestDiff(t *testing.T) {
	ctx := t.Context()
	s := newShelf()
	const blocks = 4 * DirectoryBlocks
	table := newTable(t, blocks, s)
	for i := range 2000 {
		must(t, table.Set(ctx, vlog.Block(i*500), 3, vlog.NewPointer(uint32(i%10), 4096, 4128, i%13)))
	}
	before := checkpoint(t, table, s)
	live := table.Live()
	changed := []vlog.Block{7, 8, 9, DirectoryBlocks + 3000, 3*DirectoryBlocks + 5}
	for _, b := range changed {
		must(t, table.Set(ctx, b, 1, pointer(50, int(b))))
	}
	must(t, table.Zero(ctx, 500, 2))
	after := checkpoint(t, table, s)

	open := func(root []Entry) *Table {
		x := newTable(t, blocks, s)
		must(t, x.Restore(root, append(slices.Clone(live), make([]uint32, 1000)...), nil))
		return x
	}
	a, b := open(before), open(after)
	s.loads = 0
	var got []Range
	collect := func(r Range) bool { got = append(got, r); return true }
	must(t, Diff(ctx, a, b, 0, nil, collect))
	want := []Range{{7, 3}, {500, 2}, {DirectoryBlocks + 3000, 1}, {3*DirectoryBlocks + 5, 1}}
	if !slices.Equal(got, want) {
		t.Errorf("changed %v, want %v", got, want)
	}
	if s.loads > 2*(3+4) {
		t.Errorf("%d pages loaded for 3 directories and 3 leaves that differ", s.loads)
	}
	got = nil
	must(t, Diff(ctx, a, b, 502, nil, collect))
	if !slices.Equal(got, want[2:]) {
		t.Errorf("changed from 502 on: %v, want %v", got, want[2:])
	}
	got = nil
	must(t, Diff(ctx, a, b, 0, nil, func(r Range) bool { got = append(got, r); return len(got) < 2 }))
	if len(got) != 2 {
		t.Errorf("got %v, want to stop at 2", got)
	}
	// A number that means another object in b, where no page is shared: all of its
	// blocks differ.
	got = nil
	must(t, Diff(ctx, a, b, 0, func(p, q uint32) bool { return p == q && p != 4 && p < 1000 }, collect))
	n := 0
	for _, r := range got {
		n += int(r.Count)
	}
	if n < 200*3 {
		t.Errorf("%d blocks differ, want those of object 4 as well", n)
	}
}

// TestConcurrentLookups: readers beside the one that changes and checkpoints.
func TestConcurrentLookups(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := newShelf()
	table := newTable(t, 2*DirectoryBlocks, s)
	table.limit = 16 * LeafBytes
	var readers sync.WaitGroup
	for r := range 3 {
		readers.Go(func() {
			for i := r; ctx.Err() == nil; i++ {
				b := vlog.Block(i * 7919 % (2 * DirectoryBlocks))
				p, err := table.Lookup(ctx, b)
				if err != nil {
					t.Error(err)
					return
				}
				if p != 0 && p.Offset() != int64(b%1000+5)*vlog.Unit*300 {
					t.Errorf("block %d: %s", b, p)
					return
				}
			}
		})
	}
	for i := range 3000 {
		b := vlog.Block(i * 104729 % (2 * DirectoryBlocks))
		must(t, table.Set(ctx, b, 1, pointer(uint32(i%5), int(b))))
		if table.Full() {
			checkpoint(t, table, s)
		}
	}
	cancel()
	readers.Wait()
}

func TestRefusals(t *testing.T) {
	ctx := t.Context()
	s := newShelf()
	table := newTable(t, 1000, s)
	ok := pointer(1, 0)
	for name, row := range map[string]struct {
		err  error
		want fault.Kind
	}{
		"lookup beyond":     {second(table.Lookup(ctx, 1000)), fault.OutOfRange},
		"set beyond":        {table.Set(ctx, 999, 2, ok), fault.OutOfRange},
		"zero beyond":       {table.Zero(ctx, 1, 1000), fault.OutOfRange},
		"zero overflow":     {table.Zero(ctx, 1, 1<<64-1), fault.OutOfRange},
		"set a hole":        {table.Set(ctx, 1, 1, 0), fault.Internal},
		"set beyond frame":  {table.Set(ctx, 1, 16, ok+1), fault.Internal},
		"move from hole":    {second(table.Move(ctx, 1, 0, ok)), fault.Internal},
		"root beyond":       {table.Restore([]Entry{{1, ok}}, make([]uint32, 9), nil), fault.Corrupt},
		"root of a hole":    {table.Restore([]Entry{{0, 0}}, make([]uint32, 9), nil), fault.Corrupt},
		"root of nothing":   {table.Restore([]Entry{{0, ok}}, nil, nil), fault.Corrupt},
		"orphan of nothing": {table.Restore(nil, nil, []Orphan{{LeafPage(3), ok}}), fault.Corrupt},
		"orphan of a hole":  {table.Restore(nil, make([]uint32, 9), []Orphan{{LeafPage(3), 0}}), fault.Corrupt},
		"tiny limit":        {second(New(Options{LimitBytes: 5})), fault.Invalid},
		"too large":         {second(New(Options{Blocks: vlog.MaxBlocks + 1})), fault.Invalid},
	} {
		if !fault.Is(row.err, row.want) {
			t.Errorf("%s: %v, want %s", name, row.err, row.want)
		}
	}
	bad := s.put(DirectoryPage(0), &Words{5: 1 << 63})
	must(t, table.Restore([]Entry{{0, bad}}, make([]uint32, 2000), nil))
	if _, err := table.Lookup(ctx, 3); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a page with a word that is no pointer: %v, want corrupt", err)
	}
}

func second[T any](_ T, err error) error { return err }

func TestGrow(t *testing.T) {
	table := newTable(t, 10, newShelf())
	table.Grow(5)
	table.Grow(DirectoryBlocks + 1)
	must(t, table.Set(t.Context(), DirectoryBlocks, 1, pointer(1, 1)))
	if table.Blocks() != DirectoryBlocks+1 {
		t.Errorf("%d blocks", table.Blocks())
	}
}

// TestShortLastDirectory: a change that waits for a leaf goes with a directory of
// fewer blocks than a leaf, at the end of a volume, that becomes holes.
func TestShortLastDirectory(t *testing.T) {
	const last = DirectoryBlocks
	s, ctx := newShelf(), t.Context()
	table := newTable(t, last+5, s)
	must(t, table.Set(ctx, last, 5, pointer(1, 0)))
	root := checkpoint(t, table, s)
	again := newTable(t, last+5, s)
	must(t, again.Restore(root, table.Live(), nil))
	for n := range uint32(2) {
		must(t, again.Set(ctx, last+1, 1, pointer(2+n, 0))) // its leaf is not in memory
		must(t, again.Zero(ctx, last, 5))
		for b := range vlog.Block(5) {
			if p, err := again.Lookup(ctx, last+b); p != 0 || err != nil {
				t.Errorf("block %d: got %s, %v, want a hole", b, p, err)
			}
		}
		for more := true; more; {
			var err error
			more, err = again.Reclaim(ctx, 10)
			must(t, err)
		}
		checkpoint(t, again, s)
		for object, live := range again.Live() {
			if live != 0 {
				t.Errorf("object %d: %d live, want none", object, live)
			}
		}
	}
	must(t, again.Zero(ctx, 0, last+5))
}

func ExampleTable() {
	table, _ := New(Options{Blocks: 1 << 20})
	defer table.Close()
	ctx := context.Background()
	_ = table.Set(ctx, 100, 2, vlog.NewPointer(7, 80, 8224, 0))
	_ = table.Zero(ctx, 101, 1)
	_ = table.Allocated(ctx, 0, func(r Range) bool {
		fmt.Println(r.First, r.Count)
		return true
	})
	// Output: 100 1
}
