package simdisk

import (
	"bytes"
	"errors"
	"testing"

	"github.com/holkas-io/holkas/pkg/engine/disk"
)

func write(t *testing.T, f disk.File, at int64, with byte) error {
	t.Helper()
	b := disk.Buffer(disk.Align)
	for i := range b {
		b[i] = with
	}
	_, err := f.WriteAt(b, at)
	return err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestLossOfPower: what was synced stays, of the rest each sector as the test says.
func TestLossOfPower(t *testing.T) {
	d := &Disk{}
	f, err := d.Create("/f", 2*disk.Align, nil)
	must(t, err)
	must(t, write(t, f, 0, 1))
	must(t, f.Sync())
	must(t, write(t, f, 0, 2))
	must(t, write(t, f, 0, 3))
	if b := d.Bytes("/f"); b[0] != 3 || d.Pending() != 16 {
		t.Errorf("reads %d, %d sectors pending", b[0], d.Pending())
	}
	for want, keep := range map[string]func(int) bool{
		"1111": func(int) bool { return false },
		"3333": func(int) bool { return true },
		"2222": func(i int) bool { return i < 8 },
		"3222": func(i int) bool { return i < 9 },
		"1311": func(i int) bool { return i == 9 },
	} {
		g := d.Fork()
		g.Crash(keep)
		b := g.Bytes("/f")
		got := []byte{'0' + b[0], '0' + b[Sector], '0' + b[2*Sector], '0' + b[7*Sector]}
		if string(got) != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	d.Crash(func(int) bool { return false })
	if err := write(t, f, 0, 4); !errors.Is(err, ErrStopped) {
		t.Errorf("a file of an earlier life: %v", err)
	}
}

// TestStop: the step's write may survive, nothing after it is done.
func TestStop(t *testing.T) {
	d := &Disk{}
	d.Put("/f", make([]byte, disk.Align))
	f, err := d.Open("/f")
	must(t, err)
	d.StopAt(2)
	must(t, write(t, f, 0, 1))
	if err := f.Sync(); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
	if _, err := f.ReadAt(disk.Buffer(disk.Align), 0); !errors.Is(err, ErrStopped) {
		t.Error(err)
	}
	d.Crash(func(int) bool { return false })
	if !bytes.Equal(d.Bytes("/f"), make([]byte, disk.Align)) {
		t.Error("a sync that met the loss of power was believed")
	}
}

// TestFailedSync: readers see what no later sync makes durable.
func TestFailedSync(t *testing.T) {
	d := &Disk{}
	d.Put("/f", make([]byte, disk.Align))
	f, err := d.Open("/f")
	must(t, err)
	must(t, write(t, f, 0, 1))
	d.FailSync(1)
	if f.Sync() == nil {
		t.Error("the sync succeeded")
	}
	must(t, f.Sync())
	d.Restart()
	if d.Bytes("/f")[0] != 1 {
		t.Error("a death took what the kernel had")
	}
	d.Crash(func(int) bool { return true })
	if d.Bytes("/f")[0] != 0 {
		t.Error("a later sync wrote what the failed one lost")
	}
}

// TestResize: a length is durable at once; what was cut off does not come back.
func TestResize(t *testing.T) {
	d := &Disk{}
	f, err := d.Create("/f", 2*disk.Align, nil)
	must(t, err)
	must(t, write(t, f, 0, 1))
	must(t, write(t, f, disk.Align, 1))
	must(t, f.Resize(disk.Align))
	if err := write(t, f, disk.Align, 2); err == nil {
		t.Error("written beyond the end")
	}
	must(t, f.Resize(3*disk.Align))
	d.Crash(func(int) bool { return true })
	b := d.Bytes("/f")
	if len(b) != 3*disk.Align || b[0] != 1 || !bytes.Equal(b[disk.Align:], make([]byte, 2*disk.Align)) {
		t.Errorf("%d bytes, %d at 0, %d behind", len(b), b[0], b[disk.Align])
	}
}
