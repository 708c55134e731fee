package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestCrashAtEveryStep has one process die in each step of disk and store in turn,
// before the step takes effect and after it, with the node's power and without,
// through a life that does a bit of everything; then the volume is opened where
// the class has it, found to be right, and worked with; a snapshot that was asked
// for is asked for again. In short, it is every fourth step of one such life; a
// soak has every step of many.
func TestCrashAtEveryStep(t *testing.T) {
	classes := []class{
		{durability: engine.JournalDurability},
		{durability: engine.JournalDurability, rollback: true},
		{durability: engine.ObjectDurability},
	}
	const variants, most = 12, 200 // of the classes, and of the ends; steps
	stride := 4
	if soaks() || os.Getenv("HOLKAS_SEED") != "" {
		stride = 1
	}
	steps, skip := map[int]int{}, rand.IntN(stride)
	plan(t, most/stride*variants, 50*most*variants, func(t *testing.T, name string, seed uint64, i int) {
		walk, variant, k := i/(most/stride*variants), i%variants, 1+skip+i/variants%(most/stride)*stride
		if steps[walk*3+variant%3] > 0 {
			return
		}
		c := classes[variant%3]
		c.encrypted = walk%2 == 1
		if !crashAt(t, fmt.Sprintf("%s, step %d, variant %d", name, k, variant), rand.NewPCG(seed, uint64(walk)), c, k, variant/3) {
			steps[walk*3+variant%3] = k
		}
	})
	t.Logf("steps: %v", steps)
}

// crashAt plays the life that dies in its k-th step, and reports whether it had so
// many.
func crashAt(t *testing.T, name string, seed *rand.PCG, c class, k, variant int) bool {
	w := newWorld(t, name, seed, c)
	b := w.branch(epoch.Base{Blocks: begins}, nil, nil)
	l := b.open("node-a", false, 0)
	if l == nil {
		return false
	}
	l.do("checkpoint", l.v.Checkpoint)
	l.g.dieIn(k, variant&1 == 1)
	id := volume.NewSnapshotID()
	l.everything(id)
	died := w.done["closed"] == 0 // a clean close ends the life as well
	if b.at == l {
		l.die(variant&2 == 2)
	}
	for tries := 0; b.at == nil && tries < 3 && !w.over(); tries++ {
		node := "node-a"
		if c.durability == engine.ObjectDurability || c.rollback {
			node = nodes[w.rand.IntN(len(nodes))]
		}
		b.open(node, true, 0)
	}
	if b.at != nil && !w.over() {
		if len(b.snapshots) == 0 {
			b.at.snapshot(id)
		}
		b.at.burst(1, 4)()
	}
	w.end()
	return died
}

// everything is a life with a bit of everything.
func (l *life) everything(id volume.SnapshotID) {
	c := client{l, l.b.w.rand}
	for _, do := range []func(){
		func() { c.write(c.blocks(6)) },
		func() { c.flush() },
		func() { l.burst(2, 3)() },
		func() { l.snapshot(id) },
		func() { c.write(5*sector, 9*sector) },
		func() { l.do("sync", l.v.Sync) },
		func() { c.zero(0, int64(l.b.blocks-1)*4096, true) },
		func() { l.do("checkpoint", l.v.Checkpoint) },
		l.collect,
		func() { c.write(c.blocks(2)) },
		func() { l.do("flush, growth", func(ctx context.Context) error { l.grow(); return l.v.Sync(ctx) }) },
		func() { c.write(c.blocks(2)) },
		func() { l.close() },
	} {
		if l.g.dead() || l.b.w.over() || l.b.at != l {
			return
		}
		do()
	}
}
