package checkpoint

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/vlog/page"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

var (
	testReign = frame.Reign{Log: vlog.LogID{1, 2, 3}, Epoch: 4, Nonce: vlog.Nonce{5, 6}}
	other     = Reign{Reign: frame.Reign{Log: vlog.LogID{9}, Epoch: 2, Nonce: vlog.Nonce{7}}, KeyID: frame.KeyID{8}, Repository: "r-aaaaaaaaaaaaaaaaaaaaaaaaaa"}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newCodec(t testing.TB) *frame.Codec {
	codec, err := frame.NewCodec(1)
	must(t, err)
	t.Cleanup(codec.Close)
	return codec
}

func newKey(t testing.TB, fill byte) *frame.DataKey {
	if fill == 0 {
		return nil
	}
	key, err := frame.NewDataKey(bytes.Repeat([]byte{fill}, 32))
	must(t, err)
	return key
}

func newCipher(t testing.TB, kind vlog.Kind, key *frame.DataKey) *frame.Cipher {
	c, err := newCodec(t).Cipher(kind, testReign, key)
	must(t, err)
	return c
}

// sample has something in every field.
func sample(c *frame.Cipher) *Checkpoint {
	at := vlog.NewPointer(2, 80, 4128, 3)
	return &Checkpoint{
		Reign: testReign, Sequence: 7, Chain: vlog.Chain{1}, KeyID: c.KeyID(), Settled: 3, Blocks: 1 << 28, NextTable: 12,
		Time: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC),
		Objects: []Object{
			{Number: 0, Kind: vlog.SegmentKind, Reign: other, Sequence: 5, SizeBytes: 8 << 20, Digest: vlog.Digest{1}},
			{Number: 2, Kind: vlog.TableKind, Reign: Reign{Reign: testReign, KeyID: c.KeyID()}, Sequence: 1, SizeBytes: 1 << 20, Digest: vlog.Digest{2}},
			{Number: 9, Kind: vlog.SegmentKind, Reign: other, Sequence: 6, SizeBytes: 8 << 20, Digest: vlog.Digest{3}},
		},
		Live:      []uint32{5, 3, 0},
		Root:      []table.Entry{{Directory: 0, Stored: at}, {Directory: 1023, Stored: at + 1}},
		Orphans:   []table.Orphan{{Page: table.DirectoryPage(5), Stored: at}},
		Snapshots: []Snapshot{{ID: "s-aaaaaaaaaaaaaaaaaaaaaaaaaa", Position: vlog.Position{Epoch: 3, Sequence: 0}, Blocks: 1 << 20}},
	}
}

// grown is sample, later: an object went, one's number is another's, one is new.
func grown(c *frame.Cipher) *Checkpoint {
	x := sample(c)
	x.Sequence = 20
	x.Objects[2].Sequence = 77
	x.Objects = append(x.Objects[1:], Object{Number: 10, Kind: vlog.TableKind, Reign: x.Objects[1].Reign, Sequence: 2, SizeBytes: 99, Digest: vlog.Digest{4}})
	return x
}

func modes(t *testing.T, do func(t *testing.T, c *frame.Cipher, r Reader)) {
	for name, fill := range map[string]byte{"plain": 0, "encrypted": 9} {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, fill)
			do(t, newCipher(t, vlog.CheckpointKind, key), Reader{Store: memory.New(), Log: testReign.Log, Codec: newCodec(t), Key: key})
		})
	}
}

func publish(t testing.TB, r Reader, c *Checkpoint, cipher *frame.Cipher, base *Checkpoint, digest vlog.Digest) Encoded {
	t.Helper()
	e, err := Encode(c, cipher, base, digest)
	must(t, err)
	must(t, Publish(t.Context(), r.Store, e))
	return e
}

// TestPublishAsksAgain: a spoiled reply does not make a checkpoint another one.
func TestPublishAsksAgain(t *testing.T) {
	c := newCipher(t, vlog.CheckpointKind, nil)
	e, err := Encode(sample(c), c, nil, vlog.Digest{})
	must(t, err)
	s := faults.New(memory.New(), faults.On(faults.Get, 1, faults.Fault{Flip: 1}))
	must(t, Publish(t.Context(), s, e))
	must(t, Publish(t.Context(), s, e))
}

