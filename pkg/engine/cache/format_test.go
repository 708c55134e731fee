package cache

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

var (
	update   = flag.Bool("update", false, "write the golden files of the current version")
	testLife = incarnation{0xaa, 0xbb, 15: 0xcc}
)

func goldenObject() Object {
	o := object(1, 4, 2*payload+100)
	o.Kind, o.Nonce[15], o.Log[15] = vlog.TableKind, 0x88, 0x99
	return o
}

func goldenEntries() []entry {
	e := make([]entry, pageEntries)
	p := goldenObject().printer()
	e[0] = entry{p.of(0), 0xffff, young}
	e[1] = entry{p.of(1), 0x8001, old | 2}
	e[335] = entry{p.of(1<<16 - 1), 1, proven | 3}
	return e
}

// goldenBlocks has one block of each kind.
func goldenBlocks() map[string][]byte {
	blocks := map[string][]byte{"superblock": make([]byte, block), "page": make([]byte, block)}
	putSuper(blocks["superblock"], testLife)
	putPage(blocks["page"], goldenEntries(), testLife, 3)
	for name, number := range map[string]int64{"block": 1, "last-block": 2} {
		b := make([]byte, block)
		o := goldenObject()
		has := o.bytes(one(number))
		copy(b, content(o)[has.At:has.End])
		seal(b, o.tail(number))
		blocks[name] = b
	}
	return blocks
}

func one(n int64) blocks { return blocks{n, n + 1} }

// TestFormat1: what version 1 wrote is read for ever, and written the same.
func TestFormat1(t *testing.T) {
	for name, now := range goldenBlocks() {
		path := filepath.Join("testdata", "format-1", name)
		if *update {
			must(t, os.MkdirAll(filepath.Dir(path), 0o755))
			must(t, os.WriteFile(path, now, 0o644))
		}
		stored, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(stored, now) {
			t.Errorf("%s is written differently", name)
		}
		if !accepted(stored, name) {
			t.Errorf("%s is not read", name)
		}
	}
	if got := decodePage(goldenBlocks()["page"], testLife, 3); !reflect.DeepEqual(got, goldenEntries()) {
		t.Errorf("page: got %v", got)
	}
}

// accepted reports whether a block is taken for the golden one of this name.
func accepted(b []byte, name string) bool {
	switch name {
	case "superblock":
		life, ok, err := decodeSuper(b, name)
		return ok && err == nil && life == testLife
	case "page":
		return decodePage(b, testLife, 3) != nil
	case "block":
		return whole(b, goldenObject().tail(1))
	}
	return whole(b, goldenObject().tail(2))
}

// TestEveryDamageIsSeen: each byte of each block, in turn.
func TestEveryDamageIsSeen(t *testing.T) {
	for name, b := range goldenBlocks() {
		for i := range b {
			b[i] ^= 0x10
			if accepted(b, name) {
				t.Errorf("%s: byte %d", name, i)
			}
			b[i] ^= 0x10
		}
	}
}

// TestIdentity: a block is taken for no other block, whatever of its name differs.
func TestIdentity(t *testing.T) {
	b, o := goldenBlocks()["last-block"], goldenObject()
	if !whole(b, o.tail(2)) {
		t.Fatal("not taken for itself")
	}
	for name, change := range map[string]func(*Object){
		"log":      func(o *Object) { o.Log[15]++ },
		"nonce":    func(o *Object) { o.Nonce[15]++ },
		"kind":     func(o *Object) { o.Kind = vlog.SegmentKind },
		"sequence": func(o *Object) { o.Sequence += 1 << 33 },
		"size":     func(o *Object) { o.SizeBytes++ },
	} {
		other := goldenObject()
		change(&other)
		if whole(b, other.tail(2)) {
			t.Errorf("another %s", name)
		}
	}
	if whole(b, o.tail(1)) {
		t.Error("another number")
	}
	if page := goldenBlocks()["page"]; decodePage(page, testLife, 4) != nil || decodePage(page, incarnation{1}, 3) != nil {
		t.Error("a page of another place or life")
	}
}

