package garbage

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/volume"
)

// bench is a log with a writer.
type bench struct {
	*testing.T
	m     *memory.Store
	codec *frame.Codec
	of    *contents
	w     *writer
	c     *Collector
}

func setUp(t *testing.T) *bench {
	codec, err := frame.NewCodec(1)
	must(t, err)
	b := &bench{T: t, m: memory.New(), codec: codec, of: &contents{of: map[string]vlog.Block{}}}
	b.c = newCollector(b.m)
	must(t, b.c.Log.Create(t.Context(), epoch.Base{Blocks: 1 << 20}))
	b.open()
	return b
}

func (b *bench) open() {
	b.Helper()
	w, err := open(b.Context(), b.m, b.codec, "node", b.of, func() {})
	must(b, err)
	b.w = w
}

func (b *bench) write(blocks ...vlog.Block) {
	b.Helper()
	for _, block := range blocks {
		must(b, b.w.write(b.Context(), block))
	}
}

func (b *bench) checkpoint(whole bool) {
	b.Helper()
	p, err := b.w.prepare(b.Context(), whole)
	must(b, err)
	must(b, b.w.publish(b.Context(), p))
}

func (b *bench) snapshot() checkpoint.Snapshot {
	b.Helper()
	s, err := b.w.seal(b.Context(), volume.NewSnapshotID())
	must(b, err)
	b.checkpoint(false)
	return s
}

func (b *bench) collect() Plan {
	b.Helper()
	p, err := b.c.AsWriter(b.Context(), b.w.Reign, b.w.table)
	must(b, err)
	return p
}

func (b *bench) has(what string, want ...string) {
	b.Helper()
	if got := names(b, b.m, vlog.SegmentKind, vlog.TableKind, vlog.CheckpointKind); !slices.Equal(got, want) {
		b.Errorf("%s: got\n%q, want\n%q", what, got, want)
	}
}

func in(t *testing.T, do func(b *bench)) {
	synctest.Test(t, func(t *testing.T) {
		b := setUp(t)
		defer b.codec.Close()
		do(b)
	})
}

// TestWriterCollects: what no longer lives goes once the checkpoint that says so
// is old enough, what no checkpoint listed too, and checkpoints that others add to
// stay.
func TestWriterCollects(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1, 2, 2)
		b.checkpoint(true)
		b.write(1, 3, 3)
		b.checkpoint(false)
		if p := b.collect(); !p.Empty() || p.AsOf != (vlog.Position{}) {
			t.Errorf("nothing is old: %+v", p)
		}
		time.Sleep(grace)
		b.write(2)
		if p := b.collect(); p.AsOf != (vlog.Position{Epoch: 1, Sequence: 6}) {
			t.Errorf("as of %s", p.AsOf)
		}
		b.has("as of 6",
			"s0000000001-000000000003", "s0000000001-000000000004", "s0000000001-000000000006", "s0000000001-000000000007",
			"t0000000001-000000000002",
			"c0000000001-000000000003", "c0000000001-000000000006")
		b.checkpoint(true)
		time.Sleep(grace)
		b.collect()
		b.has("as of 7",
			"s0000000001-000000000004", "s0000000001-000000000006", "s0000000001-000000000007",
			"t0000000001-000000000003", "c0000000001-000000000007")
		if p := b.collect(); !p.Empty() {
			t.Errorf("again: %+v", p)
		}
		if got := names(t, b.m, vlog.SweptKind); !slices.Equal(got, []string{"s0000000001-000000000007"}) {
			t.Errorf("swept: %q", got)
		}
	})
}

// TestSnapshotAndClaimPin: what they need stays until they are let go.
func TestSnapshotAndClaimPin(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1, 2)
		s := b.snapshot() // 3
		b.write(1, 0)     // 4, 5
		b.checkpoint(true)
		replica := claim.Claim{Subject: claim.Subject(testLog.String()), Dependent: "r-a", Nonce: vlog.Nonce{1}, From: b.w.head.Position}
		must(t, b.c.Claims.Take(b.Context(), replica, b.newest(vlog.Position{Epoch: 1, Sequence: 5})))
		b.write(2, 2)
		b.checkpoint(true)
		time.Sleep(grace)
		b.collect()
		pinned := []string{"s0000000001-000000000001", "s0000000001-000000000002", "s0000000001-000000000003", "s0000000001-000000000004", "s0000000001-000000000005", "s0000000001-000000000006", "s0000000001-000000000007",
			"t0000000001-000000000001", "t0000000001-000000000002", "t0000000001-000000000003",
			"c0000000001-000000000003", "c0000000001-000000000005", "c0000000001-000000000007"}
		b.has("claimed from 5", pinned...)
		must(t, b.c.Claims.Release(b.Context(), replica))
		b.collect()
		b.has("pinned by the snapshot", "s0000000001-000000000001", "s0000000001-000000000002", "s0000000001-000000000003", "s0000000001-000000000004", "s0000000001-000000000005", "s0000000001-000000000007",
			"t0000000001-000000000001", "t0000000001-000000000003", "c0000000001-000000000003", "c0000000001-000000000007")
		subject := claim.Subject(s.ID)
		clone := claim.Claim{Subject: subject, Dependent: "l-a", Nonce: vlog.Nonce{2}}
		must(t, b.c.Claims.Take(b.Context(), clone, func(context.Context) error { return nil }))
		d, err := b.c.Claims.Trash(b.Context(), subject, "")
		must(t, err)
		must(t, b.c.Claims.Condemn(b.Context(), d, 0))
		if p := b.collect(); !p.Empty() {
			t.Errorf("condemned but claimed: %+v", p)
		}
		must(t, b.c.Claims.Release(b.Context(), clone))
		b.collect()
		b.has("let go", "s0000000001-000000000004", "s0000000001-000000000005", "s0000000001-000000000007", "t0000000001-000000000003", "c0000000001-000000000007")
		old := replica
		old.Nonce[0]++
		want(t, "a claim from what is no longer the newest", b.c.Claims.Take(b.Context(), old, b.newest(old.From)), fault.NotFound)
	})
}

