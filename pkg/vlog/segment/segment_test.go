package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
)

var (
	testReign = frame.Reign{Log: vlog.LogID{1, 2, 3}, Epoch: 4, Nonce: vlog.Nonce{5, 6}}
	testInfo  = Info{
		Identity: Identity{Reign: testReign, Sequence: 7},
		Journal:  vlog.JournalRange{Incarnation: 8, First: 4096, End: 65536},
		Blocks:   1 << 28,
		Previous: vlog.Chain{9},
	}
	testSource = Source{Log: vlog.LogID{1, 2, 3}, Epoch: 2, Sequence: 900}
)

const testSnapshot = "s-aaaaaaaaaaaaaaaaaaaaaaaaaa"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func text(n int) []byte { return bytes.Repeat([]byte("a row of a table, "), n/18+1)[:n] }

func testKey(t testing.TB) *frame.DataKey {
	k, err := frame.NewDataKey(bytes.Repeat([]byte{9}, 32))
	must(t, err)
	return k
}

func newCipher(t testing.TB, key *frame.DataKey) *frame.Cipher {
	codec, err := frame.NewCodec(1)
	must(t, err)
	t.Cleanup(codec.Close)
	c, err := codec.Cipher(vlog.SegmentKind, testReign, key)
	must(t, err)
	return c
}

func newTestWriter(t testing.TB, key *frame.DataKey) *Writer {
	w, err := NewWriter(newCipher(t, key), testInfo, nil)
	must(t, err)
	return w
}

// sample forms a segment with every kind of entry.
func sample(t testing.TB, c *frame.Cipher, with frame.Compression) Finished {
	w, err := NewWriter(c, testInfo, nil)
	must(t, err)
	must(t, w.Data(5, noise(vlog.BlockSize), with))
	must(t, w.Zero(Discarded, 6, 1<<20))
	must(t, w.Data(1<<20+16, text(2*vlog.BlockSize), with))
	must(t, w.Move(1<<20+18, text(3*vlog.BlockSize), []Moved{
		{Source: testSource, Offset: 80, Index: 14, Count: 2},
		{Source: Source{Log: vlog.LogID{1, 2, 3}, Epoch: 3, Sequence: 1}, Offset: 160, Index: 0, Count: 1},
	}, with))
	must(t, w.Zero(Zeros, 1<<28-1, 1))
	must(t, w.Seal(Seal{Snapshot: testSnapshot, Blocks: 1 << 27}))
	return w.Finish()
}

// modes runs do for segments without and with a key.
func modes(t *testing.T, do func(t *testing.T, c *frame.Cipher, f Finished)) {
	t.Run("plain", func(t *testing.T) {
		c := newCipher(t, nil)
		do(t, c, sample(t, c, frame.None))
	})
	t.Run("encrypted", func(t *testing.T) {
		c := newCipher(t, testKey(t))
		do(t, c, sample(t, c, frame.Zstd))
	})
}

func stored(t testing.TB, object []byte) *memory.Store {
	store := memory.New()
	must(t, store.Create(t.Context(), testInfo.Key(), object))
	return store
}

func TestRoundTrip(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, f Finished) {
		if f.Chain != testInfo.Previous.Next(f.Digest) {
			t.Error("the chain is not the digest's")
		}
		for name, cipher := range map[string]*frame.Cipher{"with cipher": c, "without": nil} {
			tail, err := ReadTail(t.Context(), stored(t, f.Object), testInfo.Identity, int64(len(f.Object)), cipher)
			must(t, err)
			whole, err := Verify(f.Object, testInfo.Identity, cipher)
			must(t, err)
			if !reflect.DeepEqual(tail, whole) || !reflect.DeepEqual(tail.Index, f.Index) || tail.Digest != f.Digest || tail.Chain != f.Chain || tail.Info != f.Info {
				t.Errorf("%s: read\n%+v, verified\n%+v, want\n%+v", name, tail, whole, f.Index)
			}
		}
		store := stored(t, f.Object)
		for _, e := range f.Index.Entries {
			if e.Kind > Move {
				continue
			}
			for i := range int(e.Count) {
				if got, err := c.Read(t.Context(), store, 7, e.Pointer(3, i), uint64(e.First)+uint64(i), nil); err != nil || len(got) != int(e.Count)*vlog.BlockSize {
					t.Errorf("block %d: %d bytes, %v", int(e.First)+i, len(got), err)
				}
			}
		}
	})
}

