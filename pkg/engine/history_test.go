package engine_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func soaks() bool { return os.Getenv("HOLKAS_SOAK") != "" }

// plan is which histories are played: HOLKAS_SEED=<seed>/<number> plays one of
// them twenty times, since goroutines run as they like; HOLKAS_SOAK=1 plays many.
func plan(t *testing.T, short, soak int, play func(t *testing.T, name string, seed uint64, i int)) {
	t.Helper()
	seed, from, to, times := rand.Uint64(), 0, short, 1
	if soaks() {
		to = soak
	}
	if s, n, ok := strings.Cut(os.Getenv("HOLKAS_SEED"), "/"); ok {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err == nil {
			from, err = strconv.Atoi(n)
		}
		if err != nil {
			t.Fatalf("HOLKAS_SEED %q: want <seed>/<number>", os.Getenv("HOLKAS_SEED"))
		}
		to, times = from+1, 20
	}
	for i := from; i < to && !t.Failed(); i++ {
		for range times {
			name := fmt.Sprintf("%s: HOLKAS_SEED=%d/%d", t.Name(), seed, i)
			stuck := time.AfterFunc(time.Minute, func() {
				debug.SetTraceback("all")
				panic(name + ": has not ended after a minute")
			})
			synctest.Test(t, func(t *testing.T) { play(t, name, seed, i) })
			stuck.Stop()
		}
	}
}

// random is true once in n times.
func (w *world) random(n int) bool { return w.rand.IntN(n) == 0 }

// TestHistories plays random histories of a volume and its clones: writers at
// once, snapshots, collection, growth, deaths and losses of power at any step,
// openings on the same node and on others, beside a writer too, and a store that
// does all that stores do. What is read, found after every opening, and in every
// snapshot, must be a prefix of what was done that has all that was promised.
func TestHistories(t *testing.T) {
	total, played := map[string]int{}, 0
	plan(t, 100, 10_000, func(t *testing.T, name string, seed uint64, i int) {
		random := rand.NewPCG(seed, uint64(i))
		r := rand.New(random)
		c := class{durability: engine.JournalDurability, rollback: r.IntN(3) == 0, encrypted: r.IntN(4) == 0, storm: r.IntN(3) == 0}
		if r.IntN(3) == 0 {
			c.durability, c.rollback = engine.ObjectDurability, false
		}
		w := newWorld(t, name, random, c)
		w.branch(epoch.Base{Blocks: begins}, nil, nil)
		for steps := 10 + w.rand.IntN(40); steps > 0 && !w.over(); steps-- {
			w.step()
		}
		w.end()
		for what, n := range w.done {
			total[what] += n
		}
		played++
	})
	t.Log(played, total)
	if t.Failed() || os.Getenv("HOLKAS_SEED") != "" {
		return
	}
	for _, what := range []string{"opened", "closed", "death", "loss of power", "refused", "raced", "race refused", "zombie", "snapshot", "snapshot seen again", "clone", "forgotten", "collected", "grown", "outage", "failed sync", "view", "gap", "cleaned"} {
		if total[what] < played/20 {
			t.Errorf("%d times %s in %d histories: want more", total[what], what, played)
		}
	}
}

var nodes = []string{"node-a", "node-b", "node-c"}

// step does something with one of the volumes.
func (w *world) step() {
	b := w.all[w.rand.IntN(len(w.all))]
	if b.at == nil {
		w.reopen(b)
		return
	}
	l := b.at
	if w.random(6) {
		l.g.dieIn(1+w.rand.IntN(60), w.random(2))
	}
	w.act(l)
	if l.g.dead() && b.at == l {
		l.die(w.random(2))
	}
	if live := b.live(); len(live) > 0 && w.random(4) {
		b.look(live[w.rand.IntN(len(live))])
	}
}