// newest is what a claim from a position looks for.
func (b *bench) newest(at vlog.Position) func(context.Context) error {
	return func(ctx context.Context) error { return Newest(ctx, b.m, testLog, at) }
}

// close closes the writer's epoch.
func (b *bench) close() {
	b.Helper()
	must(b, b.w.Close(b.Context(), b.w.head))
}

// TestAlone: without a writer, whoever collects takes an epoch, finds what was
// stored beyond a close, and leaves the log closed and its markers in place.
func TestAlone(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1, 1)
		b.checkpoint(true)
		b.write(2)
		late := b.w.form(5, 7, vlog.Chain{}) // a straggler: slot 4 never came
		must(t, b.m.Create(b.Context(), late.Key(), late.Object))
		time.Sleep(grace)
		want(t, "a writer may be there", second(b.c.Alone(b.Context(), AloneOptions{Owner: "worker"})), fault.InUse)
		p, err := b.c.Alone(b.Context(), AloneOptions{Owner: "worker", WriterGone: true})
		must(t, err)
		if p.AsOf != (vlog.Position{Epoch: 1, Sequence: 2}) {
			t.Errorf("%+v", p)
		}
		b.has("orphans are too young", "s0000000001-000000000002", "s0000000001-000000000003", "s0000000001-000000000004", "s0000000001-000000000005", "s0000000002-000000000001", "t0000000001-000000000001", "c0000000001-000000000002")
		want(t, "the writer", b.w.write(b.Context(), 3), fault.Fenced)
		p, err = b.c.Alone(b.Context(), AloneOptions{Owner: "worker"})
		if err != nil || !p.Empty() {
			t.Errorf("%+v, %v, want nothing", p, err)
		}
		time.Sleep(grace)
		_, err = b.c.Alone(b.Context(), AloneOptions{Owner: "worker"})
		must(t, err)
		b.has("orphans", "s0000000001-000000000002", "s0000000001-000000000003", "s0000000001-000000000004", "s0000000002-000000000001", "s0000000003-000000000001", "t0000000001-000000000001", "c0000000001-000000000002")
		b.open()
		if len(b.w.blocks) != 2 {
			t.Errorf("opened with %v", b.w.blocks)
		}
	})
}

func second[T any](_ T, err error) error { return err }

// TestUnsettled: a journal that may have more than the log keeps collectors off,
// but not from a log that was let go.
func TestUnsettled(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1, 1)
		b.checkpoint(true)
		b.close()
		o := epoch.OpenOptions{Owner: "node", Purpose: epoch.Writing, Promise: epoch.JournalPromise, Start: b.c.start, Now: time.Now,
			Decide: func(context.Context, epoch.Survey) error { return nil }}
		_, _, err := b.c.Log.Open(b.Context(), o)
		must(t, err)
		time.Sleep(grace)
		alone := AloneOptions{Owner: "worker", WriterGone: true}
		want(t, "unsettled", second(b.c.Alone(b.Context(), alone)), fault.Precondition)
		b.condemn(claim.Subject(testLog.String()))
		_, err = b.c.Alone(b.Context(), alone)
		must(t, err)
	})
}

func (b *bench) condemn(s claim.Subject) {
	b.Helper()
	d, err := b.c.Claims.Trash(b.Context(), s, "")
	must(b, err)
	must(b, b.c.Claims.Condemn(b.Context(), d, 0))
}

