package cache

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Cache is an open cache. All of it may be used concurrently, but for Close.
type Cache struct {
	options Options
	file    disk.File // nil if there is none: then the breaker is open for good
	life    incarnation
	index   *index
	flights flights
	filler  filler
	reading breaker
	writing breaker
	short   atomic.Pointer[error] // why the file does not have the size that was asked for
	buffers sync.Pool             // of one unit each, *[]byte
	count   counters

	// shape is held for reading while lines are written, and for writing while the
	// file changes its size. saving is held while the index is stored. shape comes
	// before saving, both before the index's own lock.
	shape  sync.RWMutex
	saving sync.Mutex
}

// counters are Stats as they grow.
type counters struct {
	hits, misses, shared, hitBytes, fetchedBytes, filledBytes atomic.Uint64
	lines, evictions, badLines, dropped, ioErrors             atomic.Uint64
}

// Stats counts what was done since the cache was opened, and says how full it is.
type Stats struct {
	// Hits are reads that the file answered alone, Misses those that called fetch,
	// Shared those that another read's fetch answered.
	Hits, Misses, Shared uint64
	// HitBytes were given out of the file, FetchedBytes came from the store,
	// FilledBytes of objects were written into the file.
	HitBytes, FetchedBytes, FilledBytes uint64
	// Filled lines were written, in whole or in part; Evictions made room for them.
	Filled, Evictions uint64
	// BadLines were found not to be what was written, and dropped.
	BadLines uint64
	// Dropped are lines that were not kept for want of memory, of room, or of a
	// file that works.
	Dropped uint64
	// Errors are reads and writes of the file that failed.
	Errors uint64
	// Lines are in use, of so many; SizeBytes is the length of the file.
	Lines, OfLines, SizeBytes, PendingBytes int64
}

// Stats returns what was done.
func (c *Cache) Stats() Stats {
	n := &c.count
	lines, used := c.index.size()
	size := fileBytes(lines)
	if c.file == nil {
		lines, size = 0, 0
	}
	return Stats{
		Hits: n.hits.Load(), Misses: n.misses.Load(), Shared: n.shared.Load(),
		HitBytes: n.hitBytes.Load(), FetchedBytes: n.fetchedBytes.Load(), FilledBytes: n.filledBytes.Load(),
		Filled: n.lines.Load(), Evictions: n.evictions.Load(), BadLines: n.badLines.Load(),
		Dropped: n.dropped.Load(), Errors: n.ioErrors.Load(),
		Lines: int64(used), OfLines: int64(lines), SizeBytes: size, PendingBytes: c.filler.pending(),
	}
}

// Close stores the index and closes the file. Fills that are waiting are dropped.
// No call may be running or follow. The error, if any, means that the next Open
// finds less.
func (c *Cache) Close(ctx context.Context) error {
	c.filler.end()
	if c.file == nil {
		return nil
	}
	defer c.file.Close()
	err := c.save(ctx)
	if err == nil {
		err = c.file.Sync()
	}
	return fault.Wrap(err, "close cache", c.options.Path)
}

// Abandon closes the file without another write, as a death would.
func (c *Cache) Abandon() {
	c.filler.end()
	if c.file != nil {
		c.file.Close()
	}
}

func (c *Cache) buffer() *[]byte {
	if b, ok := c.buffers.Get().(*[]byte); ok {
		return b
	}
	b := disk.Buffer(unit)
	return &b
}
