package engine_test

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
)

// inWorld plays a history that is written down.
func inWorld(t *testing.T, c class, play func(w *world, b *branch)) {
	t.Helper()
	seed := rand.Uint64()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.Name(), rand.NewPCG(seed, 0), c)
		play(w, w.branch(baseOf(begins), nil, nil))
		w.end()
	})
}

func baseOf(blocks vlog.Block) epoch.Base { return epoch.Base{Blocks: blocks} }

// must opens the volume, as it must be possible.
func (b *branch) must(node string) *life {
	l := b.open(node, true, 0)
	if l == nil {
		b.w.t.Fatalf("%s: does not open on %s: %s", b.name, node, strings.Join(b.w.log, "\n"))
	}
	return l
}

func (l *life) client() client { return client{l, l.b.w.rand} }

// fillJournal writes until the journal takes no more.
func (l *life) fillJournal() {
	for l.g.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(l.g.ctx, 10*time.Minute)
		n := l.b.w.writes.Add(1)
		p := make([]byte, vlog.BlockSize)
		stamp(p, 0, n)
		op := l.b.o.begin("write to a full journal", 0, vlog.BlockSize, n)
		err := l.v.WriteAt(ctx, p, 0)
		l.b.o.end(op, err)
		cancel()
		if err != nil {
			if !fault.Is(err, fault.Deadline) {
				l.b.w.failf("write: %v, want to wait", err)
			}
			return
		}
	}
}

// TestFullJournal (J6): a journal that is full in an outage has writers wait, and
// not fail; when the store is back it takes writes again.
func TestFullJournal(t *testing.T) {
	inWorld(t, class{durability: engine.JournalDurability}, func(w *world, b *branch) {
		l := b.must("node-a")
		l.g.away.Store(true)
		l.fillJournal()
		if s := l.v.State(); s.JournalUsed < s.JournalSize*3/4 || s.Backlog == 0 || s.StoreErr == nil || s.Err != nil {
			t.Errorf("full: %+v", s)
		}
		l.g.away.Store(false)
		l.writeSoon()
		l.do("sync", l.v.Sync)
		if s := l.v.State(); s.Backlog != 0 || !s.Oldest.IsZero() || s.StoreErr != nil {
			t.Errorf("when the store is back: %+v", s)
		}
	})
}

// TestFullJournalAfterDeath (J6): the process dies when all of a full journal
// counts, and before it gave anything back.
func TestFullJournalAfterDeath(t *testing.T) {
	inWorld(t, class{durability: engine.JournalDurability}, func(w *world, b *branch) {
		l := b.must("node-a")
		l.g.away.Store(true)
		l.fillJournal()
		l.g.slow.Store(true)
		l.g.away.Store(false)
		l.do("sync", l.v.Sync)
		l.die(false)
		b.must("node-a").writeSoon()
	})
}

// writeSoon writes, and fails if that is not possible within an hour.
func (l *life) writeSoon() {
	c := l.client()
	c.change("write soon", 0, vlog.BlockSize, 0, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Hour)
		defer cancel()
		return l.v.Zero(ctx, 0, vlog.BlockSize, false)
	})
}

// TestFencedWhileFull (F2, F7): who waits for room in the journal of a writer that
// was taken over from is told so, since there will be none.
func TestFencedWhileFull(t *testing.T) {
	inWorld(t, class{durability: engine.ObjectDurability}, func(w *world, b *branch) {
		l := b.must("node-a")
		l.g.away.Store(true)
		l.fenced.Store(true)
		waits := make(chan error)
		go func() {
			for {
				n := w.writes.Add(1)
				p := make([]byte, vlog.BlockSize)
				stamp(p, 0, n)
				op := b.o.begin("write until fenced", 0, vlog.BlockSize, n)
				err := l.v.WriteAt(l.g.ctx, p, 0)
				if b.o.end(op, err); err != nil {
					waits <- err
					return
				}
			}
		}()
		time.Sleep(24 * time.Hour)
		next := b.must("node-b")
		l.g.away.Store(false)
		if err := l.v.Sync(l.g.ctx); !fault.Is(err, fault.Fenced) {
			t.Errorf("sync: %v, want Fenced", err)
		}
		if err := <-waits; !fault.Is(err, fault.Fenced) {
			t.Errorf("write: %v, want Fenced", err)
		}
		l.retire()
		b.at = next
	})
}
