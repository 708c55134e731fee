package engine_test

import (
	"context"
	"maps"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestLostJournal (J8): a journal that is needed and gone, or another volume's, is
// refused; with leave to go back, the volume is as it counts, and says what it
// dropped.
func TestLostJournal(t *testing.T) {
	inWorld(t, class{durability: engine.JournalDurability}, func(w *world, b *branch) {
		l := b.must("node-a")
		l.client().write(0, vlog.BlockSize)
		l.do("sync", l.v.Sync)
		l.client().write(0, vlog.BlockSize)
		l.client().flush()
		l.die(false)
		d, foreign := b.disks["node-a"], w.branch(baseOf(begins), nil, nil)
		other := foreign.must("node-a")
		other.die(false)
		for name, change := range map[string]func(){
			"gone":             func() { _ = d.Remove("/journal") },
			"another volume's": func() { d.Put("/journal", foreign.disks["node-a"].Bytes("/journal")) },
		} {
			change()
			p := b.process("node-a")
			_, err := p.e.Open(p.g.ctx, p.options())
			if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "journal") {
				t.Errorf("a journal that is %s: %v, want Precondition", name, err)
			}
			p.retire()
		}
		_ = d.Remove("/journal")
		p := b.process("node-a")
		o := p.options()
		o.TakeOver, o.Rollback = true, true
		v, err := p.e.Open(p.g.ctx, o)
		if err != nil {
			t.Fatal(err)
		}
		p.v = v
		if dropped := v.State().Dropped; !strings.Contains(dropped, "node-a") {
			t.Errorf("dropped: %q", dropped)
		}
		s, err := everything(p.g.ctx, v, b.blocks)
		if err != nil {
			t.Fatal(err)
		}
		b.holders = map[string]bool{"node-a": false}
		b.found(p, s, b.o.counted)
	})
}

// TestLostObjects (O9, M1): blocks of a segment that somebody deleted are an error,
// naming it, and never zeros; the others are read. A page of the table likewise.
func TestLostObjects(t *testing.T) {
	inWorld(t, class{durability: engine.ObjectDurability}, func(w *world, b *branch) {
		l := b.must("node-a")
		var keys []string
		for _, c := range clusters[:3] {
			l.client().write(int64(c.first)*vlog.BlockSize, vlog.BlockSize)
			l.do("sync", l.v.Sync)
			page, err := w.memory.List(context.Background(), objstore.ListOptions{Prefix: vlog.Keys{Log: b.log}.Folder(vlog.SegmentKind)})
			if err != nil {
				t.Fatal(err)
			}
			keys = append(keys, page.Objects[len(page.Objects)-1].Key)
		}
		l.do("checkpoint", l.v.Checkpoint)
		id := volume.NewSnapshotID()
		l.snapshot(id)
		s := b.snapshots[0].Snapshot
		l.close()
		lose := func(key string, want int) {
			kept, err := w.memory.Get(context.Background(), key)
			if err != nil {
				t.Fatal(err)
			}
			_ = w.memory.Delete(context.Background(), key)
			e := w.engine()
			defer w.rest(e)
			v, err := e.View(context.Background(), engine.ViewOptions{LogOptions: engine.LogOptions{Store: w.memory, Log: b.log}, At: s.Head.Position})
			if err != nil {
				t.Fatal(err)
			}
			defer v.Close()
			failed := 0
			for _, c := range clusters[:3] {
				got, err := observe(context.Background(), v, int64(c.first)*vlog.BlockSize, vlog.BlockSize)
				switch {
				case err != nil && !strings.Contains(err.Error(), key):
					t.Errorf("%s is gone: block %d: %v: want it to be named", key, c.first, err)
				case err != nil:
					failed++
				case got[c.first] != b.snapshots[0].content[c.first]:
					t.Errorf("%s is gone: block %d: got %v", key, c.first, got)
				}
			}
			if failed != want {
				t.Errorf("%s is gone: %d of 3 blocks failed, want %d", key, failed, want)
			}
			_ = w.memory.Create(context.Background(), key, kept)
		}
		for _, key := range keys {
			lose(key, 1)
		}
		page, _ := w.memory.List(context.Background(), objstore.ListOptions{Prefix: vlog.Keys{Log: b.log}.Folder(vlog.TableKind)})
		for _, o := range page.Objects {
			lose(o.Key, 3)
		}
	})
}

// TestManySnapshots (S4): a chain of clones, in a soak a hundred, each of a snapshot of
// the one before;
// each is what that was.
func TestManySnapshots(t *testing.T) {
	depth := 12
	if soaks() {
		depth = 100
	}
	inWorld(t, class{durability: engine.JournalDurability}, func(w *world, b *branch) {
		for range depth {
			l := b.must("node-a")
			l.client().write(l.client().blocks(3))
			l.snapshot(volume.NewSnapshotID())
			l.close()
			s := b.snapshots[0]
			next := b.clone(s)
			o := next.must("node-b")
			if got, err := everything(o.g.ctx, o.v, next.blocks); err != nil || !maps.Equal(got, s.content) {
				t.Fatalf("clone of %s: %v, %v", s.ID, got, err)
			}
			o.close()
			b = next
		}
	})
}
