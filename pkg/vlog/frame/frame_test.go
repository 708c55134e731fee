package frame

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
)

var (
	testReign = Reign{Log: vlog.LogID{1, 2, 3}, Epoch: 4, Nonce: vlog.Nonce{5, 6}}
	testPlace = Place{Sequence: 7, Offset: 4096, First: 1<<33 + 5}
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newCodec(t testing.TB) *Codec {
	c, err := NewCodec(2)
	must(t, err)
	t.Cleanup(c.Close)
	return c
}

func testKey(t testing.TB, fill byte) *DataKey {
	k, err := NewDataKey(bytes.Repeat([]byte{fill}, 32))
	must(t, err)
	return k
}

func newCipher(t testing.TB, c *Codec, kind vlog.Kind, r Reign, key *DataKey) *Cipher {
	made, err := c.Cipher(kind, r, key)
	must(t, err)
	return made
}

// text compresses; noise does not.
func text(n int) []byte { return bytes.Repeat([]byte("a row of a table, "), n/18+1)[:n] }

func noise(n int) []byte {
	b := make([]byte, n)
	r := rand.NewChaCha8([32]byte{1})
	_, _ = r.Read(b)
	return b
}

// sealAt seals one frame at testPlace and returns it alone.
func sealAt(t testing.TB, c *Cipher, p Place, payload []byte, with Compression) []byte {
	t.Helper()
	return mustSeal(c.seal(make([]byte, p.Offset), p, payload, with))[p.Offset:]
}

func mustSeal(b []byte, _ Tag) []byte { return b }

// modes are the ways in which a frame can be stored.
func modes(t testing.TB, do func(name string, c *Cipher, payload []byte, with Compression)) {
	codec := newCodec(t)
	for name, key := range map[string]*DataKey{"plain": nil, "encrypted": testKey(t, 9)} {
		c := newCipher(t, codec, vlog.SegmentKind, testReign, key)
		do(name+" raw", c, noise(2*vlog.BlockSize), None)
		do(name+" zstd", c, text(2*vlog.BlockSize), Zstd)
		do(name+" zstd that does not pay", c, noise(2*vlog.BlockSize), Zstd)
	}
}

func TestRoundTrip(t *testing.T) {
	modes(t, func(name string, c *Cipher, payload []byte, with Compression) {
		stored := sealAt(t, c, testPlace, payload, with)
		for _, before := range [][]byte{nil, []byte("before"), make([]byte, 3, 1<<20)} {
			got, err := c.Open(before, stored, testPlace, "x")
			if err != nil || !bytes.Equal(got, append(bytes.Clone(before), payload...)) {
				t.Errorf("%s: %d bytes behind %d, %v", name, len(got), len(before), err)
			}
		}
		if int64(len(stored)) > size(len(payload)) {
			t.Errorf("%s: %d bytes of payload became %d", name, len(payload), len(stored))
		}
		if smaller := len(stored) < len(payload); smaller != (name == "plain zstd" || name == "encrypted zstd") {
			t.Errorf("%s: %d bytes of payload became %d", name, len(payload), len(stored))
		}
	})
}

// TestEveryDamageIsSeen flips every byte, truncates and extends.
func TestEveryDamageIsSeen(t *testing.T) {
	modes(t, func(name string, c *Cipher, payload []byte, with Compression) {
		stored := sealAt(t, c, testPlace, payload, with)
		refuse := func(what string, i int, b []byte) {
			got, err := c.Open([]byte("dst"), b, testPlace, "x")
			if !fault.Is(err, fault.Corrupt) || string(got) != "dst" {
				t.Errorf("%s, %s %d: got %d bytes, %v, want corrupt", name, what, i, len(got), err)
			}
		}
		for i := range stored {
			b := bytes.Clone(stored)
			b[i] ^= 0x10
			refuse("flipped", i, b)
		}
		for i := 0; i < len(stored); i += 7 {
			refuse("truncated to", i, stored[:i])
		}
		refuse("extended", 16, append(bytes.Clone(stored), make([]byte, 16)...))
	})
}

// TestDamageWithItsChecksumIsSeen: what the store's own errors cannot do but an
// intruder can: the checksum is made right again. Flags that must be understood
// are then Unsupported, and everything else is Corrupt but what is ignored.
func TestDamageWithItsChecksumIsSeen(t *testing.T) {
	modes(t, func(name string, c *Cipher, payload []byte, with Compression) {
		stored := sealAt(t, c, testPlace, payload, with)
		h, err := Parse(stored, "x")
		must(t, err)
		for i := range 16 + h.Payload + tagBytes {
			b := bytes.Clone(stored)
			b[i] ^= 0x10
			fix(b)
			_, err := c.Open(nil, b, testPlace, "x")
			want := fault.Corrupt
			if i == 0 || i == 2 {
				want = fault.Unsupported
			}
			if i < 8 || i >= 12 {
				if !fault.Is(err, want) {
					t.Errorf("%s, flipped %d: %v, want %s", name, i, err, want)
				}
			}
		}
	})
}

func fix(stored []byte) {
	sum := checksum(stored)
	stored[8], stored[9], stored[10], stored[11] = byte(sum), byte(sum>>8), byte(sum>>16), byte(sum>>24)
}

// TestMisplacedIsSeen: a whole frame at any other place does not pass.
func TestMisplacedIsSeen(t *testing.T) {
	codec := newCodec(t)
	for name, key := range map[string]*DataKey{"plain": nil, "encrypted": testKey(t, 9)} {
		c := newCipher(t, codec, vlog.SegmentKind, testReign, key)
		stored := sealAt(t, c, testPlace, text(vlog.BlockSize), Zstd)
		for what, p := range map[string]Place{
			"sequence":         {8, testPlace.Offset, testPlace.First},
			"offset":           {7, testPlace.Offset + 16, testPlace.First},
			"block":            {7, testPlace.Offset, testPlace.First + 1},
			"block, high half": {7, testPlace.Offset, testPlace.First + 1<<32},
		} {
			if _, err := c.Open(nil, stored, p, "x"); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s, another %s: %v, want corrupt", name, what, err)
			}
		}
		other := testReign
		other.Log[15]++
		later := testReign
		later.Epoch++
		racing := testReign
		racing.Nonce[15]++
		for what, c := range map[string]*Cipher{
			"log":   newCipher(t, codec, vlog.SegmentKind, other, key),
			"epoch": newCipher(t, codec, vlog.SegmentKind, later, key),
			"nonce": newCipher(t, codec, vlog.SegmentKind, racing, key),
			"kind":  newCipher(t, codec, vlog.TableKind, testReign, key),
			"key":   newCipher(t, codec, vlog.SegmentKind, testReign, testKey(t, 10)),
		} {
			if _, err := c.Open(nil, stored, testPlace, "x"); !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s, another %s: %v, want corrupt", name, what, err)
			}
		}
	}
}

