package cache

import "github.com/holkas-io/holkas/pkg/vlog"

// Put takes the bytes of an object from offset at on into the file before it
// returns: those blocks that are whole, and not there already. It is for segments
// that were just sealed. The cache does not keep b. What cannot be written is not
// kept, and Health says why.
func (c *Cache) Put(o Object, at int64, b []byte) {
	if o.check() != nil || at < 0 || at+int64(len(b)) > o.SizeBytes {
		return
	}
	c.store(o, at, b, func() bool { return false })
}

// Drop takes out every line that has bytes of this range, and fetches of them that
// are under way. It is for bytes that turned out not to be the object's, and for
// objects that were deleted (the whole range). A reader that began before may
// still be given them.
func (c *Cache) Drop(o Object, r Range) {
	if r = (Range{max(r.At, 0), min(r.End, o.SizeBytes)}); o.check() != nil || r.At >= r.End {
		return
	}
	b := r.covering()
	c.flights.doom(o, b)
	for p := o.printer(); !b.empty(); b.lo = b.first().hi {
		line, _ := b.first().line()
		c.index.dropLine(p.of(line))
	}
}

// DropLog takes out the lines of a log that was deleted, and returns how many
// there were. Lines of other logs may go with them, one log in 65536.
func (c *Cache) DropLog(log vlog.LogID) int { return c.index.dropLog(tagOf(log)) }

// store writes what is whole in b, at an offset of the object, into the file.
func (c *Cache) store(o Object, at int64, b []byte, unwanted func() bool) {
	todo := o.within(Range{at, at + int64(len(b))})
	for p := o.printer(); !todo.empty(); todo.lo = todo.first().hi {
		part := todo.first()
		line, mask := part.line()
		if !c.writing.usable() || !c.storeLine(o, p.of(line), line, mask, at, b, unwanted) {
			c.count.dropped.Add(1)
		}
	}
}

// storeLine writes the blocks of a mask into their line, but for those that are
// there.
func (c *Cache) storeLine(o Object, p fingerprint, line int64, mask uint16, at int64, b []byte, unwanted func() bool) bool {
	c.shape.RLock()
	defer c.shape.RUnlock()
	slot, there, evicted, ok := c.index.acquire(p)
	if !ok {
		return false
	}
	if evicted {
		c.count.evictions.Add(1)
	}
	mask &^= there
	if unwanted() {
		mask = 0
	}
	var written uint16
	for n := int64(0); n < lineBlocks; {
		run := blocks{n, n}
		for run.hi < lineBlocks && mask&(1<<run.hi) != 0 {
			run.hi++
		}
		if run.empty() {
			n++
			continue
		}
		if c.writeRun(o, slot, line, run, at, b) != nil {
			break
		}
		written |= uint16(1<<run.hi - 1<<run.lo)
		n = run.hi
	}
	if written != 0 {
		c.count.lines.Add(1)
		select {
		case c.filler.wake <- struct{}{}:
		default:
		}
	}
	return c.index.release(slot, written) && written == mask
}

// writeRun writes blocks of a line, numbered within it, in one write.
func (c *Cache) writeRun(o Object, slot uint32, line int64, run blocks, at int64, b []byte) error {
	buffer := c.buffer()
	defer c.buffers.Put(buffer)
	stored := (*buffer)[:(run.hi-run.lo)*block]
	var bytes int64
	for n := run.lo; n < run.hi; n++ {
		number := line*lineBlocks + n
		has := o.bytes(blocks{number, number + 1})
		one := stored[(n-run.lo)*block : (n-run.lo+1)*block]
		clear(one[copy(one, b[has.At-at:has.End-at]):])
		seal(one, o.tail(number))
		bytes += has.End - has.At
	}
	if !c.writing.take() {
		return errResting
	}
	_, err := c.file.WriteAt(stored, lineAt(slot)+run.lo*block)
	c.used(&c.writing, err)
	if err == nil {
		c.count.filledBytes.Add(uint64(bytes))
	}
	return err
}
