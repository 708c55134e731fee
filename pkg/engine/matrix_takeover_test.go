package engine_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// holds has creations of keys that contain a part wait, until release is called.
func (g *gate) holds(part string) (release func()) {
	until := make(chan struct{})
	hold := func(key string) <-chan struct{} {
		if strings.Contains(key, part) {
			return until
		}
		return nil
	}
	g.hold.Store(&hold)
	return func() { close(until) }
}

// TestLease (F2, F7): a writer that the store cannot be reached from acknowledges
// nothing when another node has taken over, though nobody told it.
func TestLease(t *testing.T) {
	inWorld(t, class{durability: engine.JournalDurability, rollback: true}, func(w *world, b *branch) {
		l := b.must("node-a")
		l.g.away.Store(true)
		l.fenced.Store(true)
		next := b.must("node-b")
		ctx, cancel := context.WithTimeout(l.g.ctx, time.Hour)
		defer cancel()
		for name, do := range map[string]func() error{
			"write":   func() error { return l.v.WriteAt(ctx, make([]byte, vlog.BlockSize), 0) },
			"discard": func() error { return l.v.Zero(ctx, 0, 1<<30, true) },
			"flush":   func() error { return l.v.Flush(ctx) },
			"cut":     func() error { return l.v.Cut(ctx, volume.NewSnapshotID()) },
		} {
			if err := do(); !fault.Is(err, fault.Deadline) {
				t.Errorf("%s: %v, want Deadline", name, err)
			}
		}
		l.retire()
		b.at = next
	})
}

// TestSnapshotBesideSuccessor (F5, S1): a snapshot whose checkpoint comes after
// another node took over is not complete: that node does not know it.
func TestSnapshotBesideSuccessor(t *testing.T) {
	inWorld(t, class{durability: engine.ObjectDurability}, func(w *world, b *branch) {
		l := b.must("node-a")
		l.client().write(0, vlog.BlockSize)
		l.do("sync", l.v.Sync)
		release := l.g.holds("/checkpoints/")
		l.fenced.Store(true)
		got := make(chan error)
		go func() {
			_, err := l.v.Snapshot(l.g.ctx, volume.NewSnapshotID())
			got <- err
		}()
		time.Sleep(time.Minute) // by now its checkpoint is held up
		next := b.must("node-b")
		release()
		if err := <-got; !fault.Is(err, fault.Fenced) {
			t.Errorf("snapshot: %v, want Fenced", err)
		}
		l.retire()
		b.at = next
	})
}

// TestGap (O4): nothing is acknowledged of a segment that is stored while one
// before it is not.
func TestGap(t *testing.T) {
	inWorld(t, class{durability: engine.ObjectDurability}, func(w *world, b *branch) {
		l := b.must("node-a")
		release := l.g.holds("-000000000001")
		done := make(chan error)
		for i := range int64(2) {
			c := l.client()
			c.write(i*vlog.BlockSize, vlog.BlockSize)
			go func() { done <- l.v.Flush(l.g.ctx) }()
			time.Sleep(time.Minute)
		}
		if n := w.objects(vlog.Keys{Log: b.log}.Folder(vlog.SegmentKind)); n != 1 {
			t.Errorf("%d segments are stored, want the second", n)
		}
		select {
		case err := <-done:
			t.Errorf("a flush returned: %v", err)
		default:
		}
		release()
		for range 2 {
			if err := <-done; err != nil {
				t.Error(err)
			}
		}
	})
}
