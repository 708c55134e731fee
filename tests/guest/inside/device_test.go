//go:build guest

package inside

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/nbd"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !so(); time.Sleep(5 * time.Millisecond) { // poll
		if time.Now().After(deadline) {
			t.Fatal("it never came about: " + what)
		}
	}
}

// frontEnd makes a front-end that is closed when the test ends, with devices of
// its own that must all be detached by then.
func frontEnd(t *testing.T, dir string) *nbd.FrontEnd {
	t.Helper()
	f, err := nbd.New(nbd.Options{Dir: dir})
	must(t, err)
	t.Cleanup(func() {
		must(t, f.Close(context.Background()))
		if found, err := f.Find(context.Background()); err != nil || len(found) > 0 {
			t.Errorf("left behind: %v, %v", found, err)
		}
	})
	return f
}

func newDisk(t *testing.T, sizeBytes int64) *file {
	t.Helper()
	d, err := openFile(filepath.Join(t.TempDir(), "disk"), sizeBytes)
	must(t, err)
	t.Cleanup(func() { d.f.Close() })
	return d
}

func attach(t *testing.T, f *nbd.FrontEnd, id volume.ID, disk blockdev.Disk) blockdev.Device {
	t.Helper()
	d, err := f.Attach(t.Context(), id, disk, blockdev.Options{Discard: true})
	must(t, err)
	return d
}

// open opens a device past the page cache.
func open(t *testing.T, path string, flags int) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT|flags, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// aligned is memory for direct I/O.
func aligned(n int) []byte {
	b := make([]byte, n+4095)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & 4095
	return b[skip : skip+n : skip+n]
}

// setting reads what sysfs has of a device.
func setting(t *testing.T, d blockdev.Device, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.Path), name))
	must(t, err)
	return strings.TrimSpace(string(b))
}

func TestProbe(t *testing.T) {
	must(t, nbd.Probe())
	for _, name := range []string{"max_part", "nbds_max"} {
		b, err := os.ReadFile("/sys/module/nbd/parameters/" + name)
		must(t, err)
		if got := strings.TrimSpace(string(b)); got != "0" {
			t.Errorf("the kernel's module was loaded with %s=%s, want 0", name, got)
		}
	}
	if _, err := nbd.New(nbd.Options{Dir: "relative"}); !fault.Is(err, fault.Invalid) {
		t.Errorf("got %v, want invalid", err)
	}
}

