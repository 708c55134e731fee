package loop_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/fault"
)

const size = 8 << 20

// backing makes a preallocated file, and sees to its detachment.
func backing(t *testing.T, name string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), name)
	f, err := os.Create(file)
	must(t, err)
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, size))
	must(t, f.Close())
	// The test's own context has ended by then, and Detach may have to wait for
	// somebody who looks at all devices.
	t.Cleanup(func() { must(t, new(loop.Attacher).Detach(context.Background(), file)) })
	return file
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func attach(t *testing.T, file string, o blockdev.Options) blockdev.Device {
	t.Helper()
	d, err := new(loop.Attacher).Attach(t.Context(), file, o)
	must(t, err)
	return d
}

func TestAttach(t *testing.T) {
	file := backing(t, "disk")
	d := attach(t, file, blockdev.Options{Discard: true})
	if d.SizeBytes != size || d.ReadOnly || !d.DirectIO || !d.Discard {
		t.Errorf("got %+v", d)
	}
	if again := attach(t, file, blockdev.Options{Discard: true}); again != d {
		t.Errorf("the second time got %+v, want %+v", again, d)
	}
	f, err := os.Open(d.Path)
	must(t, err)
	defer f.Close()
	if sector, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKSSZGET); err != nil || sector != 512 {
		t.Errorf("logical sectors of %d bytes, %v; want 512", sector, err)
	}
	if _, err := new(loop.Attacher).Attach(t.Context(), file, blockdev.Options{ReadOnly: true}); !fault.Is(err, fault.InUse) {
		t.Errorf("with another mode: got %v, want in use", err)
	}
}

func TestReadOnlyRefusesWrites(t *testing.T) {
	d := attach(t, backing(t, "disk"), blockdev.Options{ReadOnly: true})
	f, err := os.OpenFile(d.Path, os.O_WRONLY, 0)
	if err == nil {
		_, err = f.Write(make([]byte, 4096))
		f.Close()
	}
	if err == nil || !d.ReadOnly {
		t.Errorf("a write to a read-only device succeeded: %+v", d)
	}
}

// TestDiscard: with discard the backing file loses its blocks; without, the
// device refuses it and the file keeps them, and zeroing keeps them as well.
func TestDiscard(t *testing.T) {
	for _, on := range []bool{true, false} {
		file := backing(t, "disk")
		d := attach(t, file, blockdev.Options{Discard: on})
		err := exec.Command("blkdiscard", "--offset", "0", "--length", fmt.Sprint(size/2), d.Path).Run()
		if (err == nil) != on {
			t.Errorf("discard %t: blkdiscard: %v", on, err)
		}
		must(t, exec.Command("blkdiscard", "--zeroout", "--offset", fmt.Sprint(size/2), "--length", fmt.Sprint(size/2), d.Path).Run())
		var st unix.Stat_t
		must(t, unix.Stat(file, &st))
		want := int64(size)
		if on {
			want = size / 2
		}
		if st.Blocks*512 < want || st.Blocks*512 > want+64<<10 {
			t.Errorf("discard %t: the file has %d bytes, want %d", on, st.Blocks*512, want)
		}
	}
}

// TestDiscardIsSwitchedOff: a process that died between attaching and switching
// discard off leaves it on; the next one switches it off. Back on it does not go.
func TestDiscardIsSwitchedOff(t *testing.T) {
	file := backing(t, "disk")
	if d := attach(t, file, blockdev.Options{Discard: true}); !d.Discard {
		t.Fatal("no discard")
	}
	if d := attach(t, file, blockdev.Options{}); d.Discard {
		t.Error("discard is still on")
	}
	if _, err := new(loop.Attacher).Attach(t.Context(), file, blockdev.Options{Discard: true}); !fault.Is(err, fault.InUse) {
		t.Errorf("switched on again: got %v, want in use", err)
	}
}

// TestDiscardIsNotInherited: the kernel keeps a switched-off discard with the
// device's number; whoever is given the number next must not find it.
func TestDiscardIsNotInherited(t *testing.T) {
	for range 8 {
		file := backing(t, "disk")
		attach(t, file, blockdev.Options{})
		must(t, new(loop.Attacher).Detach(t.Context(), file))
		if d := attach(t, file, blockdev.Options{Discard: true}); !d.Discard {
			t.Fatalf("%s has no discard", d.Path)
		}
		must(t, new(loop.Attacher).Detach(t.Context(), file))
	}
}