// reopen has a node open a volume that is not open: most of the time one that may.
func (w *world) reopen(b *branch) {
	node := nodes[w.rand.IntN(len(nodes))]
	for n := range b.holders {
		if !w.random(3) {
			node = n
		}
	}
	dieIn := 0
	if w.random(5) {
		dieIn = 1 + w.rand.IntN(40)
	}
	if b.open(node, !w.random(4), dieIn) == nil && w.random(8) {
		w.faults.Follow(nil)
		w.logf("the store is well again")
	}
}

func (b *branch) live() (all []*snapshot) {
	for _, s := range b.snapshots {
		if !s.gone {
			all = append(all, s)
		}
	}
	return all
}

// act does something with an open volume, mostly beside others' reads and writes.
func (w *world) act(l *life) {
	b := l.b
	wait := func() {}
	if !w.random(5) {
		wait = l.burst(1+w.rand.IntN(3), 6)
	}
	live := b.live()
	switch n := w.rand.IntN(26); {
	case n < 4:
		id := volume.NewSnapshotID()
		for tried := range b.tried {
			if w.random(2) {
				id = tried
			}
		}
		if w.random(2) {
			l.cut(id)
		}
		l.snapshot(id)
	case n < 5 && len(live) > 0:
		l.again(live[w.rand.IntN(len(live))])
	case n < 6 && len(live) > 0 && len(w.all) < 4:
		b.clone(live[w.rand.IntN(len(live))])
	case n < 7 && len(live) > 0:
		b.forget(live[w.rand.IntN(len(live))])
	case n < 9:
		l.do("checkpoint", l.v.Checkpoint)
	case n < 11:
		l.do("sync", l.v.Sync)
	case n < 13:
		l.collect()
	case n < 14 && b.blocks < grown:
		wait()
		l.grow()
		return
	case n < 16:
		wait()
		other := nodes[w.rand.IntN(len(nodes))]
		if other != l.node && !l.g.dead() && !w.over() {
			l.race(other)
		}
		return
	case n < 17:
		wait()
		if !l.g.dead() && !w.over() {
			l.close()
		}
		return
	case n < 18:
		wait()
		l.die(w.random(2))
		return
	case n < 19 && !w.faulty.Load():
		w.outage(l)
	case n < 20:
		wait()
		if !l.g.dead() {
			l.failSync()
		}
		return
	case n < 21:
		l.pause()
	case n < 22:
		wait()
		l.watch()
		return
	case n < 23 && !w.faulty.Load():
		wait()
		w.gap(l)
		return
	default:
		time.Sleep(time.Duration(w.rand.Int64N(int64(20 * time.Second))))
	}
	wait()
}

// do does something after which all that had ended before counts.
func (l *life) do(name string, do func(context.Context) error) {
	p := l.b.o.begin(name, 0, 0, 0)
	err := do(l.g.ctx)
	l.b.o.end(p, err)
	if err == nil {
		l.b.counted(p.begin)
	}
	client{life: l}.ended(p, err)
}

// collect collects, most of the time with checkpoints that are old enough.
func (l *life) collect() {
	for range l.b.w.rand.IntN(3) {
		l.do("checkpoint", l.v.Checkpoint)
		time.Sleep(grace + grace/2)
		client{l, l.b.w.rand}.operate()
	}
	p, err := l.v.Collect(l.g.ctx)
	l.b.w.logf("%s: collect: %d objects, %v", l, len(p.Objects), err)
	if err != nil && !l.passing(err) {
		l.b.w.failf("%s: collect: %v", l, err)
	}
}

func (l *life) grow() {
	b := l.b
	b.blocks += 1 + b.blocks/3
	b.blocks = min(b.blocks, grown)
	err := l.v.Grow(l.g.ctx, b.blocks)
	b.w.logf("%s: grows to %d blocks: %v", l, b.blocks, err)
	if err != nil && !l.passing(err) {
		b.w.failf("%s: grow: %v", l, err)
	}
	b.w.count("grown")
}

