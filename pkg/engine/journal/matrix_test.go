package journal

import (
	"bytes"
	"errors"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// The rows J1 to J9 of the failure matrix. J1, J2 and the wrapping of J9 are
// TestCrashAtEveryStep and TestHistories; a full journal (J6) is in pace_test.go,
// a full disk in real_test.go.

func lost(int) bool { return false }

// began returns a world with an epoch begun.
func began(t *testing.T, at vlog.LSN) *world {
	t.Helper()
	w := &world{d: filled(at)}
	must(t, w.reopen(t, true))
	t.Cleanup(func() { w.j.Abandon() })
	return w
}

// TestStaleLapIsNotTaken (J3): a whole record of the lap before lies exactly where
// the journal ends.
func TestStaleLapIsNotTaken(t *testing.T) {
	w := began(t, 0)
	for w.j.State().End < 3*MinSize { // records of two blocks, in step with the ring
		must(t, w.append(t, 1))
		must(t, w.recycle(0))
		end := w.j.State().End
		old, err := decodeHeader(w.d.Bytes(testPath)[w.j.ring.offset(end):][:block], "old")
		if stale := err == nil && old.at+MinSize == end && old.incarnation == 77; end > 2*MinSize && !stale {
			t.Fatalf("no record of the lap before at %d", end)
		}
		w.j.Abandon()
		w.d.Crash(lost)
		j, err := Open(ctx, testOptions(w.d))
		must(t, err)
		if got := j.State().End; got != end {
			t.Fatalf("ends at %d, want %d", got, end)
		}
		must(t, j.Begin(ctx, j.State().Epoch+1))
		w.j = j
	}
}

// TestForgedRecordIsNotTaken (J3): at the tail is a record that is right but for
// one thing.
func TestForgedRecordIsNotTaken(t *testing.T) {
	for name, forge := range map[string]func(h *header){
		"incarnation":             func(h *header) { h.incarnation++ },
		"the lap before":          func(h *header) { h.at, h.durable = h.at-MinSize, 0 },
		"the next lap":            func(h *header) { h.at += MinSize },
		"the next position":       func(h *header) { h.at += block },
		"link":                    func(h *header) { h.link++ },
		"run":                     func(h *header) { h.run++ },
		"epoch":                   func(h *header) { h.epoch++ },
		"an epoch of the same":    func(h *header) { h.typ, h.run = epochRecord, h.run+1 },
		"an epoch with its run":   func(h *header) { h.typ, h.epoch = epochRecord, h.epoch+1 },
		"a pad that is too short": func(h *header) { h.typ = padRecord },
		"none":                    nil,
	} {
		w := began(t, MinSize)
		must(t, w.append(t, 1))
		must(t, w.flush())
		end := w.j.end
		w.j.Abandon()
		w.d.Restart()
		h := header{cursor: end, typ: cleanRecord, incarnation: 77, durable: end.at, bytes: block}
		if forge != nil {
			forge(&h)
		}
		b := make([]byte, block)
		h.put(b)
		w.d.Damage(testPath, w.j.ring.offset(end.at), b)
		j, err := Open(ctx, testOptions(w.d))
		must(t, err)
		if got := j.State().End; (got == end.at) != (forge != nil) {
			t.Errorf("%s: ends at %d, the forgery is at %d", name, got, end.at)
		}
		j.Abandon()
	}
}

// TestNewerRecord: a record that only a newer program understands is no torn tail.
func TestNewerRecord(t *testing.T) {
	w := began(t, 0)
	must(t, w.append(t, 1))
	must(t, w.flush())
	at := w.batches[0].end - 2*block
	w.j.Abandon()
	w.d.Restart()
	b := w.d.Bytes(testPath)[w.j.ring.offset(at):][:block]
	w.d.Damage(testPath, w.j.ring.offset(at), resealed(b, func(b []byte) { b[8] = 2 }))
	_, err := Open(ctx, testOptions(w.d))
	mustBe(t, err, fault.Unsupported)
}

// TestDamageIsNotTruncated (J4): a bit of any block of records that later ones
// vouch for; whole blocks of zeros, as a lost write leaves them, too.
func TestDamageIsNotTruncated(t *testing.T) {
	for _, at := range []vlog.LSN{0, MinSize - 4*block} {
		w := began(t, at)
		for range 3 {
			must(t, w.append(t, 2))
			must(t, w.append(t, 1, 0))
			must(t, w.append(t))
			must(t, w.flush())
		}
		must(t, w.append(t, 1)) // knows that all before is durable
		last := w.j.State().End - 2*block
		w.j.Abandon()
		for p := at; p < last; p += block {
			offset := w.j.ring.offset(p)
			for _, bad := range [][]byte{make([]byte, block), flipped(w.d.Bytes(testPath)[offset:][:block])} {
				d := w.d.Fork()
				before := d.Bytes(testPath)[offset:][:block]
				if pad, err := decodeHeader(d.Bytes(testPath)[offset-block:][:block], ""); bytes.Equal(before, bad) || err == nil && pad.typ == padRecord {
					continue // what a pad skips
				}
				d.Damage(testPath, offset, bad)
				was := d.Bytes(testPath)
				_, err := Open(ctx, testOptions(d))
				mustBe(t, err, fault.Corrupt)
				if !strings.Contains(err.Error(), "want") || !strings.Contains(err.Error(), "durable") {
					t.Errorf("damage at %d: %v", p, err)
				}
				if !bytes.Equal(was, d.Bytes(testPath)) {
					t.Fatal("a damaged journal was changed")
				}
			}
		}
		// The last record, which nothing vouches for, is a torn tail.
		w.d.Damage(testPath, w.j.ring.offset(last), make([]byte, block))
		j, err := Open(ctx, testOptions(w.d))
		must(t, err)
		if got := j.State().End; got != last {
			t.Errorf("ends at %d, want %d", got, last)
		}
		j.Abandon()
	}
}

func flipped(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 4
	return b
}

// TestSuperblockVouches (J4): what Close and Recycle wrote down needs no later
// record.
func TestSuperblockVouches(t *testing.T) {
	for name, end := range map[string]func(w *world) error{
		"close":   func(w *world) error { return w.j.Close(ctx) },
		"recycle": func(w *world) error { return w.recycle(1) },
	} {
		w := began(t, 0)
		must(t, w.append(t, 1))
		must(t, w.append(t, 1))
		must(t, end(w))
		w.j.Abandon()
		w.d.Crash(lost)
		w.d.Damage(testPath, w.j.ring.offset(w.batches[1].end-block), []byte{1, 2, 3})
		_, err := Open(ctx, testOptions(w.d))
		if !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", name, err)
		}
	}
}