func TestFindOnlyOwn(t *testing.T) {
	mine, other, gone := backing(t, "disk"), backing(t, "disk"), backing(t, "disk")
	d := attach(t, mine, blockdev.Options{})
	attach(t, other, blockdev.Options{})
	unlinked := attach(t, gone, blockdev.Options{})
	must(t, os.Remove(gone))
	defer func() { must(t, exec.Command("losetup", "--detach", unlinked.Path).Run()) }()
	found, err := new(loop.Attacher).Find(t.Context(), filepath.Dir(mine))
	must(t, err)
	if len(found) != 1 || found[mine] != d {
		t.Errorf("got %v, want only %s: %+v", found, mine, d)
	}
	if found, err := new(loop.Attacher).Find(t.Context(), filepath.Dir(gone)); err != nil || len(found) != 0 {
		t.Errorf("an unlinked file is found: %v, %v", found, err)
	}
	// A new file of the same name is not what the device is backed by.
	must(t, os.WriteFile(gone, make([]byte, size), 0o600))
	if fresh := attach(t, gone, blockdev.Options{}); fresh.Path == unlinked.Path {
		t.Errorf("the new file got the old one's device")
	}
}

// TestFoundThroughAnotherName: the device is the file's, whatever it is called.
func TestFoundThroughAnotherName(t *testing.T) {
	file := backing(t, "disk")
	d := attach(t, file, blockdev.Options{})
	link := filepath.Join(t.TempDir(), "elsewhere")
	must(t, os.Symlink(filepath.Dir(file), link))
	if got := attach(t, filepath.Join(link, "disk"), blockdev.Options{}); got.Path != d.Path {
		t.Errorf("through a link got %s, want %s", got.Path, d.Path)
	}
}

func TestResize(t *testing.T) {
	file := backing(t, "disk")
	d := attach(t, file, blockdev.Options{})
	must(t, os.Truncate(file, 2*size))
	must(t, new(loop.Attacher).Resize(t.Context(), file))
	if got := attach(t, file, blockdev.Options{}); got.SizeBytes != 2*size || got.Path != d.Path {
		t.Errorf("got %+v, want %d bytes", got, 2*size)
	}
	if err := new(loop.Attacher).Resize(t.Context(), backing(t, "disk")); !fault.Is(err, fault.NotFound) {
		t.Errorf("resize of what has no device: got %v, want not found", err)
	}
}

// TestDetachInUse: a device that somebody has open stays attached for good, not
// only until they close it.
func TestDetachInUse(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, device string) (release func()){
		"open": func(t *testing.T, device string) func() {
			f, err := os.Open(device)
			must(t, err)
			return func() { f.Close() }
		},
		"mounted": func(t *testing.T, device string) func() {
			dir := t.TempDir()
			must(t, exec.Command("mkfs.ext4", "-q", device).Run())
			must(t, exec.Command("mount", device, dir).Run())
			return func() { must(t, exec.Command("umount", dir).Run()) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			file := backing(t, "disk")
			d := attach(t, file, blockdev.Options{})
			release := open(t, d.Path)
			err := new(loop.Attacher).Detach(t.Context(), file)
			release()
			if !fault.Is(err, fault.InUse) {
				t.Fatalf("got %v, want in use", err)
			}
			if again := attach(t, file, blockdev.Options{}); again != d {
				t.Errorf("after the refusal got %+v, want %+v as before", again, d)
			}
			must(t, new(loop.Attacher).Detach(t.Context(), file))
			must(t, new(loop.Attacher).Detach(t.Context(), file))
			if found, err := new(loop.Attacher).Find(t.Context(), filepath.Dir(file)); err != nil || len(found) != 0 {
				t.Errorf("still attached: %v, %v", found, err)
			}
		})
	}
}

func TestAttachMissing(t *testing.T) {
	if _, err := new(loop.Attacher).Attach(t.Context(), "/nowhere/disk", blockdev.Options{}); !fault.Is(err, fault.NotFound) {
		t.Errorf("got %v, want not found", err)
	}
}

// TestRace: many attachers at once, as several processes: each file gets a
// device of its own, and what is written to one is in its file.
func TestRace(t *testing.T) {
	files := make([]string, 16)
	for i := range files {
		files[i] = backing(t, "disk")
	}
	var wg sync.WaitGroup
	paths := make([]string, len(files))
	for i, file := range files {
		wg.Go(func() {
			for range 5 {
				d, err := new(loop.Attacher).Attach(t.Context(), file, blockdev.Options{})
				if err != nil {
					t.Error(err)
					return
				}
				paths[i] = d.Path
				if err := new(loop.Attacher).Detach(t.Context(), file); err != nil {
					t.Error(err)
				}
			}
			d, err := new(loop.Attacher).Attach(t.Context(), file, blockdev.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			paths[i] = d.Path
			if err := os.WriteFile(d.Path, bytes.Repeat([]byte{byte(i + 1)}, 4096), 0); err != nil {
				t.Error(err)
			}
			if err := exec.Command("blockdev", "--flushbufs", d.Path).Run(); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i, file := range files {
		body, err := os.ReadFile(file)
		must(t, err)
		if !bytes.Equal(body[:4096], bytes.Repeat([]byte{byte(i + 1)}, 4096)) {
			t.Errorf("file %d (%s) does not hold what was written to its device", i, paths[i])
		}
	}
}
