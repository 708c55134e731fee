package journal

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	testPath     = "/journal"
	testVolume   = volume.ID("v-aaaaaaaaaaaaaaaaaaaaaaaaaa")
	testSnapshot = volume.SnapshotID("s-aaaaaaaaaaaaaaaaaaaaaaaaaa")
)

var (
	testLog = vlog.LogID{1, 2, 3}
	ctx     = context.Background()
	soak    = os.Getenv("HOLKAS_SOAK") == "1"
)

func testOptions(d disk.Storage) Options {
	return Options{Path: testPath, Volume: testVolume, Log: testLog, Size: MinSize, Storage: d}
}

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func mustBe(t tb, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v, want %s", err, kind)
	}
}

// filled returns a disk with an empty journal whose tail is at a position and
// whose ring needs no filling, so that every step is the test's own.
func filled(at vlog.LSN) *simdisk.Disk { return prepared(at, MinSize) }

// prepared is filled with so many bytes of the ring filled.
func prepared(at vlog.LSN, bytes int64) *simdisk.Disk {
	b := make([]byte, superblocks+MinSize)
	superblock{
		generation: 1, volume: testVolume, log: testLog, incarnation: 77, size: MinSize,
		tail: cursor{at: at, run: 5}, durable: at, filled: bytes,
	}.put(b[block:superblocks])
	d := &simdisk.Disk{}
	d.Put(testPath, b)
	return d
}

// world is a journal, and what ought to be in it.
type world struct {
	d     *simdisk.Disk
	j     *Journal
	epoch vlog.Epoch
	next  uint64 // id of the next batch

	batches []batchOf // submitted, in order, none of them cut
	tail    int       // how many of them were given back
	asked   int       // how many would be, if the last Recycle took effect
	acked   int       // appended
	flushed int
}

type batchOf struct {
	id      uint64
	changes []Change
	seal    bool
	end     vlog.LSN
}

// reopen opens the journal after a death, checks it, and begins an epoch.
func (w *world) reopen(t tb, lostPower bool) error {
	t.Helper()
	j, err := Open(ctx, testOptions(w.d))
	if err != nil {
		return err
	}
	w.j = j
	got, first := w.check(t, lostPower)
	w.epoch++
	for w.epoch <= j.State().Epoch {
		w.epoch++
	}
	if err := j.Begin(ctx, w.epoch); err != nil {
		return err
	}
	w.batches = append(w.batches[:first:first], got...)
	w.tail, w.asked = first, first
	w.flushed, w.acked = len(w.batches), len(w.batches)
	return nil
}

// check compares what the journal holds with what it ought to hold, and returns
// it, and how many batches were given back before it. What is missing is cut only
// once an epoch has begun.
func (w *world) check(t tb, lostPower bool) ([]batchOf, int) {
	t.Helper()
	least := w.flushed
	if !lostPower {
		least = w.acked
	}
	got := w.contents(t)
	first, ok := w.tail, false
	for _, first = range []int{w.tail, w.asked} {
		if ok = startsWith(w.batches[first:], got) && first+len(got) >= least; ok {
			break
		}
	}
	if !ok {
		t.Fatalf("recovered %s, want a beginning of %s (or from its %d. on) with at least %d", ids(got), ids(w.batches[w.tail:]), w.asked-w.tail, least-w.tail)
	}
	w.acked = first + len(got)
	return got, first
}

func startsWith(all, got []batchOf) bool {
	for i, g := range got {
		if i >= len(all) || all[i].id != g.id {
			return false
		}
	}
	return true
}

func ids(batches []batchOf) string {
	s := "["
	for _, b := range batches {
		s += fmt.Sprint(" ", b.id)
	}
	return s + " ]"
}