// TestGolden pins format version 1, as package frame's does.
func TestGolden(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, f Finished) {
		file := filepath.Join("testdata", "format-1", filepath.Base(t.Name()))
		if _, err := os.Stat(file); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
			must(t, os.WriteFile(file, f.Object, 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if c.KeyID() == (frame.KeyID{}) && !bytes.Equal(f.Object, want) {
			t.Error("formed otherwise than format version 1")
		}
		tail, err := Verify(want, testInfo.Identity, c)
		must(t, err)
		if len(tail.Index.Entries) != 5 || tail.Index.Seals[0].Snapshot != testSnapshot || tail.Index.Entries[3].From[0].Index != 14 || tail.Info != f.Info {
			t.Errorf("%+v", tail)
		}
	})
}

// TestEveryDamageIsSeen flips every byte of an object: the whole is always
// refused, and its tail whenever the byte is not of a frame or the head, which
// it does not read.
func TestEveryDamageIsSeen(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, f Finished) {
		whole, err := Verify(f.Object, testInfo.Identity, c)
		must(t, err)
		indexAt := int(whole.foot.indexAt)
		for i := range f.Object {
			b := bytes.Clone(f.Object)
			b[i] ^= 0x04
			for _, cipher := range []*frame.Cipher{c, nil} {
				if _, err := Verify(b, testInfo.Identity, cipher); !fault.Is(err, fault.Corrupt) {
					t.Fatalf("byte %d flipped, cipher %v: %v, want corrupt", i, cipher != nil, err)
				}
			}
			if i < indexAt && i%997 != 0 {
				continue
			}
			_, err := ReadTail(t.Context(), stored(t, b), testInfo.Identity, int64(len(b)), c)
			if (i >= indexAt) != fault.Is(err, fault.Corrupt) {
				t.Fatalf("byte %d flipped: the tail says %v", i, err)
			}
		}
		for _, n := range []int{0, 1, headBytes, MinBytes - 1, MinBytes, len(f.Object) - 1, len(f.Object) - 8, len(f.Object) + 1} {
			b := append(bytes.Clone(f.Object), 0)[:n]
			if _, err := Verify(b, testInfo.Identity, c); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%d bytes of %d: %v, want corrupt", n, len(f.Object), err)
			}
			if n > 0 {
				if _, err := ReadTail(t.Context(), stored(t, b), testInfo.Identity, int64(n), c); !fault.Is(err, fault.Corrupt) {
					t.Errorf("tail of %d bytes of %d: %v, want corrupt", n, len(f.Object), err)
				}
			}
		}
	})
}

// TestForgeryIsSeen: a foot formed anew, with its checksum right, by somebody
// without the key, and frames exchanged for one another.
func TestForgeryIsSeen(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, f Finished) {
		whole, err := Verify(f.Object, testInfo.Identity, c)
		must(t, err)
		forged := whole.foot
		forged.Journal.End += 4096
		b := forged.append(bytes.Clone(f.Object[:len(f.Object)-footBytes-trailerBytes]), newCipher(t, nil))
		tail, err := ReadTail(t.Context(), stored(t, b), testInfo.Identity, int64(len(b)), c)
		if encrypted := c.KeyID() != (frame.KeyID{}); encrypted != fault.Is(err, fault.Corrupt) {
			t.Errorf("forged foot: %v", err)
		} else if !encrypted && tail.Digest == f.Digest {
			t.Error("a forged foot has the digest of the true one")
		}
	})
}

// TestExchangedFrameIsSeen: another whole frame of the same writer and place, as
// only its tag tells, and an index that says other things than the frames do.
func TestExchangedFrameIsSeen(t *testing.T) {
	form := func(fill byte) (*Writer, Finished) {
		w := newTestWriter(t, nil)
		must(t, w.Data(5, bytes.Repeat([]byte{fill}, vlog.BlockSize), 0))
		return w, w.Finish()
	}
	_, a := form(1)
	_, b := form(2)
	e := a.Index.Entries[0]
	copy(a.Object[e.Offset:e.Offset+e.Stored], b.Object[e.Offset:])
	if _, err := Verify(a.Object, testInfo.Identity, newCipher(t, nil)); !fault.Is(err, fault.Corrupt) {
		t.Errorf("exchanged frame: %v, want corrupt", err)
	}
	for name, change := range map[string]func(*Entry){
		"blocks": func(e *Entry) { e.Count = 2 },
		"first":  func(e *Entry) { e.First++ },
	} {
		w := newTestWriter(t, nil)
		must(t, w.Data(5, text(vlog.BlockSize), 0))
		change(&w.index.Entries[0])
		if _, err := Verify(w.Finish().Object, testInfo.Identity, nil); !fault.Is(err, fault.Corrupt) {
			t.Errorf("another %s in the index: %v, want corrupt", name, err)
		}
	}
}