// outage has the store away for minutes, while writers fill the journal.
func (w *world) outage(l *life) {
	w.faulty.Store(true)
	w.faults.Follow(faults.Outage(time.Now(), time.Now().Add(5*time.Minute)))
	began := time.Now()
	l.burst(3, 60)()
	w.logf("%s: an outage, ridden out in %s", l, time.Since(began))
	w.faults.Follow(nil)
	w.faulty.Store(false)
	w.count("outage")
}

// gap has the process die while every other segment does not arrive, and those
// behind it do. The volume is then opened elsewhere, if that may be.
func (w *world) gap(l *life) {
	w.faulty.Store(true)
	w.faults.Follow(func(r faults.Request) faults.Fault {
		odd := strings.ContainsAny(r.Key[len(r.Key)-1:], "13579")
		return faults.Fault{Silence: r.Op == faults.Create && strings.Contains(r.Key, "/segments/") && odd}
	})
	death := time.AfterFunc(time.Duration(1+w.rand.IntN(20))*time.Second, l.g.kill)
	l.burst(3, 20)()
	death.Stop()
	w.faults.Follow(nil)
	w.faulty.Store(false)
	l.die(w.random(2))
	w.count("gap")
	if other := nodes[w.rand.IntN(len(nodes))]; w.durability == engine.ObjectDurability || w.rollback {
		l.b.open(other, true, 0)
	}
}

// failSync has the disk fail a sync: nothing is acknowledged any more.
func (l *life) failSync() {
	w := l.b.w
	c := client{l, w.rand}
	w.logf("%s: a sync is going to fail", l)
	l.b.disks[l.node].FailSync(1)
	l.fenced.Store(true) // whatever fails now, fails for that
	c.write(c.blocks(1))
	c.flush()
	p := make([]byte, sector)
	if wrote, flushed := l.v.WriteAt(l.g.ctx, p, 0), l.v.Flush(l.g.ctx); !l.g.dead() && (wrote == nil || flushed == nil) {
		w.failf("%s: a sync failed, and it acknowledges: write: %v, flush: %v", l, wrote, flushed)
	}
	l.die(w.random(2))
	w.count("failed sync")
}

// pause takes a snapshot while writers wait, and sees that they do.
func (l *life) pause() {
	resume, err := l.v.Pause(l.g.ctx)
	if err != nil {
		if !l.passing(err) {
			l.b.w.failf("%s: pause: %v", l, err)
		}
		return
	}
	defer resume()
	s, err := everything(l.g.ctx, l.v, l.b.blocks)
	before := len(l.b.snapshots)
	l.snapshot(volume.NewSnapshotID())
	if err == nil && len(l.b.snapshots) > before && !maps.Equal(s, l.b.snapshots[before].content) {
		l.b.w.failf("%s: a snapshot under a pause has %v, read was %v", l, l.b.snapshots[before].content, s)
	}
}

// end opens every volume once more, somewhere else, and looks at every snapshot.
func (w *world) end() {
	w.faults.Follow(nil)
	w.faulty.Store(false)
	for _, b := range w.all {
		if b.at != nil && !w.over() {
			b.at.g.dieIn(0, false)
			b.at.close()
		}
		for tries := 0; b.at == nil && len(b.holders) > 0 && tries < 20 && !w.over(); tries++ {
			if node := nodes[tries%len(nodes)]; b.holders[node] || tries > len(nodes) {
				b.open(node, true, 0)
			}
		}
		if b.at != nil && !w.over() {
			b.at.close()
		}
		if !w.over() && b.open("node-z", false, 0) == nil {
			w.failf("%s: is closed, and does not open", b)
		}
		if b.at != nil {
			b.at.die(false)
		}
		for _, s := range b.live() {
			if !w.over() {
				b.look(s)
			}
		}
	}
	w.faults.Wait()
	for range w.faults.Count(faults.Delete) {
		w.count("collected")
	}
	for _, e := range w.idle {
		if err := e.Close(); err != nil {
			w.failf("%v", err)
		}
	}
}