// TestGolden pins format version 1. Files whose bytes do not depend on the
// compressor are compared; all are opened. HOLKAS_WRITE_GOLDEN=1 writes missing
// ones; one that exists is never written again.
func TestGolden(t *testing.T) {
	modes(t, func(name string, c *Cipher, payload []byte, with Compression) {
		file := filepath.Join("testdata", "format-1", strings.ReplaceAll(name, " ", "-"))
		stored := sealAt(t, c, testPlace, payload, with)
		if _, err := os.Stat(file); os.IsNotExist(err) && os.Getenv("HOLKAS_WRITE_GOLDEN") != "" {
			must(t, os.WriteFile(file, stored, 0o644))
		}
		want, err := os.ReadFile(file)
		must(t, err)
		if with == None && !bytes.Equal(stored, want) {
			t.Errorf("%s: sealed otherwise than format version 1", name)
		}
		got, err := c.Open(nil, want, testPlace, name)
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("%s: %d bytes, %v", name, len(got), err)
		}
	})
	if got, want := testKey(t, 9).ID().String(), "737da3a7b859161fdccb1248f40bb041"; got != want {
		t.Errorf("key id %s, want %s", got, want)
	}
}

// TestBomb: a payload that says it is small and is not stops at its bound.
func TestBomb(t *testing.T) {
	codec := newCodec(t)
	c := newCipher(t, codec, vlog.SegmentKind, testReign, nil)
	for _, n := range []int{vlog.BlockSize, 3 * vlog.BlockSize, 1 << 16} {
		small := codec.encoder.EncodeAll(make([]byte, n), nil)
		b := []byte{byte(Zstd), 2, 0, 0, byte(len(small)), 0, 0, 0, 0, 0, 0, 0, byte(testPlace.First), 0, 0, 0}
		tag := codec.digest(small, c.binding(testPlace, b))
		b = append(append(b, small...), tag[:]...)
		b = append(b, make([]byte, size(len(small))-int64(len(b)))...)
		fix(b)
		if _, err := c.Open(nil, b, testPlace, "x"); !fault.Is(err, fault.Corrupt) {
			t.Errorf("2 blocks that are %d bytes: %v, want corrupt", n, err)
		}
	}
}

