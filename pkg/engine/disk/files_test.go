package disk

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(path+creating, []byte("of a creator that died"), 0o600))
	head := bytes.Repeat([]byte("head"), Align/4)
	f, err := Files{}.Create(path, 1<<20, head)
	must(t, err)
	if size, err := f.Size(); size != 1<<20 || err != nil {
		t.Errorf("got %d bytes, %v", size, err)
	}
	b := Buffer(2 * Align)
	if n, err := f.ReadAt(b, 0); n != len(b) || err != nil || !bytes.Equal(b[:Align], head) || !bytes.Equal(b[Align:], make([]byte, Align)) {
		t.Errorf("got %d bytes, %v", n, err)
	}
	var st unix.Stat_t
	must(t, unix.Stat(path, &st))
	if st.Blocks*512 < 1<<20 {
		t.Errorf("%d bytes are allocated, want all", st.Blocks*512)
	}
	for name, err := range map[string]error{"second create": second(Files{}.Create(path, 1<<20, head)), "second open": second(Files{}.Open(path))} {
		if !fault.Is(err, fault.Exists) && !fault.Is(err, fault.InUse) {
			t.Errorf("%s: %v", name, err)
		}
	}
	copy(b, "written")
	_, err = f.WriteAt(b[:Align], Align)
	must(t, err)
	must(t, f.Sync())
	must(t, f.Close())
	f, err = Files{}.Open(path)
	must(t, err)
	defer f.Close()
	if _, err := f.ReadAt(b[Align:], Align); err != nil || !bytes.HasPrefix(b[Align:], []byte("written")) {
		t.Errorf("got %.10q, %v", b[Align:], err)
	}
	if err := second(Files{}.Open(path + "x")); !fault.Is(err, fault.NotFound) {
		t.Errorf("a missing file: %v", err)
	}
	if left, _ := filepath.Glob(path + ".*"); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// TestResize: what is added is allocated zeros; a length that cannot be had leaves
// the file as it was.
func TestResize(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	head := bytes.Repeat([]byte("head"), Align/4)
	f, err := Files{}.Create(path, 2*Align, head)
	must(t, err)
	defer f.Close()
	b := Buffer(Align)
	for _, bytes := range []int64{1 << 20, Align, 4 * Align} {
		must(t, f.Resize(bytes))
		var st unix.Stat_t
		must(t, unix.Stat(path, &st))
		if st.Size != bytes || st.Blocks*512 < bytes {
			t.Errorf("%d bytes, %d allocated, want %d", st.Size, st.Blocks*512, bytes)
		}
	}
	if err := f.Resize(1 << 60); !fault.Is(err, fault.Exhausted) {
		t.Errorf("far too large: %v", err)
	}
	if size, err := f.Size(); size != 4*Align || err != nil {
		t.Errorf("got %d bytes, %v", size, err)
	}
	for at, want := range map[int64][]byte{0: head, 2 * Align: make([]byte, Align)} {
		if _, err := f.ReadAt(b, at); err != nil || !bytes.Equal(b, want) {
			t.Errorf("at %d: got %.10q, %v", at, b, err)
		}
	}
}

func second(_ File, err error) error { return err }

// TestDirect: where the filesystem has direct I/O, it is used.
func TestDirect(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	probe, err := os.OpenFile(path+"probe", os.O_CREATE|os.O_RDWR|unix.O_DIRECT, 0o600)
	has := err == nil
	if has {
		probe.Close()
	}
	f, err := Files{}.Create(path, 1<<20, Buffer(Align))
	must(t, err)
	defer f.Close()
	flags, err := unix.FcntlInt(f.(file).Fd(), unix.F_GETFL, 0)
	must(t, err)
	if direct := flags&unix.O_DIRECT != 0; direct != has {
		t.Errorf("direct I/O: got %v, want %v", direct, has)
	}
}

func TestBuffer(t *testing.T) {
	for _, n := range []int{Align, 3 * Align} {
		if b := Buffer(n); len(b) != n || cap(b) != n || !Aligned(b) || Aligned(b[1:]) || Aligned(b[:n-1]) {
			t.Errorf("%d bytes: %p, %d, %d", n, b, len(b), cap(b))
		}
	}
}