// contents reads the journal's batches and verifies each byte of them.
func (w *world) contents(t tb) (got []batchOf) {
	t.Helper()
	s := w.j.State()
	for r, err := range w.j.Records(ctx, s.Tail, s.End) {
		must(t, err)
		if r.Seal != nil {
			got = append(got, batchOf{id: uint64(r.Seal.Blocks), seal: true, end: r.End})
		}
		for _, c := range r.Changes {
			id := uint64(c.First) / 1000
			if len(got) == 0 || got[len(got)-1].id != id {
				got = append(got, batchOf{id: id})
			}
			b := &got[len(got)-1]
			b.end = r.End
			want := w.change(id, len(b.changes), c.Kind, c.Count)
			if c.First != want.First || !bytes.Equal(c.Data, want.Data) {
				t.Fatalf("batch %d, change %d: got block %d, want %d, or other data", id, len(b.changes), c.First, want.First)
			}
			if c.Kind == Data {
				p := disk.Buffer(len(c.Data))
				must(t, w.j.Read(ctx, c.At, p))
				if !bytes.Equal(p, want.Data) {
					t.Fatalf("batch %d, change %d: read other data", id, len(b.changes))
				}
			}
			b.changes = append(b.changes, Change{Kind: c.Kind, First: c.First, Count: c.Count, At: c.At})
		}
	}
	return got
}

// change makes the i-th change of a batch: its blocks tell where they belong.
func (w *world) change(id uint64, i int, kind Kind, count uint64) Change {
	c := Change{Kind: kind, First: vlog.Block(id*1000 + uint64(i)*10), Count: count}
	if kind == Data {
		c.Data = make([]byte, count*block)
		for k := range c.Data {
			c.Data[k] = byte(uint64(k)*7 + id*31 + uint64(i)*3 + uint64(k)>>9)
		}
		le.PutUint64(c.Data, id)
	}
	return c
}

// append appends a batch of changes with so many blocks of data each, 0 for a
// range; none at all for a seal.
func (w *world) append(t tb, counts ...int) error {
	t.Helper()
	b := w.submit(counts)
	if err := w.j.Append(ctx, b); err != nil {
		return err
	}
	w.batches[len(w.batches)-1].end = b.End
	w.acked = len(w.batches)
	return nil
}

// appendGroup appends batches that were queued while another append was written.
func (w *world) appendGroup(t tb, groups ...[]int) error {
	t.Helper()
	var group []*request
	for _, counts := range groups {
		b := w.submit(counts)
		r := &request{batch: b, need: (1 + b.blocks()) * block, wake: make(chan struct{}, 2)}
		must(t, b.validate(w.j.ring.maxBlocks()))
		if err := w.j.admit(ctx, r.need); err != nil {
			return err
		}
		group = append(group, r)
	}
	w.j.mu.Lock()
	w.j.queue, w.j.leading = append(w.j.queue, group...), true
	w.j.mu.Unlock()
	var failed error
	for i, r := range group {
		if !r.done {
			w.j.lead()
		}
		if failed = cmp.Or(failed, r.err); failed != nil {
			continue
		}
		w.batches[len(w.batches)-len(group)+i].end = r.batch.End
		w.acked = len(w.batches) - len(group) + i + 1
	}
	return failed
}

// submit makes a batch that is going to be appended.
func (w *world) submit(counts []int) *Batch {
	w.next++
	b := &Batch{}
	if len(counts) == 0 {
		b.Seal = &Seal{Snapshot: testSnapshot, Blocks: vlog.Block(w.next)}
	}
	for i, n := range counts {
		if n == 0 {
			b.Changes = append(b.Changes, w.change(w.next, i, Discarded, 5))
		} else {
			b.Changes = append(b.Changes, w.change(w.next, i, Data, uint64(n)))
		}
	}
	w.batches = append(w.batches, batchOf{id: w.next, changes: b.Changes, seal: b.Seal != nil})
	return b
}

func (w *world) flush() error {
	n := w.acked
	if err := w.j.Flush(ctx); err != nil {
		return err
	}
	w.flushed = n
	return nil
}

// recycle flushes, and gives back all but the last keep batches.
func (w *world) recycle(keep int) error {
	if err := w.flush(); err != nil {
		return err
	}
	n := len(w.batches) - keep
	if n <= w.tail {
		return nil
	}
	for n < len(w.batches) && w.batches[n].end == w.batches[n-1].end {
		n++ // in the same record
	}
	w.asked = n
	if err := w.j.Recycle(ctx, w.batches[n-1].end); err != nil {
		return err
	}
	w.tail = n
	return nil
}

// room reports whether an append of so many blocks need not wait.
func (w *world) room(blocks int) bool {
	return w.j.usedLocked()+int64(blocks)*block <= w.j.ring.limit()/2
}