func TestRoundTrip(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, r Reader) {
		if _, err := r.Newest(t.Context()); !fault.Is(err, fault.NotFound) {
			t.Errorf("no checkpoint: %v, want not found", err)
		}
		want := sample(c)
		e := publish(t, r, want, c, nil, vlog.Digest{})
		must(t, Publish(t.Context(), r.Store, e)) // again
		got, err := r.Newest(t.Context())
		must(t, err)
		if !reflect.DeepEqual(got.Checkpoint, want) || got.Digest != e.Digest || got.Base != nil {
			t.Errorf("read\n%+v, want\n%+v", got.Checkpoint, want)
		}
		later := grown(c)
		e2 := publish(t, r, later, c, want, e.Digest)
		got, err = r.Newest(t.Context())
		must(t, err)
		if !reflect.DeepEqual(got.Checkpoint, later) || got.Digest != e2.Digest || *got.Base != (Base{want.Position(), e.Digest}) {
			t.Errorf("read\n%+v, want\n%+v", got.Checkpoint, later)
		}
		same := Same(want, later)
		for number, ok := range map[uint32]bool{0: false, 2: true, 9: false, 10: false} {
			if same(number, number) != ok {
				t.Errorf("object %d is the same: %v, want %v", number, !ok, ok)
			}
		}
		if live := later.LiveByNumber(); len(live) != 11 || live[2] != 5 || live[9] != 3 {
			t.Errorf("live %v", live)
		}
		changed := grown(c)
		changed.Blocks++
		e3, err := Encode(changed, c, nil, vlog.Digest{})
		must(t, err)
		if err := Publish(t.Context(), r.Store, e3); !fault.Is(err, fault.Exists) {
			t.Errorf("another at the position: %v, want exists", err)
		}
		must(t, r.Store.Delete(t.Context(), e.Key))
		if _, err := r.Newest(t.Context()); !fault.Is(err, fault.Corrupt) {
			t.Errorf("what it adds to is gone: %v, want corrupt", err)
		}
		again := sample(c)
		again.Settled = 2
		publish(t, r, again, c, nil, vlog.Digest{})
		if _, err := r.Newest(t.Context()); !fault.Is(err, fault.Corrupt) {
			t.Errorf("what it adds to is another: %v, want corrupt", err)
		}
	})
}

// TestGolden: files of format version 1 are read for ever. They are compressed,
// so that newly encoded bytes may differ; the head up to the MAC must not, since
// it is what the digest covers.
func TestGolden(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, r Reader) {
		file := filepath.Join("testdata", "format-1", filepath.Base(t.Name()))
		e, err := Encode(sample(c), c, nil, vlog.Digest{})
		must(t, err)
		if _, err := os.Stat(file); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
			must(t, os.WriteFile(file, e.Object, 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		must(t, r.Store.Create(t.Context(), e.Key, want))
		got, err := r.Newest(t.Context())
		must(t, err)
		if !reflect.DeepEqual(got.Checkpoint, sample(c)) {
			t.Errorf("%+v", got.Checkpoint)
		}
		const sizes = 20 + 176
		if !bytes.Equal(e.Object[:sizes], want[:sizes]) || !bytes.Equal(e.Object[sizes+8:20+headBody-macBytes], want[sizes+8:20+headBody-macBytes]) {
			t.Error("encoded otherwise than format version 1")
		}
	})
}

func TestEveryDamageIsSeen(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, r Reader) {
		e := publish(t, r, sample(c), c, nil, vlog.Digest{})
		refuse := func(what string, i int, b []byte) {
			must(t, r.Store.Put(t.Context(), e.Key, b))
			if _, err := r.Newest(t.Context()); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s %d: %v, want corrupt", what, i, err)
			}
		}
		for i := range e.Object {
			b := bytes.Clone(e.Object)
			b[i] ^= 0x02
			refuse("flipped", i, b)
			refuse("truncated to", i, e.Object[:i])
		}
		refuse("extended", 1, append(bytes.Clone(e.Object), 0))
		must(t, r.Store.Put(t.Context(), e.Key, e.Object))
		must(t, r.Store.Put(t.Context(), vlog.Keys{Log: r.Log}.Checkpoint(vlog.Position{Epoch: 4, Sequence: 8}), e.Object))
		if _, err := r.Newest(t.Context()); !fault.Is(err, fault.Corrupt) {
			t.Errorf("at another position: %v, want corrupt", err)
		}
		r.Key = newKey(t, 10)
		if _, err := r.At(t.Context(), vlog.Position{Epoch: 4, Sequence: 7}); !fault.Is(err, fault.Precondition) {
			t.Errorf("another key: %v, want precondition", err)
		}
		r.Codec = nil
		if _, err := r.At(t.Context(), vlog.Position{Epoch: 4, Sequence: 7}); err != nil {
			t.Errorf("without a key: %v", err)
		}
	})
}