// TestDamageWhileOpen (J4): no read gives bytes that were not written.
func TestDamageWhileOpen(t *testing.T) {
	w := began(t, 0)
	must(t, w.append(t, 2))
	must(t, w.append(t, 1))
	at := w.batches[0].changes[0].At
	w.d.Damage(testPath, w.j.ring.offset(at+block), []byte("damage"))
	p := make([]byte, block)
	must(t, w.j.Read(ctx, at, p))
	mustBe(t, w.j.Read(ctx, at+block, p), fault.Corrupt)
	s := w.j.State()
	for _, err := range w.j.Records(ctx, s.Tail+block, s.End) {
		mustBe(t, err, fault.Corrupt)
	}
}

// TestFailedSync (J5): once, and then they would succeed.
func TestFailedSync(t *testing.T) {
	w := began(t, 0)
	must(t, w.append(t, 1))
	must(t, w.flush())
	must(t, w.append(t, 1))
	must(t, w.append(t, 2))
	w.d.FailSync(1)
	if err := w.flush(); !errors.Is(err, syscall.EIO) || !fault.Is(err, fault.Internal) {
		t.Fatalf("got %v, want the sync's error", err)
	}
	for name, err := range map[string]error{
		"flush":   w.j.Flush(ctx),
		"append":  w.j.Append(ctx, &Batch{Seal: &Seal{Snapshot: testSnapshot}}),
		"recycle": w.j.Recycle(ctx, w.batches[0].end),
		"state":   w.j.State().Err,
	} {
		if !errors.Is(err, syscall.EIO) {
			t.Errorf("%s after a failed sync: %v", name, err)
		}
	}
	if got := w.j.Durable(); got != w.batches[0].end {
		t.Errorf("durable up to %d, want %d", got, w.batches[0].end)
	}
	must(t, w.j.Read(ctx, w.batches[2].changes[0].At, make([]byte, 2*block)))
	if err := w.j.Close(ctx); !errors.Is(err, syscall.EIO) {
		t.Errorf("close: %v, want to hear that it is not clean", err)
	}
	// Acknowledged appends are still in the kernel's memory, though the kernel will
	// not write them by itself any more: the next life does.
	w.d.Restart()
	must(t, w.reopen(t, false))
	w.j.Abandon()
	w.d.Crash(lost)
	must(t, w.reopen(t, true))
	if len(w.batches) != 3 {
		t.Errorf("%d batches, want 3", len(w.batches))
	}
}

