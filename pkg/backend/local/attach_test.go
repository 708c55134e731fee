package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestDevicesAreFoundAgain: a new process finds the devices of the old one by
// what they are backed by, and never touches another's.
func TestDevicesAreFoundAgain(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		foreign := backendtest.Image(h, mib)
		other, err := h.options.Attacher.Attach(h.Context(), foreign, blockdev.Options{})
		h.must(err)
		defer func() { h.must(h.options.Attacher.Detach(context.Background(), foreign)) }()
		// Another's device on a file that lies in the pool's folder, outside of it.
		beside := filepath.Join(h.root, "beside")
		h.must(os.WriteFile(beside, make([]byte, mib), 0o600))
		second, err := h.options.Attacher.Attach(h.Context(), beside, blockdev.Options{})
		h.must(err)
		defer func() { h.must(h.options.Attacher.Detach(context.Background(), beside)) }()

		id := h.create(thickClass(), 16*mib)
		device := h.attach(id)
		h.reopen()
		if again := h.attach(id); again != device {
			h.Errorf("device %s, and %s after a restart", device, again)
		}
		v, err := h.Volume(h.Context(), id)
		if h.must(err); v.Device != device {
			h.Errorf("volume's device is %q, want %q", v.Device, device)
		}
		h.must(h.Detach(h.Context(), id))
		h.must(h.Detach(h.Context(), id)) // twice is once
		h.must(h.DeleteVolume(h.Context(), id))
		h.reopen()
		for _, d := range []string{other.Path, second.Path} {
			if backing, err := os.ReadFile("/sys/block/" + filepath.Base(d) + "/loop/backing_file"); err != nil {
				h.Errorf("a foreign device is gone: %v", err)
			} else if b := strings.TrimSpace(string(backing)); b != foreign && b != beside {
				h.Errorf("%s is backed by %s", d, b)
			}
		}
	})
}

func TestAttachedVolumeIsKept(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id := h.create(thickClass(), 16*mib)
		device := h.attach(id)
		f, err := os.OpenFile(device, os.O_RDWR|os.O_EXCL, 0)
		h.must(err)
		h.want(h.DeleteVolume(h.Context(), id), fault.InUse, device)
		h.want(h.Detach(h.Context(), id), fault.InUse, device)
		if again := h.attach(id); again != device {
			h.Errorf("device %s, then %s", device, again)
		}
		_, err = h.Attach(h.Context(), backend.AttachRequest{ID: id, ReadOnly: true})
		h.want(err, fault.InUse, device, "detach it first")
		h.must(f.Close())
		h.must(h.Detach(h.Context(), id))
		d, err := h.Attach(h.Context(), backend.AttachRequest{ID: id, ReadOnly: true})
		h.must(err)
		if err := writeAt(d.Path, 0, aligned(4096)); err == nil {
			h.Error("a read-only device was written")
		}
		h.deleteAll()
	})
}

// exhausted is an attacher that has no more devices.
type exhausted struct{ blockdev.Attacher }

func (exhausted) Attach(context.Context, string, blockdev.Options) (blockdev.Device, error) {
	return blockdev.Device{}, fault.New(fault.Exhausted, "no free loop device")
}

func TestNoMoreDevices(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		h.options.MaxVolumes = 1
		h.reopen()
		one, two := h.create(thickClass(), mib), h.create(thickClass(), mib)
		h.attach(one)
		h.attach(one) // not another
		_, err := h.Attach(h.Context(), backend.AttachRequest{ID: two})
		h.want(err, fault.Exhausted, "maxVolumes, 1")
		h.must(h.Detach(h.Context(), one))
		h.attach(two)
		h.must(h.Detach(h.Context(), two))
		real := h.options.Attacher
		h.options.Attacher = exhausted{real}
		h.reopen()
		_, err = h.Attach(h.Context(), backend.AttachRequest{ID: two})
		h.want(err, fault.Exhausted, "no free loop device")
		h.options.Attacher = real
		h.reopen()
		h.deleteAll()
	})
}

// writeAt writes a device or a file, durably.
func writeAt(path string, offset int64, b []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, offset)
	return errors.Join(err, f.Sync(), f.Close())
}