// TestExchangedListsAreSeen: another checkpoint's lists, whole and with all
// checksums right, under a head that vouches for its own.
func TestExchangedListsAreSeen(t *testing.T) {
	c := newCipher(t, vlog.CheckpointKind, nil)
	x := sample(c)
	a, err := Encode(x, c, nil, vlog.Digest{})
	must(t, err)
	x.Live[0]++
	b, err := Encode(x, c, nil, vlog.Digest{})
	must(t, err)
	const sizes = 176
	body := bytes.Clone(a.Object[20 : 20+headBody])
	copy(body[sizes:sizes+8], b.Object[20+sizes:])
	forged := append(headFormat.Append(nil, body), b.Object[headBytes:]...)
	if _, err := decode(forged, testReign.Log, x.Position()); !fault.Is(err, fault.Corrupt) {
		t.Errorf("%v, want corrupt", err)
	}
}

// TestWhatDoesNotHangTogether is refused when written, and when read.
func TestWhatDoesNotHangTogether(t *testing.T) {
	c := newCipher(t, vlog.CheckpointKind, nil)
	for name, change := range map[string]func(x *Checkpoint){
		"sequence beyond":      func(x *Checkpoint) { x.Sequence = vlog.MaxSequence + 1 },
		"settled beyond":       func(x *Checkpoint) { x.Settled = 4 },
		"too few counts":       func(x *Checkpoint) { x.Live = x.Live[1:] },
		"numbers descend":      func(x *Checkpoint) { x.Objects[1].Number = 0 },
		"checkpoint as object": func(x *Checkpoint) { x.Objects[1].Kind = vlog.CheckpointKind },
		"object of slot 0":     func(x *Checkpoint) { x.Objects[0].Sequence = 0 },
		"empty object":         func(x *Checkpoint) { x.Objects[0].SizeBytes = 0 },
		"root in a segment":    func(x *Checkpoint) { x.Root[0].Stored = vlog.NewPointer(0, 80, 4128, 3) },
		"root in no object":    func(x *Checkpoint) { x.Root[0].Stored = vlog.NewPointer(3, 80, 4128, 3) },
		"root beyond object":   func(x *Checkpoint) { x.Root[0].Stored = vlog.NewPointer(2, 1<<20, 4128, 3) },
		"root descends":        func(x *Checkpoint) { x.Root[1].Directory = 0 },
		"root beyond volume":   func(x *Checkpoint) { x.Root[1].Directory = 1024 },
		"orphan of a hole":     func(x *Checkpoint) { x.Orphans[0].Stored = 0 },
		"snapshot without id":  func(x *Checkpoint) { x.Snapshots[0].ID = "s" },
		"snapshot too large":   func(x *Checkpoint) { x.Snapshots[0].Blocks = 1<<28 + 1 },
	} {
		x := sample(c)
		change(x)
		if _, err := Encode(x, c, nil, vlog.Digest{}); !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v, want internal", name, err)
		}
		if err := x.validate(fault.Corrupt); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", name, err)
		}
	}
	former := sample(c)
	former.Reign.Epoch, former.Sequence, former.Settled = 3, 1, 2
	if _, err := Encode(sample(c), c, former, vlog.Digest{}); !fault.Is(err, fault.Internal) {
		t.Errorf("adds to another epoch's: %v, want internal", err)
	}
	if _, err := Encode(sample(c), c, grown(c), vlog.Digest{}); !fault.Is(err, fault.Internal) {
		t.Errorf("adds to a later one: %v, want internal", err)
	}
}