// TestFailedSyncOfRecycle (J5): space is not given back.
func TestFailedSyncOfRecycle(t *testing.T) {
	w := began(t, 0)
	must(t, w.append(t, 1))
	must(t, w.flush())
	w.d.FailSync(1)
	if err := w.j.Recycle(ctx, w.batches[0].end); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	if s := w.j.State(); s.Tail != 0 || s.Err == nil {
		t.Errorf("%+v", s)
	}
}

// TestSuperblocks (J7): either torn, both torn, the newest gone when the tail of
// the older one is written over.
func TestSuperblocks(t *testing.T) {
	w := began(t, 0)
	must(t, w.append(t, 1))
	must(t, w.append(t, 1))
	must(t, w.recycle(1)) // generation 2, at 0
	w.j.Abandon()
	w.d.Restart()
	torn := bytes.Repeat([]byte{0xa5}, simdisk.Sector)
	for _, offset := range []int64{0, block} {
		f := *w
		f.d = w.d.Fork()
		f.d.Damage(testPath, offset+simdisk.Sector, torn)
		if offset == 0 {
			f.tail, f.asked = 0, 0 // nothing of it was written over yet
		}
		must(t, f.reopen(t, true))
		must(t, f.append(t, 1))
		must(t, f.recycle(0)) // repairs
		f.j.Abandon()
		f.d.Restart()
		must(t, f.reopen(t, true))
		f.j.Abandon()
		f.d.Damage(testPath, block-offset, torn)
		f.d.Damage(testPath, offset, torn)
		_, err := Open(ctx, testOptions(f.d))
		mustBe(t, err, fault.Corrupt)
		if !strings.Contains(err.Error(), "both superblocks") {
			t.Error(err)
		}
	}

	must(t, w.reopen(t, true))
	w.fill(t, 1)
	must(t, w.recycle(0))
	w.fill(t, 1)
	must(t, w.flush())
	w.j.Abandon()
	w.d.Restart()
	newest := int64(w.j.generation%2) * block
	w.d.Damage(testPath, newest, torn)
	older, err := decodeSuperblock(w.d.Bytes(testPath)[block-newest:][:block], "older")
	must(t, err)
	j, err := Open(ctx, testOptions(w.d))
	if err == nil {
		j.Abandon()
		t.Fatalf("opened behind a superblock with tail %d, whose records are written over", older.tail.at)
	}
	mustBe(t, err, fault.Corrupt)
}