func TestDevice(t *testing.T) {
	f, id, disk := frontEnd(t, "/run/device"), volume.NewID(), newDisk(t, 32<<20)
	d := attach(t, f, id, disk)
	if d.SizeBytes != 32<<20 || d.ReadOnly || !d.Discard || !d.DirectIO {
		t.Errorf("got %+v", d)
	}
	for name, want := range map[string]string{
		"queue/logical_block_size": "512", "queue/write_cache": "write back", "queue/fua": "1", "queue/rotational": "0", "ro": "0",
	} {
		if got := setting(t, d, name); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	t.Logf("physical sectors of %s, requests of %s KiB, zeroes of %s", setting(t, d, "queue/physical_block_size"),
		setting(t, d, "queue/max_sectors_kb"), setting(t, d, "queue/write_zeroes_max_bytes"))
	if again := attach(t, f, id, disk); again != d {
		t.Errorf("the second time got %+v, want %+v", again, d)
	}
	if found, err := f.Find(t.Context()); err != nil || len(found) != 1 || found[id] != d {
		t.Errorf("found %v, %v; want %v", found, err, d)
	}
	if _, err := f.Attach(t.Context(), id, disk, blockdev.Options{ReadOnly: true}); !fault.Is(err, fault.InUse) {
		t.Errorf("read-only, the second time: got %v, want in use", err)
	}
	if found, err := frontEnd(t, "/run/dev").Find(t.Context()); err != nil || len(found) > 0 {
		t.Errorf("another engine found %v, %v", found, err)
	}

	dev := open(t, d.Path, 0)
	b := aligned(1536)
	for i := range b {
		b[i] = byte(i / 3)
	}
	_, err := dev.WriteAt(b, 512)
	must(t, err)
	read := aligned(1536)
	_, err = dev.ReadAt(read, 512)
	must(t, err)
	if !bytes.Equal(read, b) {
		t.Error("read other bytes than were written")
	}
	expect := func(what string, do func() error) {
		t.Helper()
		before := disk.times(what)
		must(t, do())
		if disk.times(what) == before {
			t.Errorf("no %s reached the disk", what)
		}
	}
	expect("flush", dev.Sync)
	// A write that is to be durable at once comes with FUA, and not with a flush
	// of its own: the kernel knows that the device can do it.
	durable := open(t, d.Path, unix.O_DSYNC)
	expect("flush", func() error { _, err := durable.WriteAt(b, 0); return err })
	span := [2]uint64{1 << 20, 1 << 20}
	expect("zero discard=true", func() error { return ioctl(dev, unix.BLKDISCARD, &span) })
	zeroed := "write" // by a kernel that does not send WRITE_ZEROES yet
	if setting(t, d, "queue/write_zeroes_max_bytes") != "0" {
		zeroed = "zero discard=false"
	}
	expect(zeroed, func() error { return ioctl(dev, unix.BLKZEROOUT, &span) })

	if err := f.Detach(t.Context(), id); !fault.Is(err, fault.InUse) {
		t.Errorf("with the device open: got %v, want in use", err)
	}
	_, err = dev.WriteAt(b, 512)
	must(t, err)
	dev.Close()
	durable.Close()
	if found, err := f.Find(t.Context()); err != nil || len(found) != 1 {
		t.Errorf("after a Detach that was refused and the last close: found %v, %v", found, err)
	}
	must(t, f.Detach(t.Context(), id))
	must(t, f.Detach(t.Context(), id))
	if got := setting(t, d, "queue/io_timeout"); got != "30000" {
		t.Errorf("the number's next device looks at its requests every %s ms", got)
	}
	if got := setting(t, d, "size"); got != "0" {
		t.Errorf("%s has %s sectors still", d.Path, got)
	}
}

func ioctl(f *os.File, request uintptr, argument *[2]uint64) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(unsafe.Pointer(argument))); errno != 0 {
		return errno
	}
	return nil
}

func TestReadOnly(t *testing.T) {
	f, id := frontEnd(t, "/run/readonly"), volume.NewID()
	d, err := f.Attach(t.Context(), id, newDisk(t, 8<<20), blockdev.Options{ReadOnly: true})
	must(t, err)
	if !d.ReadOnly || setting(t, d, "ro") != "1" || d.Discard {
		t.Errorf("got %+v", d)
	}
	dev, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT, 0)
	if err == nil {
		_, err = dev.WriteAt(aligned(4096), 0)
		dev.Close()
	}
	if err == nil {
		t.Error("a write to a read-only device succeeded")
	}
	must(t, f.Detach(t.Context(), id))
}

