package page

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

var testReign = frame.Reign{Log: vlog.LogID{1, 2, 3}, Epoch: 4, Nonce: vlog.Nonce{5, 6}}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newCipher(t testing.TB, fill byte) *frame.Cipher {
	codec, err := frame.NewCodec(1)
	must(t, err)
	t.Cleanup(codec.Close)
	var key *frame.DataKey
	if fill != 0 {
		key, err = frame.NewDataKey(bytes.Repeat([]byte{fill}, 32))
		must(t, err)
	}
	c, err := codec.Cipher(vlog.TableKind, testReign, key)
	must(t, err)
	return c
}

func words(seed uint64) *table.Words {
	r := rand.New(rand.NewPCG(seed, 1))
	w := new(table.Words)
	for i := range w {
		if r.IntN(10) > 0 {
			w[i] = vlog.NewPointer(uint32(r.IntN(1<<10)), 16*(1+r.Int64N(1<<19)), 4128, r.IntN(16))
		}
	}
	return w
}

var testPages = []table.Page{0, 1, 7, table.DirectoryPage(0), table.DirectoryPage(3)}

func sample(t testing.TB, c *frame.Cipher, with frame.Compression) Finished {
	w, err := NewWriter(c, 7, with, nil)
	must(t, err)
	for _, p := range testPages {
		must(t, w.Add(p, words(uint64(p))))
	}
	f, err := w.Finish()
	must(t, err)
	return f
}

func modes(t *testing.T, do func(t *testing.T, c *frame.Cipher, f Finished)) {
	for name, fill := range map[string]byte{"plain": 0, "encrypted": 9} {
		t.Run(name, func(t *testing.T) {
			c := newCipher(t, fill)
			do(t, c, sample(t, c, frame.Compression(min(fill, 1))))
		})
	}
}

func TestRoundTrip(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, f Finished) {
		store := memory.New()
		must(t, store.Create(t.Context(), f.Key, f.Object))
		pager := Pager{Find: func(uint32) (Found, error) { return Found{store, c, 7}, nil }}
		for i, p := range f.Placed {
			var got table.Words
			must(t, pager.Load(t.Context(), p.Page, p.Pointer(3), &got))
			if p.Page != testPages[i] || got != *words(uint64(p.Page)) {
				t.Errorf("page %d, want %d with its words", p.Page, testPages[i])
			}
			if err := pager.Load(t.Context(), p.Page+1, p.Pointer(3), &got); !fault.Is(err, fault.Corrupt) {
				t.Errorf("page %d in another's place: %v, want corrupt", p.Page, err)
			}
		}
		for _, cipher := range []*frame.Cipher{c, nil} {
			digest, placed, err := Verify(f.Object, testReign, 7, cipher)
			if err != nil || digest != f.Digest || !slices.Equal(placed, f.Placed) {
				t.Errorf("verified %s, %v, %v", digest, placed, err)
			}
		}
		other, err := newCodecOf(t).Cipher(vlog.SegmentKind, testReign, nil)
		must(t, err)
		pager = Pager{Find: func(uint32) (Found, error) { return Found{store, other, 7}, nil }}
		if err := pager.Load(t.Context(), 0, f.Placed[0].Pointer(3), new(table.Words)); !fault.Is(err, fault.Corrupt) {
			t.Errorf("a page in a segment: %v, want corrupt", err)
		}
	})
}

func newCodecOf(t testing.TB) *frame.Codec {
	codec, err := frame.NewCodec(1)
	must(t, err)
	t.Cleanup(codec.Close)
	return codec
}

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
		_, placed, err := Verify(want, testReign, 7, c)
		must(t, err)
		store := memory.New()
		must(t, store.Create(t.Context(), f.Key, want))
		pager := Pager{Find: func(uint32) (Found, error) { return Found{store, c, 7}, nil }}
		for i, p := range placed {
			var got table.Words
			must(t, pager.Load(t.Context(), p.Page, p.Pointer(0), &got))
			if p.Page != testPages[i] || got != *words(uint64(p.Page)) {
				t.Errorf("page %d", p.Page)
			}
		}
	})
}

