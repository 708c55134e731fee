package cache

import (
	"math/bits"
	"sync"
)

// index is which line is in which slot, in memory: 25 bytes a slot, without
// pointers. A slot is in exactly one queue, or being taken by acquire.
type index struct {
	mu     sync.Mutex
	prints []fingerprint // 0: the slot has no line
	blocks []uint16      // those of the line that are there
	states []state
	bucket []uint32 // the first slot + 1 of those whose prints meet here
	chain  []uint32 // the next slot + 1 with a print of the same bucket
	next   []uint32 // the next slot + 1 in the same queue
	free   queue
	queues [3]queue // young, old, proven
	ghosts []uint32 // halves of prints of lines that left probation; a hint
	dirty  []uint64 // pages that differ from what is stored, a bit each
	used   int      // slots with a line
}

// newIndex returns an index of so many slots, each of which is to be pushed to a
// queue.
func newIndex(lines int) *index {
	return &index{
		prints: make([]fingerprint, lines), blocks: make([]uint16, lines), states: make([]state, lines),
		bucket: make([]uint32, lines), chain: make([]uint32, lines), next: make([]uint32, lines),
		ghosts: make([]uint32, lines/2+1), dirty: make([]uint64, (pagesOf(lines)+63)/64),
	}
}

// emptyIndex returns an index without lines.
func emptyIndex(lines int) *index {
	x := newIndex(lines)
	for slot := range lines {
		x.push(&x.free, uint32(slot))
	}
	return x
}

// upTo maps a hash evenly to 0..n-1.
func upTo(h uint64, n int) int { hi, _ := bits.Mul64(h, uint64(n)); return int(hi) }

func (x *index) bucketOf(p fingerprint) *uint32 { return &x.bucket[upTo(uint64(p), len(x.bucket))] }

func (x *index) ghostAt(p fingerprint) int {
	return upTo(bits.RotateLeft64(uint64(p), 24), len(x.ghosts))
}

// find returns the slot of a line.
func (x *index) find(p fingerprint) (slot uint32, ok bool) {
	for s := *x.bucketOf(p); s != 0; s = x.chain[s-1] {
		if x.prints[s-1] == p {
			return s - 1, true
		}
	}
	return 0, false
}

// settle puts a line into a slot that has none.
func (x *index) settle(slot uint32, p fingerprint) {
	b := x.bucketOf(p)
	x.prints[slot], x.blocks[slot], x.chain[slot] = p, 0, *b
	*b = slot + 1
	x.used++
}

// forget takes the line out of a slot. Its queue still has the slot.
func (x *index) forget(slot uint32) {
	at := x.bucketOf(x.prints[slot])
	for *at != slot+1 {
		at = &x.chain[*at-1]
	}
	*at = x.chain[slot]
	x.prints[slot], x.blocks[slot] = 0, 0
	x.states[slot] &= queueMask
	x.used--
	x.soil(slot)
}

func (x *index) soil(slot uint32) {
	page := int(slot) / pageEntries
	x.dirty[page/64] |= 1 << (page % 64)
}

// use returns which blocks of a line are there, and counts the read as a use.
func (x *index) use(p fingerprint) (blocks uint16) {
	x.mu.Lock()
	defer x.mu.Unlock()
	slot, ok := x.find(p)
	if !ok {
		return 0
	}
	if x.states[slot].hits() < hitsMask {
		x.states[slot]++
	}
	return x.blocks[slot]
}

// where returns where a line is and which of its blocks are there.
func (x *index) where(p fingerprint) (slot uint32, blocks uint16) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if slot, ok := x.find(p); ok {
		return slot, x.blocks[slot]
	}
	return 0, 0
}

// acquire returns the line's slot, or one for it, for writing, and which blocks
// are there already. ok is false if somebody else writes it or there is no room.
// Every acquire that succeeds is ended by a release.
func (x *index) acquire(p fingerprint) (slot uint32, blocks uint16, evicted, ok bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	slot, found := x.find(p)
	if !found {
		if slot, evicted, ok = x.room(); !ok {
			return 0, 0, false, false
		}
		x.settle(slot, p)
		x.states[slot] = 0
		if x.remembered(p) {
			x.enter(slot, proven)
		} else {
			x.enter(slot, young)
		}
	}
	if x.states[slot]&writing != 0 {
		return 0, 0, false, false
	}
	x.states[slot] |= writing
	return slot, x.blocks[slot], evicted, true
}

