package journal

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

var update = flag.Bool("update", false, "write the golden files of the current version")

// goldenHeaders has one header of each type.
func goldenHeaders() map[string]*header {
	h := func(typ recordType, bytes int64) *header {
		return &header{
			cursor: cursor{at: 3 << 20, run: 0x1122334455667788, epoch: 7, link: 0xdeadbeef},
			typ:    typ, incarnation: 0x99aabbccddeeff00, durable: 2 << 20, bytes: bytes,
		}
	}
	changes, seal := h(changesRecord, 4*block), h(sealRecord, block)
	changes.changes = []change{
		{kind: Data, first: 12, count: 2, sums: []uint32{1, 2}},
		{kind: Discarded, first: 1 << 20, count: 1 << 30},
		{kind: Data, first: vlog.MaxBlocks - 1, count: 1, sums: []uint32{0xffffffff}},
		{kind: Zeros, first: 0, count: 1},
	}
	seal.seal = Seal{Snapshot: testSnapshot, Blocks: 1 << 28}
	return map[string]*header{
		"changes": changes, "seal": seal, "epoch": h(epochRecord, block), "pad": h(padRecord, 9*block), "clean": h(cleanRecord, block),
	}
}

func goldenSuperblock() superblock {
	return superblock{
		generation: 12, volume: testVolume, log: testLog, incarnation: 0x99aabbccddeeff00, size: 4 << 30,
		tail: cursor{at: 5 << 30, run: 0x1122334455667788, epoch: 7, link: 0xdeadbeef}, durable: 6 << 30, filled: 4 << 30,
	}
}

// golden returns the stored block of this name.
func golden(t *testing.T, name string, now []byte) []byte {
	t.Helper()
	path := filepath.Join("testdata", "format-1", name)
	if *update {
		must(t, os.MkdirAll(filepath.Dir(path), 0o755))
		must(t, os.WriteFile(path, now, 0o644))
	}
	b, err := os.ReadFile(path)
	must(t, err)
	return b
}

// TestFormat1: what version 1 wrote is read for ever, and written the same.
func TestFormat1(t *testing.T) {
	for name, want := range goldenHeaders() {
		b := make([]byte, block)
		want.put(b)
		stored := golden(t, name, b)
		if !bytes.Equal(stored, b) {
			t.Errorf("%s is written differently", name)
		}
		got, err := decodeHeader(stored, name)
		must(t, err)
		if !reflect.DeepEqual(got, *want) {
			t.Errorf("%s: got %+v, want %+v", name, got, *want)
		}
	}
	b := make([]byte, block)
	goldenSuperblock().put(b)
	stored := golden(t, "superblock", b)
	got, err := decodeSuperblock(stored, "superblock")
	must(t, err)
	if got != goldenSuperblock() || !bytes.Equal(stored, b) {
		t.Errorf("superblock: got %+v, want %+v", got, goldenSuperblock())
	}
}

// resealed changes a block and makes its checksum right again.
func resealed(b []byte, change func([]byte)) []byte {
	b = bytes.Clone(b)
	change(b)
	le.PutUint32(b[crcAt:], crc(b[:crcAt]))
	return b
}

// TestEveryDamageIsSeen: each byte of each block, in turn.
func TestEveryDamageIsSeen(t *testing.T) {
	blocks := map[string][]byte{"superblock": make([]byte, block)}
	goldenSuperblock().put(blocks["superblock"])
	for name, h := range goldenHeaders() {
		blocks[name] = make([]byte, block)
		h.put(blocks[name])
	}
	for name, whole := range blocks {
		for i := range whole {
			b := bytes.Clone(whole)
			b[i] ^= 0x10
			_, err := decodeSuperblock(b, name)
			if name != "superblock" {
				_, err = decodeHeader(b, name)
			}
			if !fault.Is(err, fault.Corrupt) {
				t.Errorf("%s, byte %d: %v, want corrupt", name, i, err)
			}
		}
	}
}

// TestVersionsAndFlags: news is told from damage.
func TestVersionsAndFlags(t *testing.T) {
	h, s := make([]byte, block), make([]byte, block)
	goldenHeaders()["changes"].put(h)
	goldenSuperblock().put(s)
	for _, c := range []struct {
		name   string
		change func(b []byte)
		want   fault.Kind
		ok     bool
	}{
		{"as it is", func([]byte) {}, 0, true},
		{"a later version", func(b []byte) { b[8] = 2 }, fault.Unsupported, false},
		{"a later version that looks different", func(b []byte) { b[8], b[200], b[4000] = 2, 1, 1 }, fault.Unsupported, false},
		{"version 0", func(b []byte) { b[8] = 0 }, fault.Corrupt, false},
		{"a flag to understand", func(b []byte) { b[11] = 0x80 }, fault.Unsupported, false},
		{"a flag to ignore", func(b []byte) { b[12], b[4000] = 1, 9 }, 0, true},
		{"bytes that nothing announces", func(b []byte) { b[4000] = 9 }, fault.Corrupt, false},
	} {
		_, err := decodeHeader(resealed(h, c.change), "header")
		if (err == nil) != c.ok || !c.ok && !fault.Is(err, c.want) {
			t.Errorf("header, %s: %v, want %s", c.name, err, c.want)
		}
		_, err = decodeSuperblock(resealed(s, c.change), "superblock")
		if (err == nil) != c.ok || !c.ok && !fault.Is(err, c.want) {
			t.Errorf("superblock, %s: %v, want %s", c.name, err, c.want)
		}
	}
	_, err := decodeSuperblock(resealed(s, func(b []byte) { b[70] = 1 }), "superblock")
	mustBe(t, err, fault.Unsupported) // sealed with a key
}

