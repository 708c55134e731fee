package fuse_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

const size = 64 << 20

var discard = blockdev.Options{Discard: true}

func fioCommand(device string, args ...string) *exec.Cmd {
	return exec.Command("fio", append([]string{"--name=t", "--ioengine=libaio", "--verify_state_save=0", "--thread", "--direct=1", "--filename=" + device}, args...)...)
}

func fio(t testing.TB, device string, args ...string) {
	t.Helper()
	if out, err := fioCommand(device, args...).CombinedOutput(); err != nil {
		t.Fatalf("fio: %v\n%s", err, out)
	}
}

func run(t testing.TB, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %q: %v\n%s", name, args, err, out)
	}
}

// aligned returns memory for direct I/O.
func aligned(t testing.TB, length int) []byte {
	t.Helper()
	p, err := unix.Mmap(-1, 0, length, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	must(t, err)
	t.Cleanup(func() { must(t, unix.Munmap(p)) })
	return p
}

// attached is a device of a new volume on a server of its own.
func attached(t testing.TB, disk blockdev.Disk, o blockdev.Options) (*fuse.Server, volume.ID, blockdev.Device) {
	t.Helper()
	server, id := open(t, house(t)), newID()
	d, err := server.Attach(t.Context(), id, disk, o)
	must(t, err)
	return server, id, d
}

func TestProbe(t *testing.T) { must(t, fuse.Probe()) }

// TestBytes: what is written is read, in odd sizes at odd places, by many at
// once.
func TestBytes(t *testing.T) {
	_, _, d := attached(t, makeDisk(t, size), discard)
	if d.SizeBytes != size || d.ReadOnly || !d.DirectIO || !d.Discard {
		t.Errorf("got %+v", d)
	}
	fio(t, d.Path, "--rw=randwrite", "--bsrange=512-1m", "--iodepth=32", "--size=64m", "--verify=crc32c", "--randseed=1")
	fio(t, d.Path, "--rw=randrw", "--bsrange=512-16k", "--iodepth=8", "--size=4m", "--verify=crc32c", "--randseed=2")
	f, err := os.Open(d.Path)
	must(t, err)
	defer f.Close()
	if sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err != nil || sector != 512 {
		t.Errorf("logical sectors of %d bytes, %v; want 512", sector, err)
	}
}

// TestZero: a discard is one, zeros are zeros, and a flush is a flush.
func TestZero(t *testing.T) {
	disk := makeDisk(t, size)
	_, _, d := attached(t, disk, discard)
	ones := bytes.Repeat([]byte{1}, 4<<20)
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT|unix.O_SYNC, 0)
	must(t, err)
	defer f.Close()
	write := func() {
		t.Helper()
		p := aligned(t, len(ones))
		copy(p, ones)
		_, err := f.WriteAt(p, 0)
		must(t, err)
	}
	zero := func(args ...string) {
		t.Helper()
		run(t, "blkdiscard", append(args, "--offset", "4096", "--length", "1048576", d.Path)...)
		got := make([]byte, len(ones))
		_, err := disk.file.ReadAt(got, 0)
		must(t, err)
		want := append(append(bytes.Clone(ones[:4096]), make([]byte, 1<<20)...), ones[4096+1<<20:]...)
		if !bytes.Equal(got, want) {
			t.Errorf("blkdiscard %v: other bytes than those are zeros", args)
		}
	}
	write()
	flushes := disk.flushes.Load()
	if flushes == 0 {
		t.Error("a synchronous write did not flush")
	}
	zero()
	if disk.discards.Load() != 1 || disk.zeroes.Load() != 0 {
		t.Errorf("a discard: %d discards and %d zeroings", disk.discards.Load(), disk.zeroes.Load())
	}
	write()
	zero("--zeroout")
	if disk.discards.Load() != 1 || disk.zeroes.Load() != 1 {
		t.Errorf("zeros: %d discards and %d zeroings", disk.discards.Load(), disk.zeroes.Load())
	}
	flushes = disk.flushes.Load()
	must(t, f.Sync())
	if disk.flushes.Load() != flushes+1 {
		t.Errorf("%d flushes of one", disk.flushes.Load()-flushes)
	}
}

func TestNoDiscard(t *testing.T) {
	disk := makeDisk(t, size)
	server, id, _ := attached(t, disk, discard)
	d, err := server.Attach(t.Context(), id, disk, blockdev.Options{}) // discards are switched off
	must(t, err)
	if err := exec.Command("blkdiscard", d.Path).Run(); err == nil || d.Discard || disk.discards.Load() != 0 {
		t.Errorf("%+v: a discard went through", d)
	}
	disk.grow(t, 2*size)
	must(t, server.Resize(t.Context(), id))
}

func TestReadOnly(t *testing.T) {
	disk := makeDisk(t, size)
	server, id, d := attached(t, disk, blockdev.Options{ReadOnly: true})
	fio(t, d.Path, "--rw=randread", "--size=1m")
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(make([]byte, 4096))
		f.Close()
	}
	if err == nil || !d.ReadOnly || disk.writes.Load() != 0 {
		t.Errorf("%+v: a write went through", d)
	}
	if _, err := server.Attach(t.Context(), id, disk, discard); !fault.Is(err, fault.InUse) {
		t.Errorf("for writing: got %v, want in use", err)
	}
}

// faulty is a disk that cannot.
type faulty struct{ *fileDisk }

func (faulty) WriteAt(context.Context, []byte, int64) error { return errors.New("no") }