// TestAnotherJournal (J8): missing, blank, another's.
func TestAnotherJournal(t *testing.T) {
	w := began(t, 0)
	must(t, w.append(t, 1))
	must(t, w.j.Close(ctx))
	for name, c := range map[string]struct {
		change func(o *Options)
		want   fault.Kind
	}{
		"missing":            {func(o *Options) { o.Path = "/missing" }, fault.NotFound},
		"blank":              {func(o *Options) { o.Path = "/blank" }, fault.Corrupt},
		"empty":              {func(o *Options) { o.Path = "/empty" }, fault.Corrupt},
		"another volume":     {func(o *Options) { o.Volume = volume.NewID() }, fault.Precondition},
		"another log":        {func(o *Options) { o.Log[0]++ }, fault.Precondition},
		"another file":       {func(o *Options) { o.Incarnation = 78 }, fault.Precondition},
		"longer (J9)":        {func(o *Options) { o.Path = "/longer" }, fault.Corrupt},
		"shorter (J9)":       {func(o *Options) { o.Path = "/shorter" }, fault.Corrupt},
		"an invalid request": {func(o *Options) { o.Path = "x" }, fault.Invalid},
	} {
		d := w.d.Fork()
		b := d.Bytes(testPath)
		d.Put("/blank", make([]byte, len(b)))
		d.Put("/empty", nil)
		d.Put("/longer", append(b, make([]byte, block)...))
		d.Put("/shorter", b[:len(b)-block])
		o := testOptions(d)
		o.Incarnation = 77
		c.change(&o)
		steps := d.Steps()
		_, err := Open(ctx, o)
		if !fault.Is(err, c.want) {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
		if d.Steps() != steps {
			t.Errorf("%s: something was written", name)
		}
		if j, err := Open(ctx, testOptions(d)); err != nil {
			t.Errorf("%s: it is not open to its owner any more: %v", name, err)
		} else {
			j.Abandon()
		}
	}
}

// TestOpenWritesNothing: what is found is left alone until Begin.
func TestOpenWritesNothing(t *testing.T) {
	w := began(t, 0)
	must(t, w.append(t, 1))
	must(t, w.append(t, 2))
	w.j.Abandon()
	w.d.Crash(func(i int) bool { return i%3 > 0 })
	before, steps := w.d.Bytes(testPath), w.d.Steps()
	j, err := Open(ctx, testOptions(w.d))
	must(t, err)
	mustBe(t, j.Append(ctx, &Batch{Seal: &Seal{Snapshot: testSnapshot}}), fault.Precondition)
	must(t, j.Close(ctx))
	if w.d.Steps() != steps || !bytes.Equal(before, w.d.Bytes(testPath)) {
		t.Error("something was written")
	}
}

// TestBegin: epochs go up, once a life.
func TestBegin(t *testing.T) {
	w := began(t, 0)
	mustBe(t, w.j.Begin(ctx, 9), fault.Precondition)
	must(t, w.j.Close(ctx))
	j, err := Open(ctx, testOptions(w.d))
	must(t, err)
	defer j.Abandon()
	if s := j.State(); !s.Clean || s.Epoch != 1 {
		t.Errorf("%+v, want a clean end of epoch 1", s)
	}
	mustBe(t, j.Begin(ctx, 1), fault.Invalid)
	mustBe(t, j.Begin(ctx, vlog.MaxEpoch+1), fault.Invalid)
	must(t, j.Begin(ctx, 2))
	if s := j.State(); s.Clean || !j.Found().Clean {
		t.Errorf("%+v", s)
	}
}

// TestReserve: wherever the ring ends, a full journal has kept room for openings
// without any space given back.
func TestReserve(t *testing.T) {
	for at := vlog.LSN(0); at < MinSize; at += block {
		w := began(t, at)
		w.fill(t, 4)
		w.fill(t, 3)
		if free := w.j.ring.size - w.j.usedLocked(); free < w.j.ring.reserve() {
			t.Errorf("from %d on: %d bytes free, want %d", at, free, w.j.ring.reserve())
		}
		if at > 0 {
			continue
		}
		var err error
		n := 0
		for ; err == nil; n++ {
			w.j.Abandon()
			w.d.Restart()
			err = w.reopen(t, false)
		}
		mustBe(t, err, fault.Exhausted)
		if want := int(w.j.ring.reserve() / block); n < want {
			t.Errorf("%d openings, want %d", n, want)
		}
	}
}

// fill appends batches of so many blocks until there is no more room, whatever the pace would be.
func (w *world) fill(t *testing.T, blocks int) {
	t.Helper()
	for w.j.usedLocked()+int64(1+blocks)*block <= w.j.ring.limit() {
		w.j.pace.due = time.Now()
		must(t, w.append(t, blocks))
	}
}
