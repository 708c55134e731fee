//go:build guest

package inside

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// startEngine starts an engine on a file and waits until it serves.
func startEngine(t *testing.T, file string, env ...string) (*exec.Cmd, blockdev.Device) {
	t.Helper()
	cmd := exec.Command("/init")
	cmd.Env = append(append(os.Environ(), "ENGINE_FILE="+file), env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	if path := strings.TrimSpace(line); err == nil && strings.HasPrefix(path, "/dev/") {
		return cmd, blockdev.Device{Path: path}
	}
	_ = cmd.Process.Kill()
	t.Fatalf("the engine said %q, %v, %v", line, err, cmd.Wait())
	return nil, blockdev.Device{}
}

func kill(t *testing.T, engine *exec.Cmd) {
	t.Helper()
	must(t, engine.Process.Kill())
	_ = engine.Wait()
}

// TestKill kills the engine under load, and starts another, again and again: the
// load waits, sees no error, and finds what it wrote.
func TestKill(t *testing.T) {
	t.Run("device", func(t *testing.T) {
		testKill(t, 3, func(path string) (string, func()) { return path, func() {} })
	})
	t.Run("filesystem", func(t *testing.T) {
		testKill(t, 10, func(path string) (string, func()) {
			run(t, "mkfs.ext4", "-q", path)
			dir := t.TempDir()
			must(t, unix.Mount(path, dir, "ext4", 0, ""))
			file := filepath.Join(dir, "file")
			must(t, os.WriteFile(file, make([]byte, loadBytes), 0o600))
			return file, func() {
				must(t, unix.Unmount(dir, 0))
				run(t, "e2fsck", "-fn", path)
			}
		})
	})
}

const loadBytes = 16 << 20

// testKill has a load on what use makes of a device.
func testKill(t *testing.T, times int, use func(path string) (string, func())) {
	file := filepath.Join(t.TempDir(), "disk")
	engine, d := startEngine(t, file)
	path, unuse := use(d.Path)
	load := startLoad(t, path, loadBytes)
	for range times {
		load.progress(t, 200)
		kill(t, engine)
		load.slowest.Store(0)
		var again blockdev.Device
		engine, again = startEngine(t, file)
		if again.Path != d.Path {
			t.Fatalf("the next engine has %s, want %s", again.Path, d.Path)
		}
		load.progress(t, 200)
		waited := time.Duration(load.slowest.Load())
		t.Logf("waited %s at most", waited.Round(time.Millisecond))
		if waited > 20*time.Second {
			t.Error("that is the kernel's own time until it looks for what was lost")
		}
	}
	// One that ends in good order leaves nothing under way, so that nobody waits
	// until the kernel looks for what was lost.
	load.slowest.Store(0)
	start := time.Now()
	must(t, engine.Process.Signal(os.Interrupt))
	must(t, engine.Wait())
	engine, _ = startEngine(t, file)
	away := time.Since(start)
	load.progress(t, 200)
	waited := time.Duration(load.slowest.Load())
	t.Logf("waited %s at most for one that ended in good order and was away for %s", waited.Round(time.Millisecond), away.Round(time.Millisecond))
	if waited > max(4*time.Second, away+2*time.Second) {
		t.Error("that is until the kernel looked for what was lost")
	}
	load.finish(t)
	unuse()
	kill(t, engine)

	f := frontEnd(t, engineDir)
	must(t, f.Detach(t.Context(), engineVolume))
}

// TestDeadAndOpen: a device that nobody serves is found. While somebody waits
// for it, it is not taken away; once it is served again, the wait is over.
func TestDeadAndOpen(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	engine, d := startEngine(t, file)
	f := frontEnd(t, engineDir)
	disk, err := openFile(file, engineBytes)
	must(t, err)
	if _, err := f.Attach(t.Context(), engineVolume, disk, blockdev.Options{Discard: true}); !fault.Is(err, fault.InUse) {
		t.Errorf("with another engine alive: got %v, want in use", err)
	}
	dev := open(t, d.Path, 0)
	_, err = dev.WriteAt(aligned(4096), 0)
	must(t, err)
	kill(t, engine)
	wrote := make(chan error, 1)
	go func() {
		_, err := dev.WriteAt(aligned(4096), 4096)
		wrote <- errors.Join(err, dev.Sync())
	}()
	found, err := f.Find(t.Context())
	if err != nil || found[engineVolume].Path != d.Path || len(found) != 1 {
		t.Errorf("found %v, %v; want %s", found, err, d.Path)
	}
	if err := f.Detach(t.Context(), engineVolume); !fault.Is(err, fault.InUse) {
		t.Errorf("with a request that waits: got %v, want in use", err)
	}
	select {
	case err := <-wrote:
		t.Errorf("the wait ended with %v", err)
	default:
	}
	if again := attach(t, f, engineVolume, disk); again.Path != d.Path {
		t.Errorf("attached again as %s, want %s", again.Path, d.Path)
	}
	must(t, <-wrote)
	// It had the size that it had; it takes its disk's when it is told to.
	must(t, disk.f.Truncate(2*engineBytes))
	disk.set(func() { disk.size = 2 * engineBytes })
	must(t, f.Resize(t.Context(), engineVolume))
	if found, err := f.Find(t.Context()); err != nil || found[engineVolume].SizeBytes != 2*engineBytes {
		t.Errorf("found %v, %v; want %d bytes", found, err, 2*engineBytes)
	}
	dev.Close()
	must(t, f.Detach(t.Context(), engineVolume))
}

// TestDeadAndDirty: what a writer left in the page cache before its engine died
// is not thrown away, but waits for an engine.
func TestDeadAndDirty(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	engine, d := startEngine(t, file)
	dev, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	must(t, err)
	want := []byte("written, not synced")
	_, err = dev.WriteAt(want, 8192)
	must(t, err)
	kill(t, engine)
	closed := make(chan error, 1)
	go func() { closed <- dev.Close() }() // writes, and so waits
	f := frontEnd(t, engineDir)
	disk, err := openFile(file, engineBytes)
	must(t, err)
	if err := f.Detach(t.Context(), engineVolume); !fault.Is(err, fault.InUse) {
		t.Errorf("with bytes to be written: got %v, want in use", err)
	}
	attach(t, f, engineVolume, disk)
	must(t, <-closed)
	must(t, f.Detach(t.Context(), engineVolume))
	got := make([]byte, len(want))
	_, err = disk.f.ReadAt(got, 8192)
	must(t, err)
	if string(got) != string(want) {
		t.Errorf("the disk has %q", got)
	}
}

// TestKillWhileItDetaches: an engine that has the last bytes of its device
// written, which waits for the engine itself, ends when it is killed, and the
// next one has them.
func TestKillWhileItDetaches(t *testing.T) {
	file := filepath.Join(t.TempDir(), "disk")
	engine, d := startEngine(t, file, "ENGINE_STUCK=1")
	dev, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	must(t, err)
	want := []byte("written, not synced")
	_, err = dev.WriteAt(want, 8192)
	must(t, err)
	must(t, engine.Process.Signal(os.Interrupt))
	eventually(t, "its bytes are being written", func() bool {
		b, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(d.Path), "inflight"))
		must(t, err)
		return strings.Fields(string(b))[1] != "0"
	})
	must(t, engine.Process.Kill())
	ended := make(chan error, 1)
	go func() { ended <- engine.Wait() }()
	select {
	case <-ended:
	case <-time.After(20 * time.Second):
		t.Fatal("the engine does not end: it waits for the device that it served")
	}
	engine, _ = startEngine(t, file)
	must(t, dev.Sync())
	dev.Close()
	kill(t, engine)
	f := frontEnd(t, engineDir)
	must(t, f.Detach(t.Context(), engineVolume))
	b, err := os.ReadFile(file)
	must(t, err)
	if got := string(b[8192 : 8192+len(want)]); got != string(want) {
		t.Errorf("the disk has %q", got)
	}
}

// TestMany: devices of many volumes at once, more than the kernel has in stock.
func TestMany(t *testing.T) {
	f := frontEnd(t, "/run/many")
	paths := make(map[string]bool)
	var ids []volume.ID
	for range 20 {
		id := volume.NewID()
		ids = append(ids, id)
		paths[attach(t, f, id, newDisk(t, 1<<20)).Path] = true
	}
	if len(paths) != len(ids) {
		t.Errorf("%d volumes have %d devices", len(ids), len(paths))
	}
	for _, id := range ids {
		must(t, f.Detach(t.Context(), id))
	}
	// Their numbers are free again.
	if d := attach(t, f, ids[0], newDisk(t, 1<<20)); !paths[d.Path] {
		t.Errorf("the next device is %s, which is none of %v", d.Path, paths)
	}
	must(t, f.Detach(t.Context(), ids[0]))
}
