package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/volume"
)

const (
	gib    vlog.Block = 1 << 30 / vlog.BlockSize
	begins            = 2*gib + 5 // blocks of a volume at first
	grown             = 3 * gib
	grace             = time.Hour
)

// clusters are the blocks that are written and read: about the borders of leaves
// and directories of the extent table, and at the ends of the volume.
var clusters = []struct {
	first vlog.Block
	count int
}{{0, 8}, {508, 8}, {gib - 4, 8}, {2*gib - 3, 8}, {grown - 6, 6}}

func clustered(blocks vlog.Block) (all []vlog.Block) {
	for _, c := range clusters {
		for i := range c.count {
			if b := c.first + vlog.Block(i); b < blocks {
				all = append(all, b)
			}
		}
	}
	return all
}

// class is what a history's volumes are.
type class struct {
	durability engine.Durability
	rollback   bool // onNodeLoss
	encrypted  bool
	storm      bool // the store has faults
}

func (c class) String() string {
	s := "durability journal, wait"
	switch {
	case c.durability == engine.ObjectDurability:
		s = "durability object"
	case c.rollback:
		s = "durability journal, rollback"
	}
	return fmt.Sprintf("%s, encrypted %v, storm %v", s, c.encrypted, c.storm)
}

// world is one history: a store, nodes and volumes.
type world struct {
	*class
	t      *testing.T
	name   string
	rand   *rand.Rand
	begun  time.Time
	memory *memory.Store
	faults *faults.Store
	lives  lives
	idle   []*engine.Engine // one at work for each life, since they are costly to make
	all    []*branch
	writes atomic.Uint32
	faulty atomic.Bool // the store has faults now

	mu     sync.Mutex
	log    []string
	done   map[string]int
	failed bool
}

func newWorld(t *testing.T, name string, seed *rand.PCG, c class) *world {
	w := &world{class: &c, t: t, name: name, rand: rand.New(seed), begun: time.Now(), memory: memory.New(), done: map[string]int{}}
	w.faults = faults.New(w.memory, nil)
	if c.storm {
		w.faulty.Store(true)
		w.weather()
	}
	w.logf("%s", c)
	return w
}

// weather has the store do all that stores do.
func (w *world) weather() {
	w.faults.Follow(faults.Random(w.rand.Uint64(), faults.Rates{
		Before: .02, Lost: .04, Throttled: .01, Silence: .005, Delay: .1, Late: .03, Again: .05, Short: .005, Flip: .005, MaxDelay: grace / 3,
	}))
}

func (w *world) logf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.log = append(w.log, fmt.Sprintf("%14s  ", time.Since(w.begun))+fmt.Sprintf(format, args...))
}

func (w *world) count(what string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.done[what]++
}

// failf fails the history, once, and tells what led to it.
func (w *world) failf(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.failed {
		w.failed = true
		tail := w.log[max(0, len(w.log)-70):]
		w.t.Errorf("%s: %s\n%s\n", w.name, fmt.Sprintf(format, args...), strings.Join(append(tail, w.log[0]), "\n"))
	}
}

func (w *world) over() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// branch is a volume: the log, and what is known of it.
type branch struct {
	w      *world
	name   string
	volume volume.ID
	log    vlog.LogID
	keys   engine.Keys
	blocks vlog.Block // as its record has it
	o      *oracle
	disks  map[string]*simdisk.Disk // by node
	at     *life                    // that has it open; nil
	// holders are the nodes whose journals may hold what counts nowhere else: true
	// for the one that was open last, false for those of which it is not known.
	holders map[string]bool
	power   bool // was lost at the last end
	// unsettled: a node took over from another one since the last clean close.
	unsettled bool
	// forks are histories that nodes had when another one took over and went back to
	// what counts. A journal is replayed by its position: such a history goes on if
	// its node opens the volume before anything counts that the other one did.
	mu    sync.Mutex
	forks map[string]*oracle
	raced bool // the last of them was made during a race

	snapshots []*snapshot
	tried     map[volume.SnapshotID]int // since when; not yet complete
}

