package journal

import (
	"bytes"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// TestRealFile: a journal in a real file, written while it is filled, for some
// laps, with deaths and clean ends between; all that is read is what was written.
func TestRealFile(t *testing.T) {
	o := testOptions(nil)
	o.Path, o.Size = filepath.Join(t.TempDir(), "journal"), 32<<20
	j, err := Create(ctx, o)
	must(t, err)
	_, err = Create(ctx, o)
	mustBe(t, err, fault.Exists)
	_, err = Open(ctx, o)
	mustBe(t, err, fault.InUse)
	st, err := os.Stat(o.Path)
	must(t, err)
	if st.Size() != superblocks+o.Size {
		t.Errorf("got %d bytes, want %d", st.Size(), superblocks+o.Size)
	}
	random := rand.New(rand.NewPCG(1, 1))
	data := make([]byte, MaxBlocks*block)
	for i := range data {
		data[i] = byte(random.Uint32())
	}
	for epoch := vlog.Epoch(1); epoch <= 4; epoch++ {
		must(t, j.Begin(ctx, epoch))
		writeLaps(t, j, random, data)
		found := j.State()
		if epoch%2 == 0 {
			must(t, j.Close(ctx))
		} else {
			j.Abandon()
		}
		j, err = Open(ctx, o)
		must(t, err)
		s := j.State()
		if clean := epoch%2 == 0; s.Clean != clean || s.Tail != found.Tail || !clean && s.End != found.End || s.Epoch != epoch {
			t.Fatalf("found %+v after %+v", s, found)
		}
		verifyAll(t, j, data)
	}
	j.Abandon()
}

// writeLaps writes a lap and a half and gives most of it back.
func writeLaps(t *testing.T, j *Journal, random *rand.Rand, data []byte) {
	t.Helper()
	for end := j.State().End + vlog.LSN(j.ring.size)*3/2; j.State().End < end; {
		n := 1 + random.IntN(MaxBlocks)
		if random.IntN(2) == 0 {
			n = 1
		}
		first := random.IntN(MaxBlocks - n + 1)
		b := &Batch{Changes: []Change{
			{Kind: Zeros, First: 1 << 33, Count: 1 << 33},
			{First: vlog.Block(first), Count: uint64(n), Data: data[first*block : (first+n)*block]},
		}}
		must(t, j.Append(ctx, b))
		if s := j.State(); s.Used > 10<<20 {
			must(t, j.Flush(ctx))
			must(t, j.Recycle(ctx, b.Record))
		}
	}
}

func verifyAll(t *testing.T, j *Journal, data []byte) {
	t.Helper()
	s, n := j.State(), 0
	for r, err := range j.Records(ctx, s.Tail, s.End) {
		must(t, err)
		for _, c := range r.Changes {
			if want := data[int(c.First)%(MaxBlocks*2)*block:]; c.Kind == Data && !bytes.Equal(c.Data, want[:len(c.Data)]) {
				t.Fatalf("other data at %d", c.At)
			} else if c.Kind == Data {
				n++
				p := make([]byte, len(c.Data)+1)[1:] // at no aligned address
				must(t, j.Read(ctx, c.At, p))
				if !bytes.Equal(p, want[:len(p)]) {
					t.Fatalf("other data read at %d", c.At)
				}
			}
		}
	}
	if n == 0 {
		t.Error("nothing was there")
	}
}

// TestReopenedWhileFilling: what was not filled when the process died is filled
// by the next, never over what is in use.
func TestReopenedWhileFilling(t *testing.T) {
	o := testOptions(nil)
	o.Path, o.Size = filepath.Join(t.TempDir(), "journal"), 64<<20
	j, err := Create(ctx, o)
	must(t, err)
	data := bytes.Repeat([]byte{7}, MaxBlocks*block)
	for epoch := vlog.Epoch(1); epoch <= 8; epoch++ {
		must(t, j.Begin(ctx, epoch))
		for range epoch {
			must(t, j.Append(ctx, &Batch{Changes: []Change{{Count: MaxBlocks, Data: data}}}))
		}
		if epoch == 8 {
			if !j.filler.reached(o.Size) {
				t.Fatal(j.State().Err)
			}
			must(t, j.Close(ctx))
		} else {
			j.Abandon()
		}
		j, err = Open(ctx, o)
		must(t, err)
		n := 0
		for r, err := range j.Records(ctx, 0, j.State().End) {
			must(t, err)
			n += len(r.Changes)
		}
		if want := int(epoch * (epoch + 1) / 2); n != want {
			t.Fatalf("%d writes, want %d", n, want)
		}
	}
	if got := j.State().Filled; got != o.Size {
		t.Errorf("%d bytes are known to be filled, want all", got)
	}
	j.Abandon()
}

// TestNoRoom (J6): that there is no room is said at the creation, which leaves
// nothing behind; a journal that was created never needs more.
func TestNoRoom(t *testing.T) {
	dir := t.TempDir()
	must(t, unix.Mount("holkas-test", dir, "tmpfs", 0, "size=1m"))
	t.Cleanup(func() { must(t, unix.Unmount(dir, 0)) })
	o := testOptions(nil)
	o.Path, o.Size = filepath.Join(dir, "journal"), 2<<20
	_, err := Create(ctx, o)
	mustBe(t, err, fault.Exhausted)
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	o.Size = MinSize
	j, err := Create(ctx, o)
	must(t, err)
	must(t, j.Begin(ctx, 1))
	for n := 1; ; n++ { // until the disk is full
		if err := os.WriteFile(filepath.Join(dir, "other"), make([]byte, n*block), 0o600); err != nil {
			break
		}
	}
	for range 100 {
		b := one(1)
		must(t, j.Append(ctx, b))
		must(t, j.Flush(ctx))
		must(t, j.Recycle(ctx, b.End))
	}
	must(t, j.Close(ctx))
}

// TestValidate: all faults at once.
func TestValidate(t *testing.T) {
	err := Options{Path: "relative", Volume: "v", Size: 1}.Validate()
	mustBe(t, err, fault.Invalid)
	for _, part := range []string{"path", "volume", "log", "size"} {
		if !bytes.Contains([]byte(err.Error()), []byte(part)) {
			t.Errorf("%v: want a word about the %s", err, part)
		}
	}
	must(t, testOptions(disk.Files{}).Validate())
	w := began(t, 0)
	for name, b := range map[string]*Batch{
		"nothing":         {},
		"both":            {Seal: &Seal{Snapshot: testSnapshot}, Changes: one(1).Changes},
		"no snapshot":     {Seal: &Seal{}},
		"no blocks":       {Changes: []Change{{Kind: Zeros}}},
		"a kind":          {Changes: []Change{{Kind: 1, Count: 1}}},
		"beyond the end":  {Changes: []Change{{Kind: Zeros, First: vlog.MaxBlocks, Count: 1}}},
		"half a block":    {Changes: []Change{{Count: 1, Data: make([]byte, 512)}}},
		"too many":        {Changes: make([]Change, MaxChanges+1)},
		"too much data":   {Changes: []Change{{Count: 5, Data: make([]byte, 5*block)}}},
		"a count of 2^64": {Changes: []Change{{Count: 1 << 63, Data: make([]byte, block)}}},
	} {
		if err := w.j.Append(ctx, b); !fault.Is(err, fault.Invalid) {
			t.Errorf("%s: %v, want invalid", name, err)
		}
	}
	for _, c := range []struct {
		at vlog.LSN
		n  int
	}{{0, 0}, {1, block}, {0, 1}, {MinSize - block, 2 * block}, {4 * block, block}} {
		mustBe(t, w.j.Read(ctx, c.at, make([]byte, c.n)), fault.Invalid)
	}
}