// TestForgedFields: a right checksum around what no writer writes.
func TestForgedFields(t *testing.T) {
	h := make([]byte, block)
	goldenHeaders()["changes"].put(h)
	for name, change := range map[string]func(b []byte){
		"type":                func(b []byte) { b[14] = 6 },
		"a seal with changes": func(b []byte) { b[14] = 2 },
		"position":            func(b []byte) { b[40]++ },
		"durable ahead":       func(b []byte) { le.PutUint64(b[48:], 3<<20+block) },
		"epoch 0":             func(b []byte) { le.PutUint64(b[32:], 0) },
		"length":              func(b []byte) { le.PutUint32(b[56:], 3*block) },
		"length 0":            func(b []byte) { le.PutUint32(b[56:], 0) },
		"no changes":          func(b []byte) { le.PutUint32(b[64:], 0) },
		"too many changes":    func(b []byte) { le.PutUint32(b[64:], 1<<31) },
		"more changes":        func(b []byte) { le.PutUint32(b[64:], 5) },
		"kind":                func(b []byte) { b[bodyAt+7] = 1 },
		"block":               func(b []byte) { b[bodyAt+6] = 1 },
		"count":               func(b []byte) { le.PutUint64(b[bodyAt+8:], 1<<40) },
		"count 0":             func(b []byte) { le.PutUint64(b[bodyAt+8:], 0) },
	} {
		if _, err := decodeHeader(resealed(h, change), "header"); !fault.Is(err, fault.Corrupt) {
			t.Errorf("%s: %v, want corrupt", name, err)
		}
	}
	s := make([]byte, block)
	goldenSuperblock().put(s)
	for name, change := range map[string]func(b []byte){
		"generation":  func(b []byte) { le.PutUint64(b[16:], 0) },
		"volume":      func(b []byte) { b[24] = 'x' },
		"incarnation": func(b []byte) { le.PutUint64(b[84:], 0) },
		"size":        func(b []byte) { b[92] = 1 },
		"small size":  func(b []byte) { le.PutUint64(b[92:], block) },
		"huge size":   func(b []byte) { le.PutUint64(b[92:], 1<<63) },
		"tail":        func(b []byte) { b[100] = 1 },
		"durable":     func(b []byte) { le.PutUint64(b[108:], 1<<20) },
		"far durable": func(b []byte) { le.PutUint64(b[108:], 20<<30) },
		"filled":      func(b []byte) { le.PutUint64(b[116:], 5<<30) },
		"epoch":       func(b []byte) { le.PutUint64(b[124:], 1<<60) },
	} {
		if _, err := decodeSuperblock(resealed(s, change), "superblock"); !fault.Is(err, fault.Corrupt) {
			t.Errorf("superblock, %s: %v, want corrupt", name, err)
		}
	}
}

// FuzzHeader: any bytes, with a checksum made right; what is accepted is written
// again as it was.
func FuzzHeader(f *testing.F) {
	for _, h := range goldenHeaders() {
		b := make([]byte, block)
		h.put(b)
		f.Add(b[:200])
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		b := make([]byte, block)
		copy(b, in)
		if _, err := decodeHeader(b, "raw"); err != nil && !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Fatal(err)
		}
		b = resealed(b, func([]byte) {})
		h, err := decodeHeader(b, "resealed")
		if err != nil || le.Uint16(b[12:]) != 0 {
			return
		}
		again := make([]byte, block)
		h.put(again)
		if !bytes.Equal(again, b) {
			t.Fatalf("%+v is written differently", h)
		}
	})
}

// FuzzSuperblock: as FuzzHeader.
func FuzzSuperblock(f *testing.F) {
	b := make([]byte, block)
	goldenSuperblock().put(b)
	f.Add(b[:200])
	f.Fuzz(func(t *testing.T, in []byte) {
		b := make([]byte, block)
		copy(b, in)
		b = resealed(b, func([]byte) {})
		s, err := decodeSuperblock(b, "resealed")
		if err != nil || le.Uint16(b[12:]) != 0 {
			return
		}
		again := make([]byte, block)
		s.put(again)
		if !bytes.Equal(again, b) {
			t.Fatalf("%+v is written differently", s)
		}
	})
}