// TestLaterFields: what a later program adds to the foot is passed over if it may
// be, and vouched for all the same; and refused if it must be understood.
func TestLaterFields(t *testing.T) {
	f := sample(t, newCipher(t, nil), 0)
	later := func(must, may uint16, added string) []byte {
		at := len(f.Object) - footBytes - trailerBytes
		body := f.Object[at+20 : at+20+footBody]
		body = append(append(bytes.Clone(body[:footBody-macBytes]), added...), body[footBody-macBytes:]...)
		b := footFormat.AppendFlags(bytes.Clone(f.Object[:at]), body, must, may)
		b = binary.LittleEndian.AppendUint32(b, uint32(footBytes+len(added)))
		return append(b, trailerMagic...)
	}
	tail, err := Verify(later(0, 1, "news"), testInfo.Identity, newCipher(t, nil))
	must(t, err)
	other, err := Verify(later(0, 1, "nows"), testInfo.Identity, newCipher(t, nil))
	must(t, err)
	if tail.Digest == f.Digest || tail.Digest == other.Digest || !reflect.DeepEqual(tail.Index, f.Index) {
		t.Error("the digest does not cover what was added")
	}
	if _, err := Verify(later(0, 0, "news"), testInfo.Identity, nil); !fault.Is(err, fault.Corrupt) {
		t.Errorf("added without a flag: %v, want corrupt", err)
	}
	if _, err := Verify(later(1, 0, ""), testInfo.Identity, nil); !fault.Is(err, fault.Unsupported) {
		t.Errorf("added to be understood: %v, want unsupported", err)
	}
}

// TestSegmentsOfOthersAreRefused: whole, but not what belongs in the slot.
func TestSegmentsOfOthersAreRefused(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, f Finished) {
		for name, change := range map[string]func(*Identity){
			"log":      func(id *Identity) { id.Log[0]++ },
			"epoch":    func(id *Identity) { id.Epoch++ },
			"nonce":    func(id *Identity) { id.Nonce[0]++ },
			"sequence": func(id *Identity) { id.Sequence++ },
		} {
			id := testInfo.Identity
			change(&id)
			store := memory.New()
			must(t, store.Create(t.Context(), id.Key(), f.Object))
			if _, err := ReadTail(t.Context(), store, id, int64(len(f.Object)), nil); !fault.Is(err, fault.Corrupt) {
				t.Errorf("tail of another %s: %v, want corrupt", name, err)
			}
			if _, err := Verify(f.Object, id, nil); !fault.Is(err, fault.Corrupt) {
				t.Errorf("whole of another %s: %v, want corrupt", name, err)
			}
		}
		wrong, err := frame.NewDataKey(bytes.Repeat([]byte{10}, 32))
		must(t, err)
		if _, err := Verify(f.Object, testInfo.Identity, newCipher(t, wrong)); !fault.Is(err, fault.Precondition) {
			t.Errorf("another key: %v, want precondition", err)
		}
	})
}

// counted counts the ranged reads of a store.
type counted struct {
	objstore.Store
	reads int
}

func (c *counted) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	c.reads++
	return c.Store.GetRange(ctx, key, offset, length)
}