// TestVersions: what another version wrote is emptied; what is no cache is left
// alone.
func TestVersions(t *testing.T) {
	o := object(1, 0, LineBytes)
	reseal := func(change func(b []byte)) func(b []byte) {
		return func(b []byte) {
			change(b)
			le.PutUint32(b[crcAt:], crc(b[:crcAt]))
		}
	}
	for name, c := range map[string]struct {
		change func(b []byte)
		warm   bool
		kind   fault.Kind
	}{
		"same":            {change: func([]byte) {}, warm: true},
		"later version":   {change: reseal(func(b []byte) { b[8]++ })},
		"must-understand": {change: reseal(func(b []byte) { b[10] = 1 })},
		"may-ignore":      {change: reseal(func(b []byte) { b[12], b[40] = 1, 1 }), warm: true},
		"another life":    {change: reseal(func(b []byte) { b[16]++ })},
		"damage":          {change: func(b []byte) { b[20]++ }},
		"magic":           {change: func(b []byte) { b[0]++ }, kind: fault.Precondition},
		"zeros":           {change: func(b []byte) { clear(b) }, kind: fault.Precondition},
	} {
		d := &simdisk.Disk{}
		x := open(t, testOptions(d))
		x.Put(o, 0, content(o))
		must(t, x.Close(ctx))
		b := d.Bytes(testPath)
		c.change(b[:block])
		d.Put(testPath, b)
		x, err := Open(ctx, testOptions(d))
		if c.kind != 0 {
			mustBe(t, err, c.kind)
			if !bytes.Equal(d.Bytes(testPath), b) {
				t.Errorf("%s: changed", name)
			}
			continue
		}
		must(t, err)
		if warm := read(t, x, o, 0, 100); warm != c.warm {
			t.Errorf("%s: warm %v, want %v", name, warm, c.warm)
		}
		quiet(x)
		must(t, x.Close(ctx))
		x = open(t, testOptions(d))
		if !read(t, x, o, 0, 100) {
			t.Errorf("%s: cold the second time", name)
		}
		x.Abandon()
	}
}

// TestGeometry: lines and pages never overlap, and fill the file.
func TestGeometry(t *testing.T) {
	for _, lines := range []int{1, 14, 335, 336, 337, groupLines - 1, groupLines, groupLines + 1, 3 * groupLines} {
		size := fileBytes(lines)
		if got := linesIn(size); got != lines {
			t.Errorf("%d bytes: got %d lines, want %d", size, got, lines)
		}
		if got := linesIn(size - 1); got >= lines {
			t.Errorf("%d bytes: got %d lines, want fewer than %d", size-1, got, lines)
		}
		taken, pages := map[int64]bool{0: true}, map[int64]bool{}
		for slot := range lines {
			at := lineAt(uint32(slot))
			if at%unit != 0 || at+unit > size || taken[at] {
				t.Fatalf("%d lines: line %d at %d of %d", lines, slot, at, size)
			}
			taken[at] = true
		}
		for page := range pagesOf(lines) {
			at := pageAt(page)
			if at+block > size || taken[at/unit*unit] || at%block != 0 || pages[at] {
				t.Fatalf("%d lines: page %d at %d of %d", lines, page, at, size)
			}
			pages[at] = true
		}
	}
}

func FuzzPage(f *testing.F) {
	f.Add(goldenBlocks()["page"], true)
	f.Add(make([]byte, block), false)
	f.Fuzz(func(t *testing.T, b []byte, reseal bool) {
		b = append(bytes.Clone(b), make([]byte, block)...)[:block]
		if reseal {
			seal(b, pageTail(testLife, 3))
		}
		entries := decodePage(b, testLife, 3)
		if (entries == nil) == whole(b, pageTail(testLife, 3)) {
			t.Fatal("taken, or not taken")
		}
		// Whatever it says, an index that is loaded from it is sound.
		x := newIndex(pageEntries)
		for slot, e := range append(entries, make([]entry, pageEntries)...)[:pageEntries] {
			x.load(uint32(slot), e)
		}
		x.check(t)
	})
}

func FuzzSuper(f *testing.F) {
	f.Add(goldenBlocks()["superblock"])
	f.Fuzz(func(t *testing.T, b []byte) {
		b = append(bytes.Clone(b), make([]byte, block)...)[:block]
		_, ok, err := decodeSuper(b, "f")
		if ok && (err != nil || crc(b[:crcAt]) != le.Uint32(b[crcAt:])) || err != nil && !fault.Is(err, fault.Precondition) {
			t.Fatalf("got %v, %v", ok, err)
		}
	})
}

// FuzzFile: a read of a file with anything in it returns the object's bytes.
func FuzzFile(f *testing.F) {
	f.Add([]byte("anything"), uint32(unit+7), uint16(100), uint16(1000))
	f.Add(bytes.Repeat([]byte{0xff}, 5000), uint32(2*unit), uint16(0), uint16(5000))
	f.Fuzz(func(t *testing.T, b []byte, at uint32, from, n uint16) {
		d := &simdisk.Disk{}
		c := open(t, testOptions(d))
		o := object(1, 0, 2*LineBytes)
		c.Put(o, 0, content(o))
		must(t, c.Close(ctx))
		if off := 8 + int64(at)%(MinSize-8); off < MinSize {
			b = b[:min(int64(len(b)), fileBytes(linesIn(MinSize))-off, MinSize-off)]
			d.Damage(testPath, off, b)
		}
		c = open(t, testOptions(d))
		defer c.Abandon()
		read(t, c, o, int64(from), 1+int64(n)%(o.SizeBytes-int64(from)))
	})
}