func TestErrors(t *testing.T) {
	_, _, d := attached(t, faulty{makeDisk(t, size)}, discard)
	out, err := fioCommand(d.Path, "--rw=write", "--bs=4k", "--size=4k").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "Input/output error") {
		t.Errorf("got %v, want an I/O error:\n%s", err, out)
	}
	fio(t, d.Path, "--rw=read", "--size=1m")
}

// TestResize: the device becomes as large as its disk, idle and under load.
func TestResize(t *testing.T) {
	disk := makeDisk(t, size)
	server, id, d := attached(t, disk, discard)
	f, err := os.OpenFile(d.Path, os.O_RDWR|unix.O_DIRECT, 0)
	must(t, err)
	defer f.Close()
	grow := func(i int64) {
		t.Helper()
		disk.grow(t, size+i<<20)
		must(t, server.Resize(t.Context(), id))
		got, err := server.Attach(t.Context(), id, disk, discard)
		must(t, err)
		if got.SizeBytes != size+i<<20 || got.Path != d.Path {
			t.Fatalf("got %+v, want %d bytes on %s", got, size+i<<20, d.Path)
		}
		end := aligned(t, 4096)
		if _, err := f.ReadAt(end, size+i<<20-4096); err != nil || !bytes.Equal(end, make([]byte, 4096)) {
			t.Errorf("at the new end: %v, or there are no zeros", err)
		}
		copy(end, "text")
		_, err = f.WriteAt(end, size+i<<20-4096)
		must(t, err)
	}
	grow(1)
	load := fioCommand(d.Path, "--rw=randwrite", "--bs=4k", "--iodepth=16", "--rate_iops=3000", "--size=64m", "--time_based", "--runtime=60")
	must(t, load.Start())
	defer func() { load.Process.Kill(); load.Wait() }()
	before := writes(t, d.Path)
	until(t, "there is load", func() bool { return writes(t, d.Path) > before+100 })
	for i := range int64(8) {
		grow(i + 2)
	}
	if err := server.Resize(t.Context(), newID()); !fault.Is(err, fault.NotFound) {
		t.Errorf("of none: got %v, want not found", err)
	}
}

func TestDetachInUse(t *testing.T) {
	disk := makeDisk(t, size)
	server, id, d := attached(t, disk, discard)
	run(t, "mkfs.ext4", "-q", d.Path)
	dir := t.TempDir()
	run(t, "mount", d.Path, dir)
	err := server.Detach(t.Context(), id)
	if !fault.Is(err, fault.InUse) {
		t.Errorf("got %v, want in use", err)
	}
	err = os.WriteFile(dir+"/file", []byte("text"), 0o600)
	run(t, "umount", dir)
	must(t, err)
	if again, err := server.Attach(t.Context(), id, disk, discard); err != nil || again != d {
		t.Errorf("after the refusal: %+v, %v, want %+v", again, err, d)
	}
	for range 2 {
		must(t, server.Detach(t.Context(), id))
	}
	if left := devices(t); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

// TestAtOnce: attaching and detaching by many at once, one volume and several.
func TestAtOnce(t *testing.T) {
	disk := makeDisk(t, size)
	server, id := open(t, house(t)), newID()
	paths := make([]string, 4)
	var work sync.WaitGroup
	for i := range paths {
		work.Go(func() {
			d, err := server.Attach(t.Context(), id, disk, discard)
			if err != nil {
				t.Error(err)
			}
			paths[i] = d.Path
		})
		work.Go(func() {
			other := newID()
			for range 3 {
				if _, err := server.Attach(t.Context(), other, disk, blockdev.Options{ReadOnly: true}); err != nil {
					t.Error(err)
				}
				if err := server.Detach(t.Context(), other); err != nil {
					t.Error(err)
				}
			}
		})
	}
	work.Wait()
	if len(devices(t)) != 1 || paths[0] == "" || strings.Join(paths, "") != strings.Repeat(paths[0], len(paths)) {
		t.Errorf("one volume has the devices %q; there are %q", paths, devices(t))
	}
}

// stuck is a disk that waits for its store, from the moment when it is put.
type stuck struct {
	*fileDisk
	down atomic.Bool
	told chan struct{}
}

func (s *stuck) Flush(ctx context.Context) error {
	if !s.down.Load() {
		return s.fileDisk.Flush(ctx)
	}
	close(s.told)
	<-ctx.Done()
	return ctx.Err()
}

// TestStuck: a flush that waits holds up whoever would have to wait for it, for
// no longer than their contexts, and not the server's end; the flush is done by
// the next server.
func TestStuck(t *testing.T) {
	dir, id, disk := house(t), newID(), makeDisk(t, size)
	first, err := fuse.Open(t.Context(), fuse.Options{Dir: dir})
	must(t, err)
	down := &stuck{fileDisk: disk, told: make(chan struct{})}
	d, err := first.Attach(t.Context(), id, down, discard)
	must(t, err)
	down.down.Store(true)
	flushes := disk.flushes.Load()
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	must(t, err)
	defer f.Close()
	synced := make(chan error, 1)
	go func() { synced <- f.Sync() }()
	<-down.told
	short, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	disk.grow(t, 2*size)
	if err := first.Resize(short, id); !fault.Is(err, fault.Deadline) {
		t.Errorf("behind a flush: got %v, want deadline", err)
	}
	must(t, first.Close(t.Context()))
	select {
	case err := <-synced:
		t.Fatalf("while there is no server: %v", err)
	default:
	}
	again, err := open(t, dir).Attach(t.Context(), id, disk, discard)
	must(t, err)
	if again.Path != d.Path || again.SizeBytes != 2*size {
		t.Errorf("got %+v, want %s with %d bytes", again, d.Path, 2*size)
	}
	must(t, <-synced)
	if disk.flushes.Load() == flushes {
		t.Error("no flush")
	}
}