// TestTailIsOneRead, of 8 MiB of random blocks; a larger index takes two.
func TestTailIsOneRead(t *testing.T) {
	for name, c := range map[string]struct{ frames, reads int }{"usual": {2000, 1}, "many small frames": {MaxEntries, 2}} {
		w := newTestWriter(t, nil)
		r := rand.New(rand.NewPCG(1, 2))
		payload, with := noise(vlog.BlockSize), frame.None
		if c.frames == MaxEntries {
			payload, with = make([]byte, vlog.BlockSize), frame.Zstd
		}
		at := vlog.Block(0)
		for range c.frames {
			at += 1 + vlog.Block(r.IntN(1<<28/c.frames-1))
			must(t, w.Data(at, payload, with))
		}
		if full := c.frames == MaxEntries; w.Full() != full {
			t.Errorf("%s: full %v, want %v", name, w.Full(), full)
		}
		f := w.Finish()
		store := &counted{Store: stored(t, f.Object)}
		tail, err := ReadTail(t.Context(), store, testInfo.Identity, int64(len(f.Object)), nil)
		must(t, err)
		if store.reads != c.reads || !reflect.DeepEqual(tail.Index, f.Index) {
			t.Errorf("%s: %d reads for %d entries, want %d", name, store.reads, len(tail.Index.Entries), c.reads)
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	run := func(do func(w *Writer) error) error { return do(newTestWriter(t, nil)) }
	block := make([]byte, vlog.BlockSize)
	move := func(m Moved) error {
		return run(func(w *Writer) error { return w.Move(1, block, []Moved{m}, 0) })
	}
	for name, err := range map[string]error{
		"no blocks":       run(func(w *Writer) error { return w.Data(1, nil, 0) }),
		"part of a block": run(func(w *Writer) error { return w.Data(1, block[:100], 0) }),
		"beyond the end":  run(func(w *Writer) error { return w.Data(1<<28, block, 0) }),
		"zeros beyond":    run(func(w *Writer) error { return w.Zero(Zeros, 1, 1<<28) }),
		"zeros overflow":  run(func(w *Writer) error { return w.Zero(Zeros, 1, 1<<63) }),
		"no zeros":        run(func(w *Writer) error { return w.Zero(Zeros, 1, 0) }),
		"zeros of data":   run(func(w *Writer) error { return w.Zero(Data, 1, 1) }),
		"descending": run(func(w *Writer) error {
			must(t, w.Data(5, block, 0))
			return w.Data(4, block, 0)
		}),
		"overlapping": run(func(w *Writer) error {
			must(t, w.Zero(Zeros, 0, 6))
			return w.Data(5, block, 0)
		}),
		"unknown snapshot":   run(func(w *Writer) error { return w.Seal(Seal{Snapshot: "s"}) }),
		"snapshot too large": run(func(w *Writer) error { return w.Seal(Seal{Snapshot: testSnapshot, Blocks: 1<<28 + 1}) }),
		"move of nothing":    move(Moved{Source: testSource, Offset: 80}),
		"move beyond frame":  move(Moved{Source: testSource, Offset: 80, Index: 16, Count: 1}),
		"move unaligned":     move(Moved{Source: testSource, Offset: 81, Count: 1}),
		"move of two":        move(Moved{Source: testSource, Offset: 80, Count: 2}),
	} {
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%s: %v, want internal", name, err)
		}
	}
	c := newCipher(t, nil)
	sample(t, c, 0)
	if _, err := NewWriter(c, testInfo, nil); !fault.Is(err, fault.Internal) {
		t.Errorf("the same sequence again: %v, want internal", err)
	}
}

// TestIndexProperty: random indexes survive, and the encoding is canonical.
func TestIndexProperty(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const blocks = vlog.MaxBlocks
		var x Index
		for range rapid.IntRange(0, 3).Draw(t, "sources") {
			x.Sources = append(x.Sources, Source{Epoch: vlog.Epoch(rapid.Uint64Range(1, uint64(vlog.MaxEpoch)).Draw(t, "epoch")), Sequence: 1})
		}
		at, offset, frames := vlog.Block(0), int64(headBytes), 0
		for range rapid.IntRange(0, 20).Draw(t, "entries") {
			e := Entry{Kind: EntryKind(rapid.IntRange(0, 3).Draw(t, "kind")), First: at + vlog.Block(rapid.Uint64Range(0, 1<<29).Draw(t, "gap"))}
			if e.Kind == Move && len(x.Sources) == 0 {
				e.Kind = Data
			}
			if e.Kind > Move {
				e.Count = rapid.Uint64Range(1, 1<<29).Draw(t, "count")
			} else {
				e.Count = rapid.Uint64Range(1, 16).Draw(t, "count")
				e.Offset, e.Stored = offset, rapid.Int64Range(3, 1<<13-1).Draw(t, "stored")*vlog.Unit
				offset += e.Stored
				frames++
			}
			for left := int(e.Count); e.Kind == Move && left > 0; {
				o := Old{Source: rapid.IntRange(0, len(x.Sources)-1).Draw(t, "source"), Offset: rapid.Int64Range(1, 1<<20-1).Draw(t, "offset") * vlog.Unit}
				o.Count = rapid.IntRange(1, left).Draw(t, "run")
				o.Index = rapid.IntRange(0, 16-o.Count).Draw(t, "index")
				e.From = append(e.From, o)
				left -= o.Count
			}
			at = e.End()
			x.Entries = append(x.Entries, e)
		}
		if rapid.Bool().Draw(t, "sealed") {
			x.Seals = append(x.Seals, Seal{testSnapshot, 5})
		}
		b := x.append(nil)
		got, n, err := decodeIndex(b, blocks, offset, "x")
		if err != nil || n != frames || !reflect.DeepEqual(got, x) {
			t.Fatalf("%v: %d frames\n%+v, want\n%+v", err, n, got, x)
		}
		if !bytes.Equal(got.append(nil), b) {
			t.Fatal("not canonical")
		}
	})
}

