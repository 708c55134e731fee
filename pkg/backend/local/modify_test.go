package local

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unsafe"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func to(p volume.Provisioning) volume.Mutable { return volume.Mutable{Provisioning: &p} }

// discard tells a device that a range is unused.
func discard(device string, offset, length uint64) error {
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	r := [2]uint64{offset, length}
	return ioctl(f, 0x1277, unsafe.Pointer(&r)) // BLKDISCARD
}

// TestThinVolumes take room as they are written, give it back on a discard, and
// may be larger than their pool.
func TestThinVolumes(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id := h.create(thinClass(), 1<<30)
		used := func() int64 {
			h.Helper()
			v, err := h.Volume(h.Context(), id)
			h.must(err)
			return v.UsedBytes
		}
		if n := used(); n > mib {
			h.Errorf("a blank thin volume uses %d bytes", n)
		}
		device := h.attach(id)
		h.must(writeAt(device, 16*mib, aligned(8*mib)))
		if n := used(); n < 8*mib || n > 9*mib {
			h.Errorf("8 MiB were written, and %d bytes are used", n)
		}
		h.must(discard(device, 16*mib, 8*mib))
		h.must(h.store().medium.settle())
		if n := used(); n > mib {
			h.Errorf("all was discarded, and %d bytes are used", n)
		}
		thick := h.create(thickClass(), 16*mib)
		if err := discard(h.attach(thick), 0, 16*mib); err == nil {
			h.Error("a thick volume's device takes discards")
		}
		if v, err := h.Volume(h.Context(), thick); err != nil || v.UsedBytes < 16*mib {
			h.Errorf("%+v, %v: want all of it kept", v, err)
		}
		h.deleteAll()
	})
}

// TestThinToThickOnline fills a volume's holes while it is mounted and written.
func TestThinToThickOnline(t *testing.T) {
	t.Parallel()
	eachPool(t, 512*mib, func(h *house) {
		id := h.create(thinClass(), 64*mib)
		dir, unmount := h.mount(id)
		w := h.startWriter(filepath.Join(dir, "numbers"), os.O_RDWR|os.O_CREATE)
		v, err := h.ModifyVolume(h.Context(), id, to(volume.Thick))
		h.must(err)
		if v.Class.Provisioning != volume.Thick || v.UsedBytes < 64*mib {
			h.Errorf("%+v", v)
		}
		again, err := h.ModifyVolume(h.Context(), id, to(volume.Thick))
		if err != nil || again.Class != v.Class {
			h.Errorf("repeated: %+v, %v", again, err)
		}
		w.end(h)
		content, err := os.ReadFile(filepath.Join(dir, "numbers"))
		h.must(err)
		if n, err := numbers(content); err != nil || n != w.written.Load() {
			h.Errorf("%d numbers, %v: want %d", n, err, w.written.Load())
		}
		unmount()
		if err := discard(v.Device, 32*mib, mib); err == nil {
			h.Error("the device still takes discards")
		}
		_, err = h.ModifyVolume(h.Context(), id, to(volume.Thin))
		h.want(err, fault.Invalid, "stays thick")
		h.must(h.Detach(h.Context(), id))
		h.attach(id)
		h.reopen()
		if v, err = h.Volume(h.Context(), id); err != nil || v.Class.Provisioning != volume.Thick {
			h.Errorf("after a restart: %+v, %v", v, err)
		}
		// One that does not fit stays thin, and is whole.
		large := h.create(thinClass(), 2<<30)
		b := aligned(mib)
		h.must(writeAt(h.attach(large), 7*mib, b))
		_, err = h.ModifyVolume(h.Context(), large, to(volume.Thick))
		h.want(err, fault.Exhausted, "bytes are missing")
		if v, err = h.Volume(h.Context(), large); err != nil || v.Class.Provisioning != volume.Thin || v.UsedBytes > 3*mib {
			h.Errorf("%+v, %v", v, err)
		}
		disk, err := os.Open(h.store().medium.disk(h.store().volume(large)))
		h.must(err)
		defer disk.Close()
		got := make([]byte, mib)
		if _, err := disk.ReadAt(got, 7*mib); err != nil || !bytes.Equal(got, b) {
			h.Errorf("its data is not what was written, %v", err)
		}
		h.deleteAll()
	})
}

