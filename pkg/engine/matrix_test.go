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
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
)

// inWorld plays a history that is written down.
func inWorld(t *testing.T, c class, play func(w *world, b *branch)) {
	t.Helper()
	seed := rand.Uint64()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t, t.Name(), rand.NewPCG(seed, 0), c)
		play(w, w.branch(epoch.Base{Blocks: begins}, nil, nil))
		w.end()
	})
}

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
		w.faults.Follow(func(faults.Request) faults.Fault { return faults.Fault{Before: faults.ErrDown} })
		l.fillJournal()
		if s := l.v.State(); s.JournalUsed < s.JournalSize*3/4 || s.Backlog == 0 || s.StoreErr == nil || s.Err != nil {
			t.Errorf("full: %+v", s)
		}
		w.faults.Follow(nil)
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
		l.v.Tune(engine.Tuning{UploadDelay: 1000 * time.Hour})
		l.fillJournal()
		w.faults.Follow(func(r faults.Request) faults.Fault {
			if strings.Contains(r.Key, "/segments/") {
				l.g.kill()
			}
			return faults.Fault{}
		})
		_ = l.v.Sync(l.g.ctx)
		l.die(false)
		w.faults.Follow(nil)
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