// TestLists: random lists survive, alone and as what changed since others.
func TestLists(t *testing.T) {
	c, r := newCipher(t, vlog.CheckpointKind, nil), Reader{Log: testReign.Log}
	rapid.Check(t, func(t *rapid.T) {
		r.Store = memory.New()
		random := func(s vlog.Sequence) *Checkpoint {
			x := &Checkpoint{Reign: testReign, Sequence: s, Blocks: 1 << 20, Time: time.Unix(0, 0).UTC(), Objects: []Object{}, Live: []uint32{}}
			for n := range uint32(12) {
				if rapid.Bool().Draw(t, "there") {
					o := Object{Number: n, Kind: vlog.SegmentKind, Reign: other, Sequence: vlog.Sequence(rapid.IntRange(1, 2).Draw(t, "which")), SizeBytes: 1}
					if rapid.Bool().Draw(t, "own") {
						o.Reign = Reign{Reign: testReign}
					}
					x.Objects = append(x.Objects, o)
					x.Live = append(x.Live, rapid.Uint32().Draw(t, "live"))
				}
			}
			return x
		}
		a, b := random(1), random(2)
		e, err := Encode(a, c, nil, vlog.Digest{})
		if err == nil {
			err = Publish(t.Context(), r.Store, e)
		}
		var e2 Encoded
		if err == nil {
			e2, err = Encode(b, c, a, e.Digest)
		}
		if err == nil {
			err = Publish(t.Context(), r.Store, e2)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []*Checkpoint{a, b} {
			got, err := r.At(t.Context(), want.Position())
			if err != nil || !slices.Equal(got.Objects, want.Objects) || !slices.Equal(got.Live, want.Live) {
				t.Fatalf("%v\n%+v, want\n%+v", err, got.Checkpoint, want)
			}
		}
	})
}

// TestTableSurvives: a table, its pages, a checkpoint, and the table again, with
// every piece the real one.
func TestTableSurvives(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, r Reader) {
		ctx := t.Context()
		const blocks = 3 * table.DirectoryBlocks
		pages := newCipher(t, vlog.TableKind, r.Key)
		find := func(uint32) (page.Found, error) { return page.Found{Store: r.Store, Cipher: pages, Sequence: 1}, nil }
		a, err := table.New(table.Options{Blocks: blocks, Pager: page.Pager{Find: find}})
		must(t, err)
		defer a.Close()
		random := rand.New(rand.NewPCG(1, 1))
		want := map[vlog.Block]vlog.Pointer{}
		for range 3000 {
			b := vlog.Block(random.IntN(blocks))
			want[b] = vlog.NewPointer(0, 80+16*random.Int64N(1<<19), 4128, random.IntN(16))
			must(t, a.Set(ctx, b, 1, want[b]))
		}
		w, err := page.NewWriter(pages, 1, frame.Zstd, nil)
		must(t, err)
		must(t, a.Changed(ctx, w.Add))
		// Directories name the places of leaves, which are known once all are packed:
		// they go into a second object, or as here into the same one's successor.
		f, err := w.Finish()
		must(t, err)
		must(t, r.Store.Create(ctx, f.Key, f.Object))
		for _, p := range f.Placed {
			a.Stored(p.Page, p.Pointer(1))
		}
		w, err = page.NewWriter(pages, 2, frame.Zstd, nil)
		must(t, err)
		must(t, a.ChangedDirectories(nil, w.Add))
		f2, err := w.Finish()
		must(t, err)
		must(t, r.Store.Create(ctx, f2.Key, f2.Object))
		for _, p := range f2.Placed {
			a.Stored(p.Page, p.Pointer(2))
		}
		own := Reign{Reign: testReign, KeyID: c.KeyID()}
		x := &Checkpoint{
			Reign: testReign, Sequence: 9, KeyID: c.KeyID(), Blocks: blocks, NextTable: 3, Time: time.Unix(1, 0).UTC(), Orphans: a.Orphans(), Root: a.Root(), Live: a.Live(),
			Objects: []Object{
				{Number: 0, Kind: vlog.SegmentKind, Reign: own, Sequence: 1, SizeBytes: 16 << 20},
				{Number: 1, Kind: vlog.TableKind, Reign: own, Sequence: 1, SizeBytes: int64(len(f.Object)), Digest: f.Digest},
				{Number: 2, Kind: vlog.TableKind, Reign: own, Sequence: 2, SizeBytes: int64(len(f2.Object)), Digest: f2.Digest},
			},
		}
		publish(t, r, x, c, nil, vlog.Digest{})

		got, err := r.Newest(ctx)
		must(t, err)
		b, err := table.New(table.Options{Blocks: got.Blocks, LimitBytes: 1 << 20, Pager: page.Pager{Find: func(n uint32) (page.Found, error) {
			o, _ := got.Find(n)
			return page.Found{Store: r.Store, Cipher: pages, Sequence: o.Sequence}, nil
		}}})
		must(t, err)
		defer b.Close()
		must(t, b.Restore(got.Root, got.LiveByNumber(), got.Orphans))
		for block, p := range want {
			if q, err := b.Lookup(ctx, block); err != nil || q != p {
				t.Fatalf("block %d: %s, %v, want %s", block, q, err, p)
			}
		}
		if live := b.Live(); live[0] != uint32(len(want)) {
			t.Errorf("%d blocks live, want %d", live[0], len(want))
		}
	})
}

