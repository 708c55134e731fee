package garbage

import (
	"context"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func want(t testing.TB, what string, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got %v, want %s", what, err, kind)
	}
}

const grace = time.Hour

var testLog = vlog.LogID{1, 2, 3}

func newCollector(s objstore.Store) *Collector {
	return &Collector{Log: epoch.Log{Store: s, ID: testLog}, Claims: claim.Claims{Store: s, Now: time.Now}, Grace: grace, Now: time.Now}
}

// writer is a writer whose volume has a few blocks. Each segment has one of them,
// so that the one with the same block before is dead.
type writer struct {
	*epoch.Reign
	store     objstore.Store
	codec     *frame.Codec
	opening   epoch.Opening
	head      vlog.Head
	blocks    map[vlog.Block]checkpoint.Object
	tables    []checkpoint.Object
	snapshots []checkpoint.Snapshot
	number    uint32
	nextTable vlog.Sequence
	base      *checkpoint.Checkpoint
	digest    vlog.Digest
}

// open opens the log for writing, on what its newest checkpoint and the segments
// behind it say. of tells which block a segment has.
func open(ctx context.Context, store objstore.Store, codec *frame.Codec, owner string, of map[string]vlog.Block) (*writer, error) {
	c := newCollector(store)
	o := epoch.OpenOptions{Owner: owner, Purpose: epoch.Writing, Promise: epoch.ObjectPromise, Start: c.start, Now: time.Now,
		Decide: func(context.Context, epoch.Survey) error { return nil }}
	r, opening, err := c.Log.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	w := &writer{Reign: r, store: store, codec: codec, opening: opening, head: opening.Head, blocks: map[vlog.Block]checkpoint.Object{}, nextTable: 1}
	if at := opening.Start.Position; at.Epoch > 0 {
		read, err := c.reader().At(ctx, at)
		if err != nil {
			return nil, err
		}
		w.snapshots = read.Snapshots
		for _, o := range read.Objects {
			w.number = max(w.number, o.Number+1)
			if o.Kind == vlog.SegmentKind {
				w.blocks[of[o.Key()]] = o
			}
		}
	}
	for _, run := range opening.Runs {
		for _, f := range run.Segments {
			w.place(of[f.Key()], f.Identity.Reign, f.Sequence, f.SizeBytes)
		}
	}
	return w, nil
}

func (w *writer) place(b vlog.Block, r frame.Reign, s vlog.Sequence, size int64) {
	w.blocks[b] = checkpoint.Object{Number: w.number, Kind: vlog.SegmentKind, Reign: checkpoint.Reign{Reign: r}, Sequence: s, SizeBytes: size}
	w.number++
}

// form forms the segment of a slot.
func (w *writer) form(s vlog.Sequence, b vlog.Block, before vlog.Chain) segment.Finished {
	cipher, err := w.codec.Cipher(vlog.SegmentKind, w.Claim.Reign, nil)
	if err != nil {
		panic(err)
	}
	x, err := segment.NewWriter(cipher, segment.Info{Identity: segment.Identity{Sequence: s}, Blocks: 1 << 20, Previous: before}, nil)
	if err == nil {
		err = x.Zero(segment.Zeros, b, 1)
	}
	if err != nil {
		panic(err)
	}
	return x.Finish()
}

func (w *writer) write(ctx context.Context, b vlog.Block, of map[string]vlog.Block) error {
	f := w.form(w.head.Sequence+1, b, w.head.Chain)
	of[f.Key()] = b
	if err := w.Put(ctx, f.Sequence, f.Object); err != nil {
		return err
	}
	w.head = vlog.Head{Position: f.Position(), Chain: f.Chain}
	w.place(b, w.Claim.Reign, f.Sequence, int64(len(f.Object)))
	return nil
}

// checkpoint publishes a checkpoint with a table of its own, whole or adding to
// the one that stood alone last.
func (w *writer) checkpoint(ctx context.Context, whole bool) (*checkpoint.Checkpoint, error) {
	table := checkpoint.Object{Number: w.number, Kind: vlog.TableKind, Reign: checkpoint.Reign{Reign: w.Claim.Reign}, Sequence: w.nextTable, SizeBytes: 5}
	w.number, w.nextTable = w.number+1, w.nextTable+1
	if err := w.store.Create(ctx, table.Key(), []byte("table")); err != nil && !fault.Is(err, fault.Exists) {
		return nil, err
	}
	c := &checkpoint.Checkpoint{Reign: w.Claim.Reign, Sequence: w.head.Sequence, Chain: w.head.Chain, Blocks: 1 << 20, NextTable: w.nextTable, Time: time.Now().UTC(), Snapshots: slices.Clone(w.snapshots)}
	c.Objects = append(c.Objects, table)
	for _, o := range w.blocks {
		c.Objects = append(c.Objects, o)
	}
	slices.SortFunc(c.Objects, func(a, b checkpoint.Object) int { return int(a.Number) - int(b.Number) })
	c.Live = make([]uint32, len(c.Objects))
	for i := range c.Live {
		c.Live[i] = 1
	}
	cipher, err := w.codec.Cipher(vlog.CheckpointKind, w.Claim.Reign, nil)
	if err != nil {
		return nil, err
	}
	if whole {
		w.base = nil
	}
	e, err := checkpoint.Encode(c, cipher, w.base, w.digest)
	if err != nil {
		return nil, err
	}
	if err := checkpoint.Publish(ctx, w.store, e); err != nil {
		return nil, err
	}
	if w.base == nil {
		w.base, w.digest = c, e.Digest
	}
	return c, nil
}

// snapshot seals a snapshot in a segment of its own, and has a checkpoint there.
func (w *writer) snapshot(ctx context.Context, of map[string]vlog.Block) (checkpoint.Snapshot, error) {
	if err := w.write(ctx, 0, of); err != nil {
		return checkpoint.Snapshot{}, err
	}
	s := checkpoint.Snapshot{ID: volume.NewSnapshotID(), Position: w.head.Position, Blocks: 1 << 20}
	w.snapshots = append(w.snapshots, s)
	if _, err := w.checkpoint(ctx, false); err != nil {
		return checkpoint.Snapshot{}, err
	}
	return s, w.Latest(ctx) // it is complete only if nobody had begun to collect
}

// names returns what is stored of some kinds, without their folders.
func names(t testing.TB, s objstore.Store, kinds ...vlog.Kind) (all []string) {
	t.Helper()
	for _, kind := range kinds {
		prefix := vlog.Keys{Log: testLog}.Folder(kind)
		must(t, list(context.Background(), s, prefix, "", func(o objstore.Object) error {
			all = append(all, kind.String()[:1]+o.Key[len(prefix):])
			return nil
		}))
	}
	return all
}