func TestSealerRefuses(t *testing.T) {
	c := newCipher(t, newCodec(t), vlog.SegmentKind, testReign, nil)
	s, err := c.Object(3)
	must(t, err)
	for _, again := range []vlog.Sequence{0, 2, 3, vlog.MaxSequence + 1} {
		if _, err := c.Object(again); !fault.Is(err, fault.Internal) {
			t.Errorf("sequence %d after 3: %v, want internal", again, err)
		}
	}
	object, _, err := s.Append(make([]byte, 80), 0, text(vlog.BlockSize), None)
	must(t, err)
	for _, row := range []struct {
		name    string
		object  []byte
		payload []byte
		want    fault.Kind
	}{
		{"same place", object[:80], text(vlog.BlockSize), fault.Internal},
		{"earlier place", object[:64], text(vlog.BlockSize), fault.Internal},
		{"unaligned", append(object, 1), text(vlog.BlockSize), fault.Internal},
		{"no block", object, nil, fault.Internal},
		{"part of a block", object, text(100), fault.Internal},
		{"17 blocks", object, text(17 * vlog.BlockSize), fault.Internal},
		{"beyond pointers", make([]byte, vlog.MaxFrameOffset+16), text(vlog.BlockSize), fault.OutOfRange},
	} {
		if got, _, err := s.Append(row.object, 0, row.payload, None); !fault.Is(err, row.want) || len(got) != len(row.object) {
			t.Errorf("%s: %v, want %s", row.name, err, row.want)
		}
	}
}

// TestNoncesAreUnique records every (key, nonce) that histories of reigns use
// with crashes, replays of the same content and misbehaving callers.
func TestNoncesAreUnique(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	codec, key := newCodec(t), testKey(t, 9)
	used := map[string]bool{}
	for epoch := range vlog.Epoch(20) {
		reign := Reign{Log: vlog.LogID{1}, Epoch: epoch + 1, Nonce: vlog.NewNonce()}
		for _, kind := range []vlog.Kind{vlog.SegmentKind, vlog.TableKind} {
			c := newCipher(t, codec, kind, reign, key)
			for range 30 {
				sequence := vlog.Sequence(r.IntN(20))
				s, err := c.Object(sequence)
				if err != nil {
					continue
				}
				object := make([]byte, 80)
				for range 5 {
					at := int64(len(object))
					next, _, err := s.Append(object, uint64(r.IntN(4)), text(vlog.BlockSize), Compression(r.IntN(2)))
					if err == nil {
						nonce := Place{Sequence: sequence, Offset: at}.nonce()
						id := string(c.mac) + string(nonce[:])
						if used[id] {
							t.Fatalf("epoch %d, %s %d at %d: a nonce is used again", epoch+1, kind, sequence, at)
						}
						used[id] = true
						object = next
					}
					if r.IntN(4) == 0 { // an attempt to start over
						object = object[:80]
					}
				}
			}
		}
	}
	if len(used) < 200 {
		t.Errorf("only %d frames sealed", len(used))
	}
}

// TestOneRead: a block by its pointer is one ranged read of the frame's bytes.
func TestOneRead(t *testing.T) {
	c := newCipher(t, newCodec(t), vlog.SegmentKind, testReign, testKey(t, 9))
	s, err := c.Object(1)
	must(t, err)
	payload := noise(3 * vlog.BlockSize)
	object, _, err := s.Append(make([]byte, 80), 100, payload, Zstd)
	must(t, err)
	store := memory.New()
	key := vlog.Keys{Log: testReign.Log}.Segment(vlog.Position{Epoch: testReign.Epoch, Sequence: 1})
	must(t, store.Create(t.Context(), key, object))
	stored := int64(len(object) - 80)
	for i := range 3 {
		got, err := c.Read(t.Context(), store, 1, vlog.NewPointer(5, 80, stored, i), uint64(100+i), nil)
		if err != nil || !bytes.Equal(got, payload) {
			t.Errorf("block %d: %d bytes, %v", i, len(got), err)
		}
	}
	for name, row := range map[string]struct {
		at    vlog.Pointer
		block uint64
		want  fault.Kind
	}{
		"hole":           {0, 100, fault.Corrupt},
		"another block":  {vlog.NewPointer(5, 80, stored, 0), 101, fault.Corrupt},
		"beyond frame":   {vlog.NewPointer(5, 80, stored, 3), 103, fault.Corrupt},
		"before block 0": {vlog.NewPointer(5, 80, stored, 3), 2, fault.Corrupt},
		"too short":      {vlog.NewPointer(5, 80, stored-16, 0), 100, fault.Corrupt},
		"beyond object":  {vlog.NewPointer(5, 80+stored, 16, 0), 100, fault.Corrupt},
	} {
		if got, err := c.Read(t.Context(), store, 1, row.at, row.block, nil); !fault.Is(err, row.want) || len(got) != 0 {
			t.Errorf("%s: %d bytes, %v, want %s", name, len(got), err, row.want)
		}
	}
	if _, err := c.Read(t.Context(), store, 2, vlog.NewPointer(5, 80, stored, 0), 100, nil); !fault.Is(err, fault.NotFound) {
		t.Errorf("absent object: %v, want not found", err)
	}
}

