package garbage

import (
	"context"
	"slices"
	"sync"
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

// contents tells which block a segment has.
type contents struct {
	mu sync.Mutex
	of map[string]vlog.Block
}

func (c *contents) block(key string) vlog.Block {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.of[key]
}

func (c *contents) set(key string, b vlog.Block) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.of[key] = b
}

// writer is a writer whose volume has a few blocks. Each segment has one of them,
// so that the one with the same block before is dead.
type writer struct {
	*epoch.Reign
	store     objstore.Store
	codec     *frame.Codec
	key       *frame.DataKey
	head      vlog.Head
	of        *contents
	blocks    map[vlog.Block]checkpoint.Object
	snapshots []checkpoint.Snapshot
	number    uint32
	nextTable vlog.Sequence

	table    vlog.Position     // of the last checkpoint that is known to be published
	page     checkpoint.Object // and its table
	standing *checkpoint.Checkpoint
	digest   vlog.Digest // of standing, which stood alone last
}

// open opens the log for writing, on what its newest checkpoint and the segments
// behind it say. It pauses once it has read which that is.
func open(ctx context.Context, store objstore.Store, codec *frame.Codec, owner string, of *contents, pause func()) (*writer, error) {
	c := newCollector(store)
	start := func(ctx context.Context) (epoch.Start, error) {
		s, err := c.start(ctx)
		pause()
		return s, err
	}
	o := epoch.OpenOptions{Owner: owner, Purpose: epoch.Writing, Promise: epoch.ObjectPromise, Start: start, Now: time.Now,
		Decide: func(context.Context, epoch.Survey) error { return nil }}
	r, opening, err := c.Log.Open(ctx, o)
	if err != nil {
		return nil, err
	}
	w := &writer{Reign: r, store: store, codec: codec, head: opening.Head, of: of, blocks: map[vlog.Block]checkpoint.Object{}, nextTable: 1}
	if at := opening.Start.Position; at.Epoch > 0 {
		read, err := c.reader().At(ctx, at)
		if err != nil {
			if e := r.Latest(ctx); e != nil { // its successor may have deleted it
				return nil, e
			}
			return nil, err
		}
		w.snapshots = read.Snapshots
		for _, o := range read.Objects {
			w.number = max(w.number, o.Number+1)
			if o.Kind == vlog.SegmentKind {
				w.blocks[of.block(o.Key())] = o
			} else {
				w.page = o
			}
		}
	}
	for _, run := range opening.Runs {
		for _, f := range run.Segments {
			w.place(of.block(f.Key()), f.Identity.Reign, f.Sequence, f.SizeBytes)
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
	cipher, err := w.codec.Cipher(vlog.SegmentKind, w.Claim.Reign, w.key)
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

// write stores a segment with a block. It may be called again.
func (w *writer) write(ctx context.Context, b vlog.Block) error {
	f := w.form(w.head.Sequence+1, b, w.head.Chain)
	w.of.set(f.Key(), b)
	if err := w.Put(ctx, f.Sequence, f.Object); err != nil {
		return err
	}
	w.head = vlog.Head{Position: f.Position(), Chain: f.Chain}
	w.place(b, w.Claim.Reign, f.Sequence, int64(len(f.Object)))
	return nil
}

// prepared is a checkpoint that is ready to be published.
type prepared struct {
	*checkpoint.Checkpoint
	checkpoint.Encoded
	page  checkpoint.Object
	whole bool
}

// prepare stores a table and forms a checkpoint of the head, which stands alone
// or adds to the one that did last.
func (w *writer) prepare(ctx context.Context, whole bool) (prepared, error) {
	page := checkpoint.Object{Number: w.number, Kind: vlog.TableKind, Reign: checkpoint.Reign{Reign: w.Claim.Reign}, Sequence: w.nextTable, SizeBytes: 5}
	w.number, w.nextTable = w.number+1, w.nextTable+1
	if err := w.store.Create(ctx, page.Key(), []byte("table")); err != nil && !fault.Is(err, fault.Exists) {
		return prepared{}, err
	}
	c := &checkpoint.Checkpoint{Reign: w.Claim.Reign, Sequence: w.head.Sequence, Chain: w.head.Chain, Blocks: 1 << 20, NextTable: w.nextTable, Time: time.Now().UTC(), Snapshots: slices.Clone(w.snapshots)}
	c.Objects = append(c.Objects, page)
	for _, o := range w.blocks {
		c.Objects = append(c.Objects, o)
	}
	slices.SortFunc(c.Objects, func(a, b checkpoint.Object) int { return int(a.Number) - int(b.Number) })
	c.Live = make([]uint32, len(c.Objects))
	for i := range c.Live {
		c.Live[i] = 1
	}
	cipher, err := w.codec.Cipher(vlog.CheckpointKind, w.Claim.Reign, w.key)
	if err != nil {
		return prepared{}, err
	}
	if whole {
		w.standing = nil // until this one is known to be published
	}
	to := w.standing
	c.KeyID = cipher.KeyID()
	e, err := checkpoint.Encode(c, cipher, to, w.digest)
	return prepared{c, e, page, to == nil}, err
}

// publish publishes a checkpoint. It may be called again.
func (w *writer) publish(ctx context.Context, p prepared) error {
	if err := checkpoint.Publish(ctx, w.store, p.Encoded); err != nil {
		return err
	}
	if w.table, w.page = p.Position(), p.page; p.whole {
		w.standing, w.digest = p.Checkpoint, p.Digest
	}
	return nil
}

// seal stores a segment that seals a snapshot. It may be called again; what it
// returns is complete once it has a checkpoint at its position, and no later epoch
// was seen then.
func (w *writer) seal(ctx context.Context, id volume.SnapshotID) (checkpoint.Snapshot, error) {
	if err := w.write(ctx, 0); err != nil {
		return checkpoint.Snapshot{}, err
	}
	s := checkpoint.Snapshot{ID: id, Position: w.head.Position, Blocks: 1 << 20}
	w.snapshots = append(w.snapshots, s)
	return s, nil
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
