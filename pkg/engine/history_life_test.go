package engine_test

import (
	"context"
	"fmt"
	"maps"
	"sync"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// foreign reports whether another node's journal may hold what counts nowhere
// else, and whether it surely was open there last.
func (b *branch) foreign(node string) (may, surely bool) {
	for n, sure := range b.holders {
		if n != node {
			may, surely = true, surely || sure
		}
	}
	return may, surely
}

// floor is the tick up to which a node that opens the volume must find everything.
func (b *branch) floor(node string) int {
	may, _ := b.foreign(node)
	b.o.mu.Lock()
	defer b.o.mu.Unlock()
	switch {
	case may:
		return b.o.counted
	case len(b.holders) == 0 || !b.power:
		return b.o.now
	}
	return max(b.o.flushed, b.o.counted)
}

func (b *branch) flushed(tick int) {
	b.o.promise(tick, &b.o.flushed)
	if b.w.durability == engine.ObjectDurability {
		b.counted(tick)
	}
}

// counted says that what had ended by a tick counts. No other history goes on then,
// unless nothing had changed since.
func (b *branch) counted(tick int) {
	b.o.promise(tick, &b.o.flushed, &b.o.counted)
	b.mu.Lock()
	defer b.mu.Unlock()
	maps.DeleteFunc(b.forks, func(_ string, f *oracle) bool { return b.o.changed(f.now, tick) })
}

// open has a node open the volume while no other one has it open, and checks what
// it finds. Nil if it could not, for a reason that is as good as any.
func (b *branch) open(node string, takeOver bool, dieIn int) *life {
	w := b.w
	l := b.process(node)
	o := l.options()
	o.TakeOver = takeOver
	if dieIn > 0 {
		l.g.dieIn(dieIn, w.rand.IntN(2) == 0)
	}
	may, surely := b.foreign(node)
	strict := !takeOver || w.durability == engine.JournalDurability && !w.rollback
	refuse := surely && strict
	for _, sure := range b.holders {
		// Who was there in between, and failed, may have closed the epoch of one who
		// promised nothing but what counts.
		refuse = refuse && (sure || w.durability == engine.JournalDurability)
	}
	epochs := w.objects(vlog.Keys{Log: b.log}.Epochs())
	w.logf("%s: opens; take over %v; journals that may be needed: %v", l, takeOver, b.holders)
	v, err := l.e.Open(l.g.ctx, o)
	switch {
	case err == nil && refuse:
		w.failf("%s: opened, though %v may hold what was acknowledged", l, b.holders)
		v.Abandon()
		return nil
	case err != nil && (may || b.unsettled) && strict && (fault.Is(err, fault.InUse) || fault.Is(err, fault.Precondition)):
		w.count("refused")
		if now := w.objects(vlog.Keys{Log: b.log}.Epochs()); now != epochs {
			w.failf("%s: refused, but there are %d epochs, before %d", l, now, epochs)
		}
		l.retire()
		return nil
	case err != nil:
		w.logf("%s: open: %v", l, err)
		if !l.passing(err) {
			w.failf("%s: open: %v", l, err)
		}
		lost := w.random(2)
		if b.holders[node] {
			b.power = b.power || lost
		} else if !refuse {
			b.holders[node] = false
		}
		l.die(lost)
		return nil
	}
	l.v = v
	floor := b.floor(node)
	s, err := everything(l.g.ctx, l.v, b.blocks)
	if err != nil {
		return l.unread(err)
	}
	b.found(l, s, floor)
	return l
}

// unread ends a life that could not read what it opened.
func (l *life) unread(err error) *life {
	if !l.passing(err) {
		l.b.w.failf("%s: read after opening: %v", l, err)
	}
	if !l.b.holders[l.node] {
		l.b.holders[l.node] = false
	}
	l.die(false)
	return nil
}

// found checks a state that was found after opening, and goes on from it.
func (b *branch) found(l *life, s state, floor int) {
	tick := b.o.tick()
	may, _ := b.foreign(l.node)
	cut, err := b.o.cut(s, floor, tick)
	_, own := b.holders[l.node]
	was := b.o
	if f := b.forks[l.node]; err != nil && f != nil {
		f.now = tick
		if there, e := f.cut(s, f.counted, tick); e == nil {
			b.w.logf("%s: goes on where it was, %d, when another node took over", l, there)
			b.w.count("another history")
			b.o, cut, err, own = f, there, nil, true
			delete(b.forks, l.node)
		}
	}
	if err != nil {
		b.w.failf("%s: opened, and found %v", l, err)
	}
	for n, sure := range b.holders {
		if sure && n != l.node && !b.raced {
			b.forks[n] = was.fork()
		}
	}
	b.raced, b.unsettled = false, may || b.unsettled
	b.w.logf("%s: is open; has all up to %d, promised were %d", l, cut, floor)
	b.o.settle(s, cut)
	b.o.promise(tick, &b.o.flushed)
	if !own { // it has no journal that anything can be of
		b.o.promise(tick, &b.o.counted)
	}
	b.holders, b.at, b.power = map[string]bool{l.node: true}, l, false
	b.w.count("opened")
}

// close closes the volume cleanly.
func (l *life) close() {
	b, w := l.b, l.b.w
	err := l.v.Close(l.g.ctx)
	w.logf("%s: close: %v", l, err)
	if err != nil {
		if !l.passing(err) {
			w.failf("%s: close: %v", l, err)
		}
		b.holders[l.node] = false // the epoch may be closed already
		l.die(w.rand.IntN(2) == 0)
		return
	}
	l.g.kill()
	l.stats()
	w.rest(l.e)
	d := b.disks[l.node]
	if f, err := d.Open("/journal"); err == nil {
		w.failf("%s: closed cleanly, and the journal is still there", l)
		f.Close()
	}
	d.Crash(func(int) bool { return false })
	b.holders, b.at, b.unsettled = map[string]bool{}, nil, false
	b.counted(b.o.tick())
	w.count("closed")
}

// objects counts the store's objects with a prefix.
func (w *world) objects(prefix string) (n int) {
	for o := (objstore.ListOptions{Prefix: prefix}); ; {
		page, err := w.memory.List(context.Background(), o)
		if err != nil {
			w.failf("list: %v", err)
		}
		if n += len(page.Objects); page.Next == "" {
			return n
		}
		o.After = page.Next
	}
}

// race has another node open the volume while this one works.
func (l *life) race(other string) {
	b, w := l.b, l.b.w
	m := b.process(other)
	o := m.options()
	o.TakeOver = true
	refuse := w.durability == engine.JournalDurability && !w.rollback
	if !refuse {
		l.fenced.Store(true) // perhaps
	}
	wait := l.burst(1+w.rand.IntN(3), 6)
	if w.random(2) {
		busy, id := wait, volume.NewSnapshotID()
		var all sync.WaitGroup
		all.Go(func() { l.snapshot(id) })
		wait = func() { busy(); all.Wait() }
	}
	v, err := m.e.Open(m.g.ctx, o)
	w.logf("%s: opens beside %s: %v", m, l, err)
	if refuse {
		wait()
		if err == nil || !fault.Is(err, fault.Precondition) && !m.passing(err) {
			w.failf("%s: opened beside %s: %v: want Precondition", m, l, err)
		}
		m.v = v
		m.retire()
		w.count("race refused")
		return
	}
	if err != nil {
		wait()
		if !m.passing(err) {
			w.failf("%s: open beside %s: %v", m, l, err)
		}
		b.holders[other] = false
		m.retire()
		l.die(w.rand.IntN(2) == 0)
		return
	}
	m.v = v
	s, err := everything(m.g.ctx, m.v, b.blocks)
	wait()
	if err != nil {
		l.die(false)
		m.unread(err)
		return
	}
	b.forks[l.node], b.raced = b.o.fork(), true
	l.zombie()
	l.die(w.rand.IntN(2) == 0)
	b.found(m, s, b.floor(other))
	w.count("raced")
}

// retire ends a process beside the one that has the volume open.
func (l *life) retire() {
	l.g.kill()
	if l.v != nil {
		l.v.Abandon()
	}
	l.b.w.rest(l.e)
	l.b.disks[l.node].Restart()
}

// zombie has a writer go on that another node has taken over from: on a history of
// its own.
func (l *life) zombie() {
	w, o := l.b.w, l.b.forks[l.node]
	for range 1 + w.rand.IntN(3) {
		n := w.writes.Add(1)
		p := make([]byte, vlog.BlockSize)
		stamp(p, 0, n)
		op := o.begin(fmt.Sprintf("write %d, fenced", n), 0, vlog.BlockSize, n)
		wrote := l.v.WriteAt(l.g.ctx, p, 0)
		o.end(op, wrote)
		flushed := l.v.Flush(l.g.ctx)
		synced := l.v.Sync(l.g.ctx)
		w.logf("%s: fenced, goes on: write %d: %v; flush: %v; sync: %v", l, n, wrote, flushed, synced)
		if wrote == nil && (w.rollback || flushed == nil || synced == nil) {
			w.failf("%s: acknowledges beside its successor: write: %v, flush: %v, sync: %v", l, wrote, flushed, synced)
		}
	}
	if err := l.v.Checkpoint(l.g.ctx); err == nil {
		w.failf("%s: publishes a checkpoint beside its successor", l)
	}
	_, err := l.v.Collect(l.g.ctx)
	w.logf("%s: fenced, collects: %v", l, err)
	w.count("zombie")
}

func (b *branch) String() string { return fmt.Sprintf("%s of %d blocks", b.name, b.blocks) }
