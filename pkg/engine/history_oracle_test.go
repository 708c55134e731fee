package engine_test

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// oracle is a volume's history: which operations began and ended when, and so what
// its blocks may hold. It keeps account of the blocks it was made with only.
//
// Times are ticks: each begin and each end of an operation has one of its own. An
// operation that ended before another began comes before it in the one order of
// the volume; those that overlap may come in either order. A prefix of the history
// is told by a tick: all that had ended well by then is in it, nothing that began
// later is, and of the rest any part of each operation, but whole blocks. Blocks
// may be looked at one by one, since each has an order of its own then that fits
// the ticks (Herlihy and Wing: linearizability is local).
type oracle struct {
	mu     sync.Mutex
	now    int
	begins []int
	ops    []*op // that change something
	blocks []vlog.Block
	past   map[vlog.Block]*past

	// Promises: what had ended by then is in every state that is found after a loss
	// of power on the same node, or anywhere.
	flushed, counted int
}

const never = math.MaxInt

// op is an operation.
type op struct {
	name       string
	begin, end int
	// doubtful: it ended with an error, so that any part of it was done.
	doubtful bool
}

// must reports whether a prefix up to a tick has all of the operation.
func (p *op) must(tick int) bool { return !p.doubtful && p.end < tick }

// atom is what an operation does to one block.
type atom struct {
	*op
	mask  uint8  // of sectors
	write uint32 // 0: zeros
}

func (a atom) on(c content) content {
	for i := range c {
		if a.mask>>i&1 == 1 {
			c[i] = a.write
		}
	}
	return c
}

// past is what happened to a block: groups of operations that overlapped.
type past struct {
	initial content
	groups  []*group
}

type group struct {
	before []content // what the block may have held
	atoms  []atom
	// What was read from pinned on, when nothing was under way.
	pinned  int
	content content
}

func newOracle(blocks []vlog.Block, initial map[vlog.Block]content) *oracle {
	o := &oracle{blocks: blocks, past: map[vlog.Block]*past{}}
	for _, b := range blocks {
		o.past[b] = &past{initial: initial[b]}
	}
	return o
}

func (o *oracle) tickLocked() int { o.now++; return o.now }

// tick returns a time of its own.
func (o *oracle) tick() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.tickLocked()
}

// begin says that an operation begins which writes a range of bytes.
func (o *oracle) begin(name string, off, length int64, write uint32) *op {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := &op{name: name, begin: o.tickLocked(), end: never}
	o.begins = append(o.begins, p.begin)
	if length > 0 {
		o.ops = append(o.ops, p)
	}
	for _, b := range o.blocks {
		if mask := overlap(b, off, length); mask != 0 {
			o.past[b].add(atom{op: p, mask: mask, write: write})
		}
	}
	return p
}

// end says that it returned.
func (o *oracle) end(p *op, err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	p.end, p.doubtful = o.tickLocked(), err != nil
}

// promise raises a promise: what had ended when a tick was, is kept.
func (o *oracle) promise(tick int, of ...*int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, p := range of {
		*p = max(*p, tick)
	}
}

// overlap returns which sectors of a block a range of bytes has.
func overlap(b vlog.Block, off, length int64) (mask uint8) {
	at := int64(b) * vlog.BlockSize
	for i := range sectors {
		if s := at + int64(i)*sector; s >= off && s < off+length {
			mask |= 1 << i
		}
	}
	return mask
}

func (p *past) add(a atom) {
	if n := len(p.groups); n > 0 && slices.ContainsFunc(p.groups[n-1].atoms, func(a atom) bool { return a.end == never }) {
		p.groups[n-1].atoms = append(p.groups[n-1].atoms, a)
		return
	}
	p.groups = append(p.groups, &group{before: p.may(never-1, never-1), atoms: []atom{a}, pinned: never})
}

// may returns what the block may hold in a state that has all that ended before
// one tick and nothing that began after another.
func (p *past) may(has, hasNot int) (all []content) {
	for _, g := range slices.Backward(p.groups) {
		if g.atoms[0].begin > hasNot {
			continue
		}
		for _, c := range g.may(has, hasNot) {
			if !slices.Contains(all, c) {
				all = append(all, c)
			}
		}
		if has >= g.pinned || slices.ContainsFunc(g.atoms, func(a atom) bool { return a.must(has) }) {
			return all
		}
	}
	return append(all, p.initial)
}

// may tries all orders in which the group's atoms may have come.
func (g *group) may(has, hasNot int) (all []content) {
	if has >= g.pinned {
		return []content{g.content}
	}
	type state struct {
		content
		done uint64
	}
	seen := map[state]bool{}
	var walk func(s state)
	walk = func(s state) {
		if seen[s] {
			return
		}
		seen[s] = true
		whole := true
		for i, a := range g.atoms {
			if s.done>>i&1 == 1 || a.begin > hasNot {
				continue
			}
			whole = whole && !a.must(has)
			if g.mayFollow(a, s.done, has) {
				walk(state{a.on(s.content), s.done | 1<<i})
			}
		}
		if whole && !slices.Contains(all, s.content) {
			all = append(all, s.content)
		}
	}
	for _, c := range g.before {
		walk(state{content: c})
	}
	return all
}