func run(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

func TestFilesystem(t *testing.T) {
	f, id, disk := frontEnd(t, "/run/filesystem"), volume.NewID(), newDisk(t, 64<<20)
	d := attach(t, f, id, disk)
	run(t, "mkfs.ext4", "-q", d.Path)
	dir := t.TempDir()
	must(t, unix.Mount(d.Path, dir, "ext4", 0, ""))
	data := make([]byte, 8<<20)
	for i := range data {
		data[i] = byte(rand.Uint32())
	}
	must(t, os.WriteFile(filepath.Join(dir, "file"), data, 0o600))
	if err := f.Detach(t.Context(), id); !fault.Is(err, fault.InUse) {
		t.Errorf("mounted: got %v, want in use", err)
	}
	must(t, unix.Unmount(dir, 0))
	run(t, "e2fsck", "-fn", d.Path)
	must(t, f.Detach(t.Context(), id))

	d = attach(t, f, id, disk)
	must(t, unix.Mount(d.Path, dir, "ext4", 0, ""))
	got, err := os.ReadFile(filepath.Join(dir, "file"))
	must(t, errors.Join(err, unix.Unmount(dir, 0)))
	if !bytes.Equal(got, data) {
		t.Error("the file has other bytes than were written")
	}
	must(t, f.Detach(t.Context(), id))
	if disk.times("flush") == 0 {
		t.Error("no flush reached the disk")
	}
}

// TestResize grows a device that is written to all the time.
func TestResize(t *testing.T) {
	f, id, disk := frontEnd(t, "/run/resize"), volume.NewID(), newDisk(t, 16<<20)
	if err := f.Resize(t.Context(), id); !fault.Is(err, fault.NotFound) {
		t.Errorf("without a device: got %v, want not found", err)
	}
	d := attach(t, f, id, disk)
	load := startLoad(t, d.Path, 4<<20)
	for size := int64(32 << 20); size <= 64<<20; size += 16 << 20 {
		must(t, disk.f.Truncate(size))
		disk.set(func() { disk.size = size })
		must(t, f.Resize(t.Context(), id))
		if found, err := f.Find(t.Context()); err != nil || found[id].SizeBytes != size {
			t.Errorf("found %v, %v; want %d bytes", found, err, size)
		}
	}
	dev := open(t, d.Path, 0)
	_, err := dev.WriteAt(aligned(4096), 64<<20-4096)
	must(t, err)
	load.finish(t)
	dev.Close()
	// While the disk does not answer, the size stays, and nothing is stuck.
	gate := make(chan struct{})
	disk.set(func() { disk.gate, disk.size = gate, 80<<20 })
	must(t, disk.f.Truncate(80<<20))
	var wrote sync.WaitGroup
	dev = open(t, d.Path, 0)
	before := disk.times("write")
	wrote.Go(func() {
		if _, err := dev.WriteAt(aligned(4096), 0); err != nil {
			t.Error(err)
		}
	})
	eventually(t, "the write is under way", func() bool { return disk.times("write") > before })
	short, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if err := f.Resize(short, id); !fault.Is(err, fault.Busy) {
		t.Errorf("with a disk that does not answer: got %v, want busy", err)
	}
	disk.set(func() { disk.gate = nil })
	close(gate)
	wrote.Wait()
	must(t, f.Resize(t.Context(), id))
	dev.Close()
	must(t, f.Detach(t.Context(), id))
}

// TestSlow: a request that takes much longer than retryAfter comes once, and
// costs neither its connection nor an error. With two sockets a device, the
// kernel sends it again and again.
func TestSlow(t *testing.T) {
	f, id, disk := frontEnd(t, "/run/slow"), volume.NewID(), newDisk(t, 8<<20)
	d := attach(t, f, id, disk)
	dev := open(t, d.Path, 0)
	gate := make(chan struct{})
	disk.set(func() { disk.gate = gate })
	time.AfterFunc(17*time.Second, func() { close(gate) })
	start := time.Now()
	if _, err := dev.WriteAt(aligned(4096), 0); err != nil || time.Since(start) < 16*time.Second {
		t.Errorf("after %s: %v", time.Since(start), err)
	}
	if n := disk.times("write"); n != 1 {
		t.Errorf("it came %d times, want once", n)
	}
	dev.Close()
	must(t, f.Detach(t.Context(), id))
}

// TestWriteBackError: what the kernel could not write of what it had taken from
// a writer that has gone is an error of Detach.
func TestWriteBackError(t *testing.T) {
	f, id, disk := frontEnd(t, "/run/writeback"), volume.NewID(), newDisk(t, 8<<20)
	d := attach(t, f, id, disk)
	dev, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	must(t, err)
	_, err = dev.WriteAt(make([]byte, 64<<10), 0)
	must(t, err)
	disk.set(func() { disk.fail = unix.EIO })
	dev.Close() // says nothing
	if err := f.Detach(t.Context(), id); err == nil {
		t.Error("the device is gone, and nobody learned of the error")
	} else {
		t.Log(err)
	}
	disk.set(func() { disk.fail = nil })
	must(t, f.Detach(t.Context(), id))
}