// release ends writing: the blocks were written. kept is false if the line was
// dropped meanwhile, or is empty.
func (x *index) release(slot uint32, blocks uint16) (kept bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	s := x.states[slot]
	x.states[slot] &^= writing | doomed
	if x.blocks[slot] |= blocks; s&doomed != 0 || x.blocks[slot] == 0 {
		x.forget(slot)
		return false
	}
	if blocks != 0 {
		x.soil(slot)
	}
	return true
}

// drop takes a line out, if it is in this slot, and reports whether it was.
func (x *index) drop(slot uint32, p fingerprint) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if int(slot) >= len(x.prints) || x.prints[slot] != p {
		return false
	}
	return x.dropLocked(slot)
}

// dropLine takes a line out, wherever it is.
func (x *index) dropLine(p fingerprint) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	slot, ok := x.find(p)
	return ok && x.dropLocked(slot)
}

func (x *index) dropLocked(slot uint32) bool {
	if x.states[slot]&writing == 0 {
		x.forget(slot)
		return true
	}
	there := x.blocks[slot] != 0
	x.blocks[slot] = 0
	x.states[slot] |= doomed
	x.soil(slot)
	return there
}

// dropLog takes out the lines of the logs with this tag. Others can do their work
// meanwhile.
func (x *index) dropLog(tag uint16) (dropped int) {
	const step = 1 << 16
	for at, more := 0, true; more; at += step {
		x.mu.Lock()
		for slot := at; slot < min(at+step, len(x.prints)); slot++ {
			if x.prints[slot] != 0 && x.prints[slot].tag() == tag && x.dropLocked(uint32(slot)) {
				dropped++
			}
		}
		more = at+step < len(x.prints)
		x.mu.Unlock()
	}
	return dropped
}

// load puts the line of a stored entry into its slot, unless it is there already.
func (x *index) load(slot uint32, e entry) {
	if _, twice := x.find(e.print); e.print == 0 || twice {
		x.push(&x.free, slot)
		return
	}
	x.settle(slot, e.print)
	x.blocks[slot] = e.blocks
	q := e.state.queue()
	if q > proven {
		q = young
	}
	x.enter(slot, q)
	if q == proven {
		x.states[slot] |= e.state.hits()
	}
}

// page returns the entries of a page, and takes the page for stored. dirty is
// false if it was so before.
func (x *index) page(page int) (entries []entry, dirty bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if page/64 >= len(x.dirty) || x.dirty[page/64]&(1<<(page%64)) == 0 {
		return nil, false
	}
	x.dirty[page/64] &^= 1 << (page % 64)
	for slot := page * pageEntries; slot < min((page+1)*pageEntries, len(x.prints)); slot++ {
		e := entry{}
		if x.blocks[slot] != 0 {
			e = entry{x.prints[slot], x.blocks[slot], x.states[slot] & (queueMask | hitsMask)}
		}
		entries = append(entries, e)
	}
	return entries, true
}

// unsaved takes back that a page is stored.
func (x *index) unsaved(page int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if page/64 < len(x.dirty) {
		x.dirty[page/64] |= 1 << (page % 64)
	}
}

// resize changes the number of slots; nobody is writing. Lines in slots that are
// no more are dropped.
func (x *index) resize(lines int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	y := newIndex(lines)
	for i := range x.queues {
		for q := x.queues[i]; q.length > 0; {
			slot := x.pop(&q)
			if int(slot) >= lines || x.prints[slot] == 0 {
				continue
			}
			y.settle(slot, x.prints[slot])
			y.blocks[slot] = x.blocks[slot]
			y.states[slot] = x.states[slot]
			y.push(&y.queues[i], slot)
		}
	}
	for slot := range lines {
		if y.prints[slot] == 0 {
			y.push(&y.free, uint32(slot))
		}
	}
	for i := range y.dirty {
		y.dirty[i] = ^uint64(0)
	}
	x.prints, x.blocks, x.states, x.bucket, x.chain, x.next = y.prints, y.blocks, y.states, y.bucket, y.chain, y.next
	x.free, x.queues, x.ghosts, x.dirty, x.used = y.free, y.queues, y.ghosts, y.dirty, y.used
}

func (x *index) size() (lines, used int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.prints), x.used
}
