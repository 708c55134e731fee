package vlog_test

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
)

var kinds = []vlog.Kind{vlog.SegmentKind, vlog.TableKind, vlog.CheckpointKind}

func TestLogIDIsCanonical(t *testing.T) {
	id := vlog.NewLogID()
	if got, err := vlog.ParseLogID(id.String()); err != nil || got != id {
		t.Errorf("%s parses as %s, %v", id, got, err)
	}
	for _, other := range []string{"", "l-", "v" + id.String()[1:], id.String() + "a", strings.ToUpper(id.String()), id.String()[:27] + "\n"} {
		if _, err := vlog.ParseLogID(other); !fault.Is(err, fault.NotFound) {
			t.Errorf("ParseLogID(%q): %v, want not found", other, err)
		}
	}
	accepted := 0
	for _, c := range "abcdefghijklmnopqrstuvwxyz234567" {
		if _, err := vlog.ParseLogID(id.String()[:27] + string(c)); err == nil {
			accepted++
		}
	}
	if accepted != 8 { // the 26th letter carries 3 bits
		t.Errorf("%d spellings of the last letter accepted, want 8", accepted)
	}
}

func position(t *rapid.T) vlog.Position {
	return vlog.Position{
		Epoch:    vlog.Epoch(rapid.Uint64Range(1, uint64(vlog.MaxEpoch)).Draw(t, "epoch")),
		Sequence: vlog.Sequence(rapid.Uint64Range(0, uint64(vlog.MaxSequence)).Draw(t, "sequence")),
	}
}

// TestKeyOrderIsPositionOrder: a listing in the order of keys is one in the order
// of positions, and every key parses back and is one that stores take.
func TestKeyOrderIsPositionOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		k := vlog.Keys{Log: vlog.NewLogID()}
		p, q := position(t), position(t)
		for _, kind := range kinds {
			key := k.Object(kind, p)
			if got, err := k.ParseObject(kind, key); err != nil || got != p {
				t.Fatalf("%s parses as %s, %v", key, got, err)
			}
			if err := objstore.ValidateKey(key); err != nil {
				t.Fatal(err)
			}
			if got := strings.Compare(key, k.Object(kind, q)); got != p.Compare(q) {
				t.Fatalf("keys of %s and %s compare as %d", p, q, got)
			}
			if !strings.HasPrefix(key, k.OfEpoch(kind, p.Epoch)) {
				t.Fatalf("%s lacks the prefix of its epoch", key)
			}
		}
		if got, err := k.ParseEpoch(k.Epoch(p.Epoch)); err != nil || got != p.Epoch {
			t.Fatalf("epoch %d parses as %d, %v", p.Epoch, got, err)
		}
	})
}

// TestNoKeyIsAPrefix: no key of the layout is another one's beginning up to a
// slash, since some stores cannot hold both.
func TestNoKeyIsAPrefix(t *testing.T) {
	k := vlog.Keys{Log: vlog.NewLogID()}
	keys := []string{k.Base(), k.Epoch(1)}
	for _, kind := range kinds {
		keys = append(keys, k.Object(kind, vlog.Position{Epoch: 1, Sequence: 2}))
	}
	for _, a := range keys {
		if slices.ContainsFunc(keys, func(b string) bool { return strings.HasPrefix(b, a+"/") }) {
			t.Errorf("%s is the beginning of another key", a)
		}
	}
}

func TestForeignKeysAreCorrupt(t *testing.T) {
	k, other := vlog.Keys{Log: vlog.NewLogID()}, vlog.Keys{Log: vlog.NewLogID()}
	p := vlog.Position{Epoch: 3, Sequence: 7}
	for _, key := range []string{
		"", k.Folder(vlog.SegmentKind), other.Segment(p), k.Checkpoint(p), k.Segment(p) + "0", k.Segment(p)[1:],
		k.Folder(vlog.SegmentKind) + "0000000000-000000000001", k.Folder(vlog.SegmentKind) + "+000000001-000000000001",
		k.Folder(vlog.SegmentKind) + "0000000001_000000000001",
	} {
		if _, err := k.ParseObject(vlog.SegmentKind, key); !fault.Is(err, fault.Corrupt) {
			t.Errorf("ParseObject(%q): %v, want corrupt", key, err)
		}
	}
	for _, key := range []string{"", k.Epochs(), other.Epoch(1), k.Epoch(0), k.Epoch(1) + "1"} {
		if _, err := k.ParseEpoch(key); !fault.Is(err, fault.Corrupt) {
			t.Errorf("ParseEpoch(%q): %v, want corrupt", key, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	k := vlog.Keys{}
	f.Add(k.Log.String())
	f.Add(k.Epoch(1))
	f.Add(k.Segment(vlog.Position{Epoch: 1, Sequence: 1}))
	f.Fuzz(func(t *testing.T, s string) {
		if id, err := vlog.ParseLogID(s); err == nil && id.String() != s {
			t.Errorf("log id %q renders as %q", s, id)
		}
		if n, err := k.ParseEpoch(s); err == nil && k.Epoch(n) != s {
			t.Errorf("epoch key %q renders as %q", s, k.Epoch(n))
		}
		if p, err := k.ParseObject(vlog.SegmentKind, s); err == nil && (k.Segment(p) != s || !p.Valid()) {
			t.Errorf("segment key %q renders as %q", s, k.Segment(p))
		}
	})
}

func TestPointerHoldsItsFields(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		object := rapid.Uint32Range(0, vlog.MaxObjects-1).Draw(t, "object")
		offset := rapid.Int64Range(1, vlog.MaxFrameOffset/vlog.Unit).Draw(t, "offset") * vlog.Unit
		stored := rapid.Int64Range(1, vlog.MaxFrameBytes/vlog.Unit).Draw(t, "stored") * vlog.Unit
		index := rapid.IntRange(0, vlog.FrameBlocks-1).Draw(t, "index")
		p := vlog.NewPointer(object, offset, stored, index)
		if p.Object() != object || p.Offset() != offset || p.Stored() != stored || p.Index() != index || !p.Valid() || p.Hole() {
			t.Fatalf("%d %d %d %d became %s", object, offset, stored, index, p)
		}
	})
}

func TestPointerBounds(t *testing.T) {
	for _, p := range []vlog.Pointer{1, 1 << 17, 1 << 4, 1<<63 | vlog.NewPointer(1, 16, 16, 0)} {
		if p.Valid() {
			t.Errorf("%x is valid", uint64(p))
		}
	}
	for _, bad := range []func(){
		func() { vlog.NewPointer(vlog.MaxObjects, 16, 16, 0) },
		func() { vlog.NewPointer(0, 0, 16, 0) },
		func() { vlog.NewPointer(0, vlog.MaxFrameOffset+16, 16, 0) },
		func() { vlog.NewPointer(0, 17, 16, 0) },
		func() { vlog.NewPointer(0, 16, vlog.MaxFrameBytes+16, 0) },
		func() { vlog.NewPointer(0, 16, 16, 16) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Error("a pointer out of bounds was formed")
				}
			}()
			bad()
		}()
	}
}

// TestChainPins pins the chain's definition: it is stored.
func TestChainPins(t *testing.T) {
	c := vlog.Chain{}.Begin(vlog.LogID{1}, 2, vlog.Nonce{3}).Next(vlog.Digest{4})
	const want = "17d6020c8c3109529cdb5b4ba5bd04ba8e1c845656a61c85aa79aa469822e822"
	if c.String() != want {
		t.Errorf("chain %s, want %s", c, want)
	}
}