func FuzzIndex(f *testing.F) {
	c := newCipher(f, nil)
	s := sample(f, c, frame.None)
	f.Add(s.Index.append(nil), uint64(1<<28), int64(len(s.Object)))
	f.Add([]byte{0, 0, 0}, uint64(0), int64(headBytes))
	f.Fuzz(func(t *testing.T, b []byte, blocks uint64, end int64) {
		blocks = min(blocks, uint64(vlog.MaxBlocks))
		x, _, err := decodeIndex(b, vlog.Block(blocks), end, "x")
		if err != nil {
			return
		}
		if !bytes.Equal(x.append(nil), b) {
			t.Errorf("%x decodes as %+v, which is another encoding", b, x)
		}
		last := vlog.Block(0)
		for _, e := range x.Entries {
			if e.First < last || e.End() > vlog.Block(blocks) || e.Count == 0 {
				t.Errorf("entry %+v behind %d of %d", e, last, blocks)
			}
			last = e.End()
		}
	})
}

func FuzzVerify(f *testing.F) {
	s := sample(f, newCipher(f, nil), frame.None)
	f.Add(s.Object)
	f.Fuzz(func(t *testing.T, b []byte) {
		tail, err := Verify(b, testInfo.Identity, nil)
		if err == nil && tail.SizeBytes != int64(len(b)) {
			t.Error("verified, with another size")
		}
		_, _ = ReadHead(b, "x")
	})
}

// BenchmarkSegment forms and verifies 8 MiB of 4 KiB blocks and of 64 KiB runs.
func BenchmarkSegment(b *testing.B) {
	for name, n := range map[string]int{"4K": 1, "64K": 16} {
		for mode, key := range map[string]*frame.DataKey{"plain": nil, "encrypted": testKey(b)} {
			c := newCipher(b, key)
			payload := noise(n * vlog.BlockSize)
			info, buffer := testInfo, make([]byte, 0, 9<<20)
			info.Sequence = 0
			var last Finished
			b.Run("form/"+mode+name, func(b *testing.B) {
				b.SetBytes(8 << 20)
				for b.Loop() {
					info.Sequence++
					w, err := NewWriter(c, info, buffer)
					must(b, err)
					for i := range 2048 / n {
						must(b, w.Data(vlog.Block(i*1000*n), payload, frame.None))
					}
					last = w.Finish()
				}
			})
			b.Run("tail/"+mode+name, func(b *testing.B) {
				store := memory.New()
				must(b, store.Create(b.Context(), last.Key(), last.Object))
				end := last.Object[len(last.Object)-min(TailBytes, len(last.Object)):]
				for b.Loop() {
					f, err := readFoot(end, int64(len(last.Object)), "x")
					must(b, err)
					_, err = newTail(last.Object[f.indexAt:], f, last.Identity, int64(len(last.Object)), c)
					must(b, err)
				}
			})
			b.Run("verify/"+mode+name, func(b *testing.B) {
				b.SetBytes(8 << 20)
				for b.Loop() {
					_, err := Verify(last.Object, last.Identity, c)
					must(b, err)
				}
			})
		}
	}
}
