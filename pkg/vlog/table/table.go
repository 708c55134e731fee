package table

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// The shape of the table.
const (
	// Fanout is the pointers of a leaf, and the leaves of a directory.
	Fanout = 512
	// LeafBytes is the size of a leaf, and of a stored page before compression.
	LeafBytes = Fanout * 8
	// DirectoryBlocks is the blocks that a directory stands for.
	DirectoryBlocks = Fanout * Fanout
	// pendingBytes is what a change takes that waits for its leaf, about.
	pendingBytes = 48
)

// Page numbers a page: leaves from 0, directories from 1<<40.
type Page uint64

const directoryPages Page = 1 << 40

// LeafPage returns the number of a leaf's page.
func LeafPage(n uint64) Page { return Page(n) }

// DirectoryPage returns the number of a directory's page.
func DirectoryPage(n uint64) Page { return directoryPages + Page(n) }

// Words are the content of a page.
type Words = [Fanout]vlog.Pointer

// Pager loads pages.
type Pager interface {
	// Load fills words with the page that is stored at a place.
	Load(ctx context.Context, p Page, at vlog.Pointer, words *Words) error
}

// ref is a directory's entry of a leaf. All zero is a hole.
type ref struct {
	stored  vlog.Pointer // where its page is; 0 if it was never stored
	slot    uint32       // 1 + its slot in memory; 0 if it is not there
	pending uint16       // changes that wait for it; only while it is not in memory
	dirty   bool         // changed since it was stored
}

type directory struct {
	refs  [Fanout]ref
	dirty bool // some pointer to a leaf changed, or will
}

type rootEntry struct {
	directory *directory // nil: a hole, or not loaded
	stored    vlog.Pointer
}

// Options are what a table needs.
type Options struct {
	// Blocks is the size of the volume, at most vlog.MaxBlocks.
	Blocks vlog.Block
	// Pager loads pages; nil for a table that has none stored.
	Pager Pager
	// LimitBytes bounds the memory of leaves and of what is pending, but for what is
	// applied in spite of Full; 0 means no bound.
	LimitBytes int64
}

// Table is an extent table. Lookup and what only reads may be called at any time;
// what changes the table belongs to one goroutine.
type Table struct {
	pager Pager
	limit int64

	mu      sync.RWMutex
	blocks  vlog.Block
	root    []rootEntry
	slabs   slabs
	owner   []atomic.Uint32 // of each slot: 1 + number of its leaf, and the touched bit
	hand    uint32          // of the clock
	pending map[vlog.Block]vlog.Pointer
	live    []uint32
	dropped []dropped               // directories whose blocks are still counted
	orphans []Orphan                // pages likewise
	dirty   int                     // leaves in memory that are changed
	joining map[Page][]vlog.Pointer // see Changed
}

// dropped is a directory in memory that the table no longer has.
type dropped struct {
	directory *directory
	number    uint64
	next      int // the first leaf that is still counted
}

// Orphan is a stored page that the table no longer has, whose accounting is not
// yet done: a leaf, or a directory with all of its leaves.
type Orphan struct {
	Page   Page
	Stored vlog.Pointer
}

const touched = 1 << 31

// New returns an empty table.
func New(o Options) (*Table, error) {
	if o.Blocks > vlog.MaxBlocks || o.LimitBytes < 0 || o.LimitBytes > 0 && o.LimitBytes < slabBytes {
		return nil, fault.New(fault.Invalid, "table of %d blocks, limit %d bytes: want at most %d blocks, and 0 or at least %d bytes", o.Blocks, o.LimitBytes, vlog.MaxBlocks, slabBytes)
	}
	t := &Table{pager: o.Pager, limit: o.LimitBytes, pending: map[vlog.Block]vlog.Pointer{}}
	t.Grow(o.Blocks)
	return t, nil
}

// Close gives the memory back. Nothing may use the table any more.
func (t *Table) Close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.slabs.close()
	t.root, t.pending, t.live, t.dropped, t.orphans = nil, nil, nil, nil, nil
}

// Grow makes the table larger; it never becomes smaller.
func (t *Table) Grow(blocks vlog.Block) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.blocks = max(t.blocks, blocks)
	need := int((t.blocks + DirectoryBlocks - 1) / DirectoryBlocks)
	t.root = append(t.root, make([]rootEntry, max(0, need-len(t.root)))...)
}

// SetLimit changes the memory limit, see Options. What is beyond it goes as leaves
// are needed.
func (t *Table) SetLimit(bytes int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.limit = max(bytes, slabBytes)
	t.roomLocked(0)
}

// Blocks returns the size of the volume.
func (t *Table) Blocks() vlog.Block {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.blocks
}

// MemoryBytes returns what leaves, directories and pending changes take.
func (t *Table) MemoryBytes() int64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := t.leafMemoryLocked()
	for _, e := range t.root {
		if e.directory != nil {
			n += Fanout*16 + 8
		}
	}
	return n + int64(len(t.live))*4 + int64(len(t.owner))*4 + int64(len(t.root))*16
}

func (t *Table) leafMemoryLocked() int64 {
	return t.slabs.bytes() + int64(len(t.pending))*pendingBytes
}

func where(b vlog.Block) (dir, leaf, at int) {
	return int(b / DirectoryBlocks), int(b / Fanout % Fanout), int(b % Fanout)
}

func (t *Table) check(first vlog.Block, count uint64) error {
	if first > t.blocks || count > uint64(t.blocks-first) {
		return fault.New(fault.OutOfRange, "blocks %d and %d more: want them within the volume's %d", first, count, t.blocks)
	}
	return nil
}

// Lookup returns where a block is. It loads what is not in memory.
func (t *Table) Lookup(ctx context.Context, b vlog.Block) (vlog.Pointer, error) {
	for {
		t.mu.RLock()
		err := t.check(b, 1)
		if err != nil {
			t.mu.RUnlock()
			return 0, err
		}
		p, ok := t.getLocked(b)
		t.mu.RUnlock()
		if ok {
			return p, nil
		}
		if err := t.load(ctx, b); err != nil {
			return 0, err
		}
		if p, ok, err = t.fetch(ctx, b); ok || err != nil {
			return p, err
		}
	}
}

// LookupRun returns the pointers of count blocks from first on, appended to dst.
func (t *Table) LookupRun(ctx context.Context, first vlog.Block, count uint64, dst []vlog.Pointer) ([]vlog.Pointer, error) {
	for i := range count {
		p, err := t.Lookup(ctx, first+vlog.Block(i))
		if err != nil {
			return dst, err
		}
		dst = append(dst, p)
	}
	return dst, nil
}

// getLocked reports false if something must be loaded.
func (t *Table) getLocked(b vlog.Block) (vlog.Pointer, bool) {
	dir, leaf, at := where(b)
	e := &t.root[dir]
	if e.directory == nil {
		return 0, e.stored == 0
	}
	r := &e.directory.refs[leaf]
	if r.slot != 0 {
		t.touch(r.slot - 1)
		return t.slabs.leaf(r.slot - 1)[at], true
	}
	if r.pending > 0 {
		if p, ok := t.pending[b]; ok {
			return p, true
		}
	}
	return 0, r.stored == 0
}

func (t *Table) touch(slot uint32) {
	if o := &t.owner[slot]; o.Load()&touched == 0 {
		o.Or(touched)
	}
}