// TestExpandOnline grows a volume while it is mounted.
func TestExpandOnline(t *testing.T) {
	t.Parallel()
	eachPool(t, 512*mib, func(h *house) {
		for _, class := range []volume.Class{thickClass(), thinClass()} {
			id := h.create(class, 16*mib)
			dir, unmount := h.mount(id)
			h.writeFile(filepath.Join(dir, "f"), "kept")
			v, err := h.ExpandVolume(h.Context(), id, 48*mib)
			h.must(err)
			if v.SizeBytes != 48*mib || class.Provisioning == volume.Thick && v.UsedBytes < 48*mib {
				h.Errorf("%+v", v)
			}
			if size := backendtest.Command(h, "blockdev", "--getsize64", v.Device); size != "50331648" {
				h.Errorf("the device has %s bytes, want 48 MiB", size)
			}
			h.must(writeAt(v.Device, 48*mib-4096, aligned(4096)))
			h.writeFile(filepath.Join(dir, "g"), "still writable")
			if b, err := os.ReadFile(filepath.Join(dir, "f")); err != nil || string(b) != "kept" {
				h.Errorf("read %q, %v", b, err)
			}
			unmount()
			for _, size := range []int64{0, 16 * mib, 48 * mib} { // not smaller, and no error
				if v, err = h.ExpandVolume(h.Context(), id, size); err != nil || v.SizeBytes != 48*mib {
					h.Errorf("%d: %+v, %v", size, v, err)
				}
			}
			_, err = h.ExpandVolume(h.Context(), id, 48*mib+1)
			h.want(err, fault.Invalid, "multiple of 4096")
			_, err = h.ExpandVolume(h.Context(), id, -4096)
			h.want(err, fault.Invalid, "-4096")
			if class.Provisioning == volume.Thick {
				_, err = h.ExpandVolume(h.Context(), id, 1<<40)
				h.want(err, fault.Exhausted, "bytes are missing")
				_, err = h.ExpandVolume(h.Context(), id, volume.MaximumBytes+4096)
				h.want(err, fault.OutOfRange)
			}
			if v, err = h.Volume(h.Context(), id); err != nil || v.SizeBytes != 48*mib {
				h.Errorf("%+v, %v", v, err)
			}
		}
		h.deleteAll()
	})
}

// TestLateExpansionIsUndone: when the pool turns out to be full in the middle of
// an expansion, the volume is as it was.
func TestLateExpansionIsUndone(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id := h.create(thickClass(), 16*mib)
		h.attach(id)
		s := h.store()
		from, err := h.findVolume(h.Context(), id)
		h.must(err)
		h.want(access(extend(from, 4<<30, true)), fault.Exhausted) // without asking for room
		info, err := os.Stat(s.medium.disk(from.dir))
		if h.must(err); info.Size() != 16*mib {
			h.Errorf("the disk has %d bytes, want 16 MiB", info.Size())
		}
		h.must(s.medium.reclaim())
		if c, err := h.Capacity(h.Context(), thickClass()); err != nil || c.AvailableBytes < 64*mib {
			h.Errorf("%+v, %v: the room was not given back", c, err)
		}
		h.reopen()
		if v, err := h.Volume(h.Context(), id); err != nil || v.SizeBytes != 16*mib {
			h.Errorf("%+v, %v", v, err)
		}
		h.deleteAll()
	})
}

// TestDevicesOfAnotherMount: an engine in a container comes back with mounts of
// its own, and the kernel names its devices' files by mounts that are gone.
func TestDevicesOfAnotherMount(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		h.close()
		lasting := h.options.Pools[0].Path
		passing := h.TempDir()
		backendtest.Command(h, "mount", "--bind", lasting, passing)
		h.options.Pools[0].Path = passing
		h.open()
		id := h.create(thickClass(), mib)
		device := h.attach(id)
		h.close()
		backendtest.Command(h, "umount", "-l", passing)
		h.options.Pools[0].Path = lasting
		h.open()
		if v, err := h.Volume(h.Context(), id); err != nil || v.Device != device {
			h.Errorf("%+v, %v: want device %s", v, err, device)
		}
		for v, err := range h.Volumes(h.Context()) {
			if err != nil || v.Device != device {
				h.Errorf("%+v, %v: want device %s", v, err, device)
			}
		}
		f, err := os.OpenFile(device, os.O_RDWR|os.O_EXCL, 0)
		h.must(err)
		h.want(h.DeleteVolume(h.Context(), id), fault.InUse, device)
		f.Close()
		h.deleteAll()
	})
}