// TestEnded: a log that was let go loses all but what its snapshots need, then
// all but its claims and markers.
func TestEnded(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1)
		s := b.snapshot() // 2
		b.write(1)
		b.checkpoint(false)
		b.close()
		b.condemn(claim.Subject(testLog.String()))
		alone := AloneOptions{Owner: "worker"}
		_, err := b.c.Alone(b.Context(), alone)
		must(t, err)
		b.has("all but the snapshot", "s0000000001-000000000001", "s0000000001-000000000002", "s0000000001-000000000004", "s0000000002-000000000001",
			"t0000000001-000000000001", "c0000000001-000000000002", "c0000000001-000000000003")
		b.condemn(claim.Subject(s.ID))
		_, err = b.c.Alone(b.Context(), alone)
		must(t, err)
		b.has("all", "s0000000001-000000000004", "s0000000002-000000000001")
		if p, err := b.c.Alone(b.Context(), alone); err != nil || !p.Empty() {
			t.Errorf("%+v, %v, want nothing", p, err)
		}
	})
}

// TestLateCheckpoints: one whose base is gone, and one of a writer that slept, go
// with what they list, and do not stop a collection.
func TestLateCheckpoints(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1)
		b.checkpoint(true)
		b.write(1)
		b.checkpoint(false)
		k := vlog.Keys{Log: testLog}
		adding := k.Checkpoint(b.w.head.Position)
		late, err := b.m.Get(b.Context(), adding)
		must(t, err)
		b.write(1)
		b.checkpoint(true)
		time.Sleep(grace)
		b.collect()
		one := []string{"s0000000001-000000000003", "t0000000001-000000000003", "c0000000001-000000000003"}
		b.has("one", one...)
		must(t, b.m.Create(b.Context(), adding, late))
		b.collect()
		b.has("one, again", one...)

		asleep := b.w
		b.open()
		b.write(1)
		b.checkpoint(true)
		time.Sleep(grace)
		b.collect()
		b.write(1)
		b.checkpoint(true)
		time.Sleep(grace)
		b.collect()
		two := []string{"s0000000001-000000000004", "s0000000002-000000000002", "t0000000002-000000000002", "c0000000002-000000000002"}
		b.has("two", two...)
		for range 2 { // a table without a checkpoint, and then one with
			_, err = asleep.prepare(b.Context(), true)
			must(t, err)
		}
		p, err := asleep.prepare(b.Context(), true)
		must(t, err)
		must(t, asleep.publish(b.Context(), p))
		b.collect()
		b.has("two, again", two...)
	})
}

// TestMissingPinIsCorrupt: a snapshot without its checkpoint stops everything.
func TestMissingPinIsCorrupt(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1)
		s := b.snapshot()
		b.write(1, 1)
		b.checkpoint(true)
		time.Sleep(grace)
		must(t, b.m.Delete(b.Context(), vlog.Keys{Log: testLog}.Checkpoint(s.Position)))
		before := names(t, b.m, vlog.SegmentKind)
		want(t, "collect", second(b.c.AsWriter(b.Context(), b.w.Reign, b.w.table)), fault.Corrupt)
		if after := names(t, b.m, vlog.SegmentKind); !slices.Equal(before, after) {
			t.Errorf("%q is left of %q", after, before)
		}
		b.condemn(claim.Subject(s.ID))
		b.collect()
	})
}

// TestFencedWriterDeletesNothing: the look comes before the deletion, and what the
// site is told can stop it.
func TestFencedWriterDeletesNothing(t *testing.T) {
	in(t, func(b *bench) {
		b.write(1, 1)
		b.checkpoint(true)
		time.Sleep(grace)
		before := names(t, b.m, vlog.SegmentKind, vlog.TableKind)
		b.c.Deleting = func(keys []string) error {
			return fault.New(fault.Precondition, "stopped at %d keys", len(keys))
		}
		want(t, "collect", second(b.c.AsWriter(b.Context(), b.w.Reign, b.w.table)), fault.Precondition)
		p, err := b.c.Plan(b.Context())
		if err != nil || len(p.Objects) != 1 {
			t.Errorf("plan %+v, %v, want one object", p, err)
		}
		b.c.Deleting = nil
		old := b.w
		b.open()
		want(t, "collect", second(b.c.AsWriter(b.Context(), old.Reign, old.table)), fault.Fenced)
		after := names(t, b.m, vlog.SegmentKind, vlog.TableKind)
		if len(after) != len(before)+1 { // the marker
			t.Errorf("%q is left of %q", after, before)
		}
		want(t, "a log that is not there", second((&Collector{Log: epoch.Log{Store: b.m}, Claims: b.c.Claims, Now: time.Now}).Alone(b.Context(), AloneOptions{Owner: "worker"})), fault.NotFound)
	})
}

// TestCollectsWithoutKey: an encrypted log is collected by those who cannot read it.
func TestCollectsWithoutKey(t *testing.T) {
	in(t, func(b *bench) {
		key, err := frame.NewDataKey(bytes.Repeat([]byte{9}, 32))
		must(t, err)
		b.w.key = key
		b.write(1, 1)
		b.checkpoint(true)
		time.Sleep(grace)
		p, err := b.c.Alone(b.Context(), AloneOptions{Owner: "worker", WriterGone: true})
		if err != nil || len(p.Objects) != 1 {
			t.Errorf("%+v, %v, want one object", p, err)
		}
	})
}
