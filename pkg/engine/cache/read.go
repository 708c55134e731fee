package cache

import (
	"context"
	"errors"
	"io"
	"math/bits"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Fetch gets a part of an object from the store: need, or more around it, such as
// Object.Lines(need), and says where what it got begins. The cache keeps data,
// which must not be changed any more.
type Fetch func(ctx context.Context, need Range) (at int64, data []byte, err error)

// Source is where a read's bytes came from.
type Source uint8

// The sources.
const (
	Hit    Source = iota // the file alone
	Miss                 // the store, by this read's one fetch
	Shared               // the store, by the fetch of another read of the same lines
)

// Read fills p with the object's bytes from offset at on. What the file does not
// have, or has damaged, is got by one call of fetch; of reads that lack the same
// line at the same time one fetches and the others wait for it. An error is
// fetch's, or the end of ctx; a failing file is none. The need that fetch is given
// is in whole blocks of the cache, a little more than what lacks.
//
// Bytes are those that fetch or Put brought. If they turn out not to be the
// object's, Drop them and read again.
//
// Invalid if the object cannot be cached or has no such bytes.
func (c *Cache) Read(ctx context.Context, o Object, at int64, p []byte, fetch Fetch) (Source, error) {
	r := Range{at, at + int64(len(p))}
	if err := o.check(); err != nil {
		return Miss, err
	}
	if at < 0 || len(p) == 0 || r.End > o.SizeBytes {
		return Miss, fault.New(fault.Invalid, "cache: read %d bytes at %d of %s: want some of its %d", len(p), at, o, o.SizeBytes)
	}
	for {
		lack := c.copyOut(o, r, p)
		if lack.empty() {
			c.count.hits.Add(1)
			c.count.hitBytes.Add(uint64(len(p)))
			return Hit, nil
		}
		need := o.bytes(lack)
		f, mine := c.flights.join(o, lack)
		switch {
		case mine && c.arrived(o, lack):
			close(f.done)
			c.flights.leave(f)
		case mine:
			err := c.fetch(ctx, f, need, fetch)
			if err == nil {
				copyPart(p, r, f.data, f.at)
			}
			return Miss, err
		default:
			select {
			case <-f.done:
			case <-ctx.Done():
				return Shared, ctx.Err()
			}
			if f.object == o && f.err != nil {
				return Shared, f.err
			}
			if f.covers(o, need) {
				copyPart(p, r, f.data, f.at)
				c.count.shared.Add(1)
				return Shared, nil
			}
			select {
			case <-f.gone:
			case <-ctx.Done():
				return Shared, ctx.Err()
			}
		}
	}
}

// arrived reports whether blocks that were not there are there by now: a flight
// ended in between.
func (c *Cache) arrived(o Object, b blocks) bool {
	if !c.reading.usable() {
		return false
	}
	p := o.printer()
	for ; !b.empty(); b.lo = b.first().hi {
		line, mask := b.first().line()
		if _, there := c.index.where(p.of(line)); there&mask != mask {
			return false
		}
	}
	return true
}

// fetch makes the one call to the store for a flight and passes what it brought
// on to who waits and to the filler.
func (c *Cache) fetch(ctx context.Context, f *flight, need Range, fetch Fetch) error {
	kept := false
	defer func() {
		close(f.done)
		if !kept || !c.filler.offer(f) {
			c.flights.leave(f)
		}
	}()
	at, data, err := fetch(ctx, need)
	c.count.misses.Add(1)
	got := Range{at, at + int64(len(data))}
	if err == nil && (!got.contains(need) || got.At < 0 || got.End > f.object.SizeBytes) {
		err = fault.New(fault.Corrupt, "cache: %s: got bytes %d to %d, want %d to %d at least, of %d", f.object, got.At, got.End, need.At, need.End, f.object.SizeBytes)
	}
	if err != nil {
		if ctx.Err() == nil {
			f.err = err
		}
		return err
	}
	c.count.fetchedBytes.Add(uint64(len(data)))
	f.at, f.data, kept = at, data, true
	return nil
}

// copyPart copies what data, which is at an offset of the object, has of the
// range r into p, which is for r.
func copyPart(p []byte, r Range, data []byte, at int64) {
	from, to := max(r.At, at), min(r.End, at+int64(len(data)))
	if from < to {
		copy(p[from-r.At:to-r.At], data[from-at:to-at])
	}
}

// copyOut fills what the file has of p, and returns the blocks that it lacks: one
// run that has all of them.
func (c *Cache) copyOut(o Object, r Range, p []byte) (lack blocks) {
	all := r.covering()
	if !c.reading.usable() {
		return all
	}
	prints := o.printer()
	for b := all; !b.empty(); b.lo = b.first().hi {
		line, mask := b.first().line()
		there := c.index.use(prints.of(line))
		if missing := mask &^ there; missing != 0 {
			first := line * lineBlocks
			lack = lack.with(blocks{first + int64(bits.TrailingZeros16(missing)), first + int64(bits.Len16(missing))})
		}
	}
	for b := all; !b.empty(); {
		part := b.first()
		switch {
		case !lack.empty() && b.lo >= lack.lo && b.lo < lack.hi:
			b.lo = lack.hi
			continue
		case !lack.empty() && b.lo < lack.lo:
			part.hi = min(part.hi, lack.lo)
		}
		line, mask := part.line()
		if !c.readLine(o, prints.of(line), part, mask, r, p) {
			lack = lack.with(part)
		}
		b.lo = part.hi
	}
	return lack
}

// readLine reads blocks of one line, verifies them, and copies what they have of
// r into p. A line that is not what was written is dropped.
func (c *Cache) readLine(o Object, line fingerprint, b blocks, mask uint16, r Range, p []byte) bool {
	slot, there := c.index.where(line)
	if there&mask != mask || !c.reading.take() {
		return false
	}
	buffer := c.buffer()
	defer c.buffers.Put(buffer)
	stored := (*buffer)[:(b.hi-b.lo)*block]
	_, err := c.file.ReadAt(stored, lineAt(slot)+b.lo%lineBlocks*block)
	if !errors.Is(err, io.EOF) { // the file was cut off here in between
		c.used(&c.reading, err)
	}
	for n := b.lo; n < b.hi && err == nil; n++ {
		one := stored[(n-b.lo)*block : (n-b.lo+1)*block]
		if !whole(one, o.tail(n)) {
			err = errDamaged
			break
		}
		has := o.bytes(blocks{n, n + 1})
		copyPart(p, r, one[:has.End-has.At], has.At)
	}
	if err == nil {
		return true
	}
	// Unless the slot was given to another line while it was read.
	if c.index.drop(slot, line) {
		c.count.badLines.Add(1)
	}
	return false
}

var errDamaged = errors.New("not what was written")

// Has reports whether a range of an object seems to be in the file: a read of it
// would most probably not call fetch. It reads nothing and is no use of the lines.
func (c *Cache) Has(o Object, r Range) bool {
	if !c.reading.usable() {
		return false
	}
	prints := o.printer()
	for b := r.covering(); !b.empty(); b.lo = b.first().hi {
		line, mask := b.first().line()
		if _, there := c.index.where(prints.of(line)); there&mask != mask {
			return false
		}
	}
	return true
}
