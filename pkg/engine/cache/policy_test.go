package cache

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// policy is an index that is used as a cache is, without a file.
type policy struct{ *index }

func newPolicy(lines int) policy {
	return policy{emptyIndex(lines)}
}

// read reads a line so many times in a row, and reports whether it was there.
func (x policy) read(p fingerprint, times int) (hit bool) {
	hit = x.use(p) != 0
	if !hit {
		slot, _, _, ok := x.acquire(p)
		if ok {
			x.release(slot, 0xffff)
		}
	}
	for range times - 1 {
		x.use(p)
	}
	return hit
}

// TestScans: lines that are used again and again stay, whatever is read or written
// through the cache once.
func TestScans(t *testing.T) {
	const lines, hot, reads = 1000, 600, 10000
	for name, times := range map[string]int{"written": 1, "read in sequence": 16} {
		x := newPolicy(lines)
		random := rand.New(rand.NewPCG(1, 2))
		o, scan := object(1, 0, MaxObject).printer(), object(2, 0, MaxObject).printer()
		next, hits := int64(0), 0
		pass := func(n int) {
			for range n {
				x.read(scan.of(next), times)
				next++
			}
		}
		for range 20 * lines { // the hot lines prove themselves
			x.read(o.of(random.Int64N(hot)), 1)
			pass(1)
		}
		for range reads {
			pass(20)
			if x.read(o.of(random.Int64N(hot)), 1) {
				hits++
			}
		}
		x.check(t)
		ratio := float64(hits) / reads
		t.Logf("%s: %.3f of the reads of the hot lines are hits", name, ratio)
		if ratio < 0.95 {
			t.Errorf("%s: %.3f of the reads of the hot lines are hits, want 0.95", name, ratio)
		}
	}
}

// TestShifts: what is no longer used goes, when other lines are.
func TestShifts(t *testing.T) {
	const lines, hot = 1000, 600
	x := newPolicy(lines)
	random := rand.New(rand.NewPCG(3, 4))
	for shift := range 5 {
		o := object(1, shift, MaxObject).printer()
		hits := 0
		for i := range 30 * lines {
			if hit := x.read(o.of(random.Int64N(hot)), 1); hit && i >= 20*lines {
				hits++
			}
		}
		x.check(t)
		if ratio := float64(hits) / (10 * lines); ratio < 0.98 {
			t.Errorf("shift %d: %.3f are hits, want 0.98", shift, ratio)
		}
	}
}

// TestProven: a line that was used while it was old stays.
func TestProven(t *testing.T) {
	x := newPolicy(100)
	o, scan := object(1, 0, MaxObject).printer(), object(2, 0, MaxObject).printer()
	x.read(o.of(0), 1)
	for i := range int64(60) {
		x.read(scan.of(i), 1)
	}
	if !x.read(o.of(0), 1) {
		t.Fatal("not there")
	}
	for i := range int64(1000) {
		x.read(scan.of(100+i), 1)
	}
	if !x.read(o.of(0), 1) {
		t.Error("thrown out")
	}
}

// TestComesBack: a line that was thrown out of probation is proven if it is wanted
// again soon.
func TestComesBack(t *testing.T) {
	x := newPolicy(100)
	o, scan := object(1, 0, MaxObject).printer(), object(2, 0, MaxObject).printer()
	x.read(o.of(0), 1)
	for i := range int64(100) {
		x.read(scan.of(i), 1)
	}
	if x.read(o.of(0), 1) {
		t.Fatal("never thrown out")
	}
	for i := range int64(1000) {
		x.read(scan.of(1000+i), 1)
	}
	if !x.read(o.of(0), 1) {
		t.Error("thrown out once more")
	}
}

// TestBusy: a slot that is written is nobody else's.
func TestBusy(t *testing.T) {
	const lines = 4
	x := newPolicy(lines)
	o := object(1, 0, MaxObject).printer()
	var slots []uint32
	for i := range int64(lines) {
		slot, _, _, ok := x.acquire(o.of(i))
		if !ok {
			t.Fatal("no room")
		}
		slots = append(slots, slot)
	}
	if _, _, _, ok := x.acquire(o.of(0)); ok {
		t.Error("written by two")
	}
	if _, _, _, ok := x.acquire(o.of(lines)); ok {
		t.Error("evicted while it was written")
	}
	x.release(slots[2], 1)
	if slot, _, evicted, ok := x.acquire(o.of(lines)); !ok || slot != slots[2] || !evicted {
		t.Errorf("got slot %d, %v, want the one that is written no more", slot, ok)
	}
}

// TestMemory: bytes a line are as the package's comment says.
func TestMemory(t *testing.T) {
	x := newIndex(1 << 16)
	bytes := 8*cap(x.prints) + 2*cap(x.blocks) + int(unsafe.Sizeof(state(0)))*cap(x.states) +
		4*(cap(x.bucket)+cap(x.chain)+cap(x.next)+cap(x.ghosts)) + 8*cap(x.dirty)
	if perLine := float64(bytes) / (1 << 16); perLine > 25.01 {
		t.Errorf("%.2f bytes a line", perLine)
	}
	if total := 25 * linesIn(1<<40); total > 400<<20 {
		t.Errorf("%d bytes for 1 TiB", total)
	}
}