// TestSharedThinToThick counts what a thin volume shares once it is thick.
func TestSharedThinToThick(t *testing.T) {
	t.Parallel()
	eachPool(t, 512*mib, func(h *house) {
		id := h.create(thinClass(), 32*mib)
		h.must(writeAt(h.attach(id), 0, aligned(24*mib)))
		h.snapshotOf(id)
		before, err := h.Capacity(h.Context(), thickClass())
		h.must(err)
		_, err = h.ModifyVolume(h.Context(), id, to(volume.Thick))
		h.must(err)
		after, err := h.Capacity(h.Context(), thickClass())
		if h.must(err); before.AvailableBytes-after.AvailableBytes < 30*mib {
			h.Errorf("available %d, then %d: want 8 MiB of holes and 24 of copies counted", before.AvailableBytes, after.AvailableBytes)
		}
		h.deleteAll()
	})
}

func TestModifyAndRecord(t *testing.T) {
	t.Parallel()
	h := newHouse(t, volume.XFSPool, 384*mib)
	id := h.create(thickClass(), mib)
	pause, none := 7*time.Second, time.Duration(0)
	v, err := h.ModifyVolume(h.Context(), id, volume.Mutable{MaxSnapshotPause: &pause})
	if err != nil || v.Class.MaxSnapshotPause != pause {
		h.Errorf("%+v, %v", v, err)
	}
	_, err = h.ModifyVolume(h.Context(), id, volume.Mutable{MaxSnapshotPause: &none})
	h.want(err, fault.Invalid, volume.ParamMaxSnapshotPause, "above 0")
	_, err = h.ModifyVolume(h.Context(), id, to("fat"))
	h.want(err, fault.Invalid, volume.ParamProvisioning, "fat")
	_, err = h.ModifyVolume(h.Context(), volume.NewID(), to(volume.Thick))
	h.want(err, fault.NotFound)
	f := backend.Filesystem{Type: volume.Ext4, State: backend.Formatted}
	h.must(h.RecordFilesystem(h.Context(), id, f))
	h.want(h.RecordFilesystem(h.Context(), id, backend.Filesystem{Type: "zfs", State: backend.Formatted}), fault.Invalid, "zfs")
	h.want(h.RecordFilesystem(h.Context(), id, backend.Filesystem{State: backend.Formatted}), fault.Invalid, "want a type")
	h.want(h.RecordFilesystem(h.Context(), id, backend.Filesystem{Type: volume.Ext4, State: "halfway"}), fault.Invalid, "halfway")
	clone := h.clone(backend.Source{Volume: id}, thickClass(), mib)
	if v, err := h.Volume(h.Context(), clone); err != nil || v.Filesystem != (backend.Filesystem{Type: volume.Ext4, State: backend.Cloned}) {
		h.Errorf("%+v, %v: want it cloned", v, err)
	}
	h.reopen()
	if v, err := h.Volume(h.Context(), id); err != nil || v.Filesystem != f || v.Class.MaxSnapshotPause != pause {
		h.Errorf("after a restart: %+v, %v", v, err)
	}
	// The create that made it is still the same, whatever became of it since.
	_, err = h.CreateVolume(h.Context(), backend.CreateVolumeRequest{ID: id, SizeBytes: mib, Class: thickClass()})
	h.must(err)
	_, err = h.CreateVolume(h.Context(), backend.CreateVolumeRequest{ID: id, SizeBytes: 2 * mib, Class: thickClass()})
	h.want(err, fault.Exists, "want")
	h.deleteAll()
}