// mayFollow reports whether an atom may come after those that are done and before
// the others.
func (g *group) mayFollow(a atom, done uint64, has int) bool {
	for i, b := range g.atoms {
		if done>>i&1 == 1 && a.end < b.begin || done>>i&1 == 0 && b.must(has) && b.end < a.begin {
			return false
		}
	}
	return true
}

// read checks what a reader of a block was given that began to read at a tick.
func (o *oracle) read(b vlog.Block, began int, got content) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	p := o.past[b]
	if p == nil {
		return nil
	}
	if may := p.may(began, o.now); !slices.Contains(may, got) {
		return fmt.Errorf("block %d: read %s: want one of %v\n%s", b, got, may, p)
	}
	if n := len(p.groups); n > 0 && !slices.ContainsFunc(p.groups[n-1].atoms, func(a atom) bool { return a.end > began }) {
		g := p.groups[n-1]
		if g.pinned > began {
			g.pinned, g.content = began, got
		}
	}
	return nil
}

// state is what the blocks hold.
type state map[vlog.Block]content

// cut finds of which prefix a state is the result: between two ticks, the later
// the better.
func (o *oracle) cut(s state, from, to int) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	fits := func(tick int) bool {
		for _, b := range o.blocks {
			if got, ok := s[b]; ok && !slices.Contains(o.past[b].may(tick, tick), got) {
				return false
			}
		}
		return true
	}
	if fits(to) {
		return to, nil
	}
	for _, tick := range slices.Backward(o.begins) {
		if tick < to && tick > from && fits(tick) {
			return tick, nil
		}
	}
	if fits(from) {
		return from, nil
	}
	return 0, o.explainLocked(s, from, to)
}

// explainLocked says what is wrong about a state, as compared with the prefix that
// it is most like.
func (o *oracle) explainLocked(s state, from, to int) error {
	wrong := func(tick int) (all []vlog.Block) {
		for _, b := range o.blocks {
			if got, ok := s[b]; ok && !slices.Contains(o.past[b].may(tick, tick), got) {
				all = append(all, b)
			}
		}
		return all
	}
	best := to
	for _, tick := range append([]int{from}, o.begins...) {
		if tick >= from && tick < to && len(wrong(tick)) < len(wrong(best)) {
			best = tick
		}
	}
	var out strings.Builder
	fmt.Fprintf(&out, "no prefix between ticks %d and %d; most like the one at %d, but:\n", from, to, best)
	for _, b := range wrong(best) {
		fmt.Fprintf(&out, "block %d holds %s, want one of %v\n%s", b, s[b], o.past[b].may(best, best), o.past[b])
	}
	return fmt.Errorf("%s", out.String())
}

// settle says that the volume goes on from a state, which is the prefix up to a
// tick; the rest is gone for good. Nothing is under way.
func (o *oracle) settle(s state, tick int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for b, got := range s {
		p := o.past[b]
		p.groups = slices.DeleteFunc(p.groups, func(g *group) bool { return g.atoms[0].begin > tick })
		if n := len(p.groups); n > 0 {
			g := p.groups[n-1]
			g.atoms = slices.DeleteFunc(g.atoms, func(a atom) bool { return a.begin > tick })
			if g.pinned > tick {
				g.pinned, g.content = tick, got
			}
		}
	}
	o.begins = slices.DeleteFunc(o.begins, func(begin int) bool { return begin > tick })
	o.ops = slices.DeleteFunc(o.ops, func(p *op) bool { return !p.must(tick) }) // the others may not be in it
	o.flushed, o.counted = min(o.flushed, tick), min(o.counted, tick)
}

// changed reports whether something changed for sure between two ticks.
func (o *oracle) changed(from, to int) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.ContainsFunc(o.ops, func(p *op) bool { return p.begin > from && p.must(to) })
}

// fork returns a copy, for a history that may go on elsewhere. Nothing is under way.
func (o *oracle) fork() *oracle {
	o.mu.Lock()
	defer o.mu.Unlock()
	f := &oracle{now: o.now, begins: slices.Clone(o.begins), ops: slices.Clone(o.ops), blocks: o.blocks, past: map[vlog.Block]*past{}, flushed: o.flushed, counted: o.counted}
	for b, p := range o.past {
		c := &past{initial: p.initial}
		for _, g := range p.groups {
			g := *g
			g.atoms = slices.Clone(g.atoms)
			c.groups = append(c.groups, &g)
		}
		f.past[b] = c
	}
	return f
}

func (p *past) String() string {
	var out strings.Builder
	for _, g := range p.groups[max(0, len(p.groups)-6):] {
		for _, a := range g.atoms {
			end := fmt.Sprint(a.end)
			if a.end == never {
				end = "..."
			}
			if a.doubtful {
				end += "?"
			}
			fmt.Fprintf(&out, "    %d-%s sectors %08b: %s\n", a.begin, end, a.mask, a.name)
		}
		if g.pinned != never {
			fmt.Fprintf(&out, "    %d was %s\n", g.pinned, g.content)
		}
	}
	return out.String()
}