func TestKeyHidesItself(t *testing.T) {
	k := testKey(t, 'K')
	for _, s := range []string{k.String(), k.GoString()} {
		if bytes.Contains([]byte(s), []byte("KKKK")) || bytes.Contains([]byte(s), []byte("4b4b4b")) {
			t.Errorf("the key prints as %q", s)
		}
	}
	if _, err := NewDataKey(make([]byte, 31)); !fault.Is(err, fault.Invalid) {
		t.Errorf("31 bytes: %v, want invalid", err)
	}
	var none *DataKey
	if none.ID() != (KeyID{}) {
		t.Error("no key has an id")
	}
}

func TestMAC(t *testing.T) {
	codec := newCodec(t)
	c, other := newCipher(t, codec, vlog.TableKind, testReign, testKey(t, 1)), newCipher(t, codec, vlog.TableKind, testReign, testKey(t, 2))
	d := vlog.Digest{1}
	must(t, c.CheckMAC(d, c.MAC(d), c.KeyID(), "x"))
	if err := other.CheckMAC(d, c.MAC(d), c.KeyID(), "x"); !fault.Is(err, fault.Precondition) {
		t.Errorf("another key: %v, want precondition", err)
	}
	if err := c.CheckMAC(vlog.Digest{2}, c.MAC(d), c.KeyID(), "x"); !fault.Is(err, fault.Corrupt) {
		t.Errorf("another digest: %v, want corrupt", err)
	}
}

func FuzzOpen(f *testing.F) {
	codec := newCodec(f)
	plain := newCipher(f, codec, vlog.SegmentKind, testReign, nil)
	f.Add(sealAt(f, plain, testPlace, text(vlog.BlockSize), Zstd), true)
	f.Add(sealAt(f, plain, testPlace, text(2*vlog.BlockSize), None), false)
	f.Fuzz(func(t *testing.T, b []byte, repair bool) {
		if repair && len(b) >= Overhead {
			fix(b)
			if h, err := Parse(b, "x"); err == nil { // reach the decompressor
				tag := codec.digest(b[16:16+h.Payload], plain.binding(testPlace, b))
				copy(b[16+h.Payload:], tag[:])
				fix(b)
			}
		}
		got, err := plain.Open(nil, b, testPlace, "x")
		if err == nil && (len(got) == 0 || len(got) > MaxPayload || len(got)%vlog.BlockSize != 0) || err != nil && len(got) != 0 {
			t.Errorf("%d bytes, %v", len(got), err)
		}
	})
}

func BenchmarkSeal(b *testing.B) {
	codec := newCodec(b)
	for _, mode := range []struct {
		name    string
		key     *DataKey
		payload []byte
		with    Compression
	}{
		{"plain4K", nil, noise(vlog.BlockSize), None},
		{"plain64K", nil, noise(MaxPayload), None},
		{"encrypted4K", testKey(b, 1), noise(vlog.BlockSize), None},
		{"encrypted64K", testKey(b, 1), noise(MaxPayload), None},
		{"zstdText64K", nil, text(MaxPayload), Zstd},
		{"zstdNoise64K", nil, noise(MaxPayload), Zstd},
		{"zstdNoise4K", nil, noise(vlog.BlockSize), Zstd},
	} {
		c := newCipher(b, codec, vlog.SegmentKind, testReign, mode.key)
		object := make([]byte, 80, 80+MaxBytes)
		b.Run("seal/"+mode.name, func(b *testing.B) {
			b.SetBytes(int64(len(mode.payload)))
			b.ReportAllocs()
			for b.Loop() {
				c.seal(object, testPlace, mode.payload, mode.with)
			}
		})
		stored := sealAt(b, c, testPlace, mode.payload, mode.with)
		dst := make([]byte, 0, MaxPayload)
		b.Run("open/"+mode.name, func(b *testing.B) {
			b.SetBytes(int64(len(mode.payload)))
			b.ReportAllocs()
			for b.Loop() {
				_, err := c.Open(dst, stored, testPlace, "x")
				must(b, err)
			}
		})
	}
}