func TestEveryDamageIsSeen(t *testing.T) {
	modes(t, func(t *testing.T, c *frame.Cipher, f Finished) {
		for i := range f.Object {
			b := bytes.Clone(f.Object)
			b[i] ^= 0x40
			cipher := []*frame.Cipher{c, nil}[i%2]
			if _, _, err := Verify(b, testReign, 7, cipher); !fault.Is(err, fault.Corrupt) {
				t.Fatalf("byte %d flipped: %v, want corrupt", i, err)
			}
		}
		for n := 0; n < len(f.Object); n += 11 {
			if _, _, err := Verify(f.Object[:n], testReign, 7, c); !fault.Is(err, fault.Corrupt) {
				t.Errorf("truncated to %d: %v, want corrupt", n, err)
			}
		}
		later := testReign
		later.Epoch++
		if _, _, err := Verify(f.Object, later, 7, nil); !fault.Is(err, fault.Corrupt) {
			t.Errorf("of another epoch: %v, want corrupt", err)
		}
		if _, _, err := Verify(f.Object, testReign, 8, nil); !fault.Is(err, fault.Corrupt) {
			t.Errorf("of another sequence: %v, want corrupt", err)
		}
		if _, _, err := Verify(f.Object, testReign, 7, newCipher(t, 10)); !fault.Is(err, fault.Precondition) {
			t.Errorf("another key: %v, want precondition", err)
		}
	})
}

// TestWriter: order, runs longer than a frame, and being full.
func TestWriter(t *testing.T) {
	w, err := NewWriter(newCipher(t, 0), 1, frame.None, nil)
	must(t, err)
	n := 0
	for ; !w.Full(); n++ {
		must(t, w.Add(table.Page(n), words(1)))
	}
	if err := w.Add(table.Page(n), words(1)); !fault.Is(err, fault.Internal) {
		t.Errorf("page in a full object: %v, want internal", err)
	}
	f, err := w.Finish()
	must(t, err)
	if _, placed, err := Verify(f.Object, testReign, 1, nil); err != nil || len(placed) != n || n < 4000 {
		t.Errorf("%d pages of %d, %v", len(placed), n, err)
	}
	w, err = NewWriter(newCipher(t, 0), 2, frame.None, nil)
	must(t, err)
	must(t, w.Add(5, words(1)))
	if err := w.Add(5, words(1)); !fault.Is(err, fault.Internal) {
		t.Errorf("a page twice: %v, want internal", err)
	}
}

func FuzzVerify(f *testing.F) {
	f.Add(sample(f, newCipher(f, 0), frame.None).Object)
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _, _ = Verify(b, testReign, 7, nil)
	})
}

// BenchmarkPages packs and loads pages of random and of sequential content.
func BenchmarkPages(b *testing.B) {
	sequential := new(table.Words)
	for i := range sequential {
		sequential[i] = vlog.NewPointer(77, 80+int64(i/16)*65568, 65568, i%16)
	}
	for name, page := range map[string]*table.Words{"random": words(1), "sequential": sequential} {
		for step, what := range map[table.Page]string{1: "neighbours", 2: "alone"} {
			c := newCipher(b, 0)
			var f Finished
			s := vlog.Sequence(0)
			b.Run("pack/"+name+"/"+what, func(b *testing.B) {
				b.SetBytes(1000 * table.LeafBytes)
				for b.Loop() {
					s++
					w, err := NewWriter(c, s, frame.Zstd, f.Object)
					must(b, err)
					for i := range table.Page(1000) {
						must(b, w.Add(i*step, page))
					}
					f, err = w.Finish()
					must(b, err)
				}
				b.ReportMetric(float64(len(f.Object))/1000, "B/page")
			})
		}
	}
}