func FuzzDecode(f *testing.F) {
	codec, err := frame.NewCodec(1)
	must(f, err)
	defer codec.Close()
	c, err := codec.Cipher(vlog.CheckpointKind, testReign, nil)
	must(f, err)
	e, err := Encode(sample(c), c, nil, vlog.Digest{})
	must(f, err)
	f.Add(e.Object, sample(c).appendLists(nil, nil))
	f.Fuzz(func(t *testing.T, object, lists []byte) {
		if p, err := decode(object, testReign.Log, vlog.Position{Epoch: 4, Sequence: 7}); err == nil {
			_, _ = p.resolve(nil)
		}
		p := &part{Checkpoint: Checkpoint{Reign: testReign, Blocks: 1 << 28}}
		if err := p.decodeLists(wire.NewDecoder(wire.Box{Body: lists}, "x")); err == nil {
			if x, err := p.resolve(nil); err == nil && x.validate(fault.Corrupt) != nil {
				t.Error("resolved, but does not hang together")
			}
		}
	})
}

// BenchmarkCheckpoint is 1 TiB in 131,072 objects: alone, and for a snapshot that
// adds one object.
func BenchmarkCheckpoint(b *testing.B) {
	c := newCipher(b, vlog.CheckpointKind, nil)
	x := sample(c)
	x.Objects, x.Live = nil, nil
	r := rand.New(rand.NewPCG(1, 1))
	reign := Reign{Reign: testReign}
	for n := range uint32(131072) {
		o := Object{Number: n, Kind: vlog.SegmentKind, Reign: reign, Sequence: vlog.Sequence(n + 1), SizeBytes: 8<<20 + r.Int64N(10000)}
		if n == 2 {
			o.Kind = vlog.TableKind
		}
		for i := range o.Digest {
			o.Digest[i] = byte(r.Uint32())
		}
		x.Objects, x.Live = append(x.Objects, o), append(x.Live, uint32(r.IntN(2048)))
	}
	y := *x
	y.Sequence++
	y.Objects = append(y.Objects[:len(y.Objects):len(y.Objects)], Object{Number: 131072, Kind: vlog.SegmentKind, Reign: reign, Sequence: 131073, SizeBytes: 1})
	y.Live = append(y.Live[:len(y.Live):len(y.Live)], 1)
	for _, row := range []struct {
		name    string
		c, base *Checkpoint
	}{{"alone", x, nil}, {"adding", &y, x}} {
		var e Encoded
		b.Run("encode/"+row.name, func(b *testing.B) {
			for b.Loop() {
				var err error
				e, err = Encode(row.c, c, row.base, vlog.Digest{})
				must(b, err)
			}
			b.ReportMetric(float64(len(e.Object)), "B/object")
		})
		b.Run("decode/"+row.name, func(b *testing.B) {
			for b.Loop() {
				_, err := decode(e.Object, testReign.Log, row.c.Position())
				must(b, err)
			}
		})
	}
}