func (w *world) branch(base epoch.Base, initial state, parent *branch) *branch {
	b := &branch{
		w: w, name: fmt.Sprintf("v%d", len(w.all)), volume: volume.NewID(), log: vlog.NewLogID(), blocks: base.Blocks,
		o: newOracle(clustered(grown), initial), disks: map[string]*simdisk.Disk{}, holders: map[string]bool{}, forks: map[string]*oracle{}, tried: map[volume.SnapshotID]int{},
	}
	if parent != nil {
		b.keys.Read = append([]*frame.DataKey(nil), parent.keys.Read...)
		if parent.keys.Write != nil {
			b.keys.Read = append(b.keys.Read, parent.keys.Write)
		}
	}
	if w.encrypted {
		secret := make([]byte, 32)
		secret[0], secret[1] = byte(len(w.all)), 1
		b.keys.Write, _ = frame.NewDataKey(secret)
	}
	if err := engine.Create(context.Background(), w.memory, b.log, base); err != nil {
		w.failf("create the log: %v", err)
	}
	w.all = append(w.all, b)
	return b
}

// life is one process that has a volume open.
type life struct {
	b    *branch
	node string
	n    int // of the world's lives
	g    *gate
	e    *engine.Engine
	v    *engine.Volume
	cuts map[volume.SnapshotID]int // until when
	// fenced: another node took over, or may have.
	fenced atomic.Bool
}

// process is a process on a node that may open the volume. It is called while no
// other one is at work, but for a writer that has its journal open.
func (b *branch) process(node string) *life {
	if b.disks[node] == nil {
		b.disks[node] = &simdisk.Disk{}
	}
	l := &life{b: b, node: node, n: len(b.w.lives), g: newGate(), e: b.w.engine(), cuts: map[volume.SnapshotID]int{}}
	b.w.lives = append(b.w.lives, gatedDisk{b.disks[node], l.g})
	return l
}

// engine returns one that nobody uses.
func (w *world) engine() *engine.Engine {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.idle); n > 0 {
		e := w.idle[n-1]
		w.idle = w.idle[:n-1]
		return e
	}
	e, err := engine.New(engine.Options{Storage: &w.lives, MemoryBytes: 256 << 20, Uploads: 4})
	if err != nil {
		w.t.Fatal(err)
	}
	return e
}

func (w *world) rest(e *engine.Engine) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.idle = append(w.idle, e)
}

func (l *life) store() objstore.Store {
	s, _ := retry.New(gatedStore{l.b.w.faults, l.g}, retry.Options{})
	return s
}

func (l *life) options() engine.OpenOptions {
	b := l.b
	return engine.OpenOptions{
		LogOptions: engine.LogOptions{Store: l.store(), Log: b.log, Keys: b.keys},
		Volume:     b.volume, Blocks: b.blocks, Owner: l.node,
		Journal: fmt.Sprintf("/%d/journal", l.n), JournalBytes: journal.MinSize, Durability: b.w.durability,
		Rollback: b.w.rollback, Grace: grace, Tuning: engine.Tuning{UploadDelay: time.Second, Cleaning: engine.Cleaning{
			Target: .9, IdleTarget: .95, IdleAfter: 5 * time.Second, MaxShare: .95,
		}},
	}
}

func (l *life) String() string { return l.b.name + " on " + l.node }

// die is the end of the process, in the midst of what it does, and perhaps of the
// node's power.
func (l *life) die(power bool) {
	b, w := l.b, l.b.w
	w.logf("%s: dies; loss of power: %v", l, power)
	l.g.kill()
	if l.v != nil {
		l.v.Abandon()
		l.stats()
	}
	w.rest(l.e)
	d := b.disks[l.node]
	d.FailSync(0)
	if power {
		odds := w.rand.IntN(5) // of four: from all lost to all kept
		d.Crash(func(int) bool { return w.rand.IntN(4) < odds })
		w.count("loss of power")
	} else {
		d.Restart()
		w.count("death")
	}
	if b.at == l {
		b.at, b.power = nil, power
	}
}

// stats counts what the volume did by itself.
func (l *life) stats() {
	if l.v.State().Stats.Moves > 0 {
		l.b.w.count("cleaned")
	}
}

// passing reports an error that this life, or the weather, explains.
func (l *life) passing(err error) bool {
	if l.g.dead() || l.fenced.Load() {
		return true
	}
	switch fault.KindOf(err) {
	case fault.Transient, fault.Deadline, fault.Canceled, fault.Busy, fault.Corrupt: // a reply that was spoiled three times
		return l.b.w.faulty.Load()
	}
	return false
}
