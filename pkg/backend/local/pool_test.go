package local

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestMovedPool: metadata lies beside data, so a pool is recognised at another
// path by a backend that has never seen it.
func TestMovedPool(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		r := request(thickClass(), 16*mib)
		v, err := h.CreateVolume(h.Context(), r)
		h.must(err)
		s := h.snapshotOf(r.ID)
		h.close()
		backendtest.Unmount(h, h.root)
		h.root = backendtest.Mount(h, h.image, "loop,noatime")
		h.options = Options{Pools: []PoolConfig{{Name: "fast", Path: h.root}}, Attacher: &loop.Attacher{}, StateDir: h.TempDir()}
		h.open()
		defer h.close() // before it is unmounted
		again, err := h.CreateVolume(h.Context(), r)
		if err != nil || again != v {
			h.Errorf("%+v, %v, want %+v", again, err, v)
		}
		if cut, err := h.Snapshot(h.Context(), s.ID); err != nil || cut != s {
			h.Errorf("%+v, %v, want %+v", cut, err, s)
		}
		h.deleteAll()
		_, err = h.CreateVolume(h.Context(), r)
		h.want(err, fault.Fenced, string(r.ID), "never used again")
		_, err = h.CreateSnapshot(h.Context(), backend.CreateSnapshotRequest{ID: s.ID, Volume: h.create(thickClass(), mib), Consistency: volume.CrashConsistent})
		h.want(err, fault.Fenced, string(s.ID))
		// Also what was deleted before it came to be.
		unknown := request(thickClass(), mib)
		h.must(h.DeleteVolume(h.Context(), unknown.ID))
		h.reopen()
		_, err = h.CreateVolume(h.Context(), unknown)
		h.want(err, fault.Fenced)
	})
}

// TestTombstonesAreForgotten after a day, and not before.
func TestTombstonesAreForgotten(t *testing.T) {
	t.Parallel()
	h := newHouse(t, volume.XFSPool, 384*mib)
	now := time.Now()
	h.options.Now = func() time.Time { return now }
	h.reopen()
	r := request(thickClass(), mib)
	h.must(h.DeleteVolume(h.Context(), r.ID))
	now = now.Add(tombstoneAge - time.Hour)
	h.must(h.DeleteVolume(h.Context(), volume.NewID()))
	_, err := h.CreateVolume(h.Context(), r)
	h.want(err, fault.Fenced)
	now = now.Add(2 * time.Hour)
	h.must(h.DeleteVolume(h.Context(), volume.NewID()))
	if got := h.entries("deleted"); slices.Contains(got, string(r.ID)) || len(got) != 1 {
		h.Errorf("remembered: %v, want only the one that is younger than a day", got)
	}
}

func TestTwoEngines(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		_, err := Open(h.Context(), h.options)
		h.want(err, fault.InUse, h.root, "another engine")
		// By another path it is the same pool.
		link := filepath.Join(h.TempDir(), "link")
		h.must(os.Symlink(h.root, link))
		o := h.options
		o.Pools = []PoolConfig{{Name: "other", Path: link}}
		_, err = Open(h.Context(), o)
		h.want(err, fault.InUse)
		h.create(thickClass(), mib) // undisturbed
	})
}

// TestPoolAway: a pool that is not there is away, and what it held is neither
// absent nor made again.
func TestPoolAway(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		h.options.StateDir = h.TempDir()
		h.reopen()
		r := request(thickClass(), 16*mib)
		v, err := h.CreateVolume(h.Context(), r)
		h.must(err)
		away := func(says ...string) {
			h.Helper()
			_, err := h.Volume(h.Context(), r.ID)
			h.want(err, fault.Transient, append(says, h.root)...)
			_, err = h.CreateVolume(h.Context(), r)
			h.want(err, fault.Transient, h.root)
			h.want(h.DeleteVolume(h.Context(), r.ID), fault.Transient, h.root)
			_, err = h.CreateSnapshot(h.Context(), cutOf(r.ID, volume.CrashConsistent))
			h.want(err, fault.Transient, h.root)
			for _, err := range h.Volumes(h.Context()) {
				h.want(err, fault.Transient, h.root)
			}
			if c, err := h.Capacity(h.Context(), thickClass()); err != nil || c != (backend.Capacity{}) {
				h.Errorf("capacity %+v, %v, want none", c, err)
			}
			health, err := h.Health(h.Context())
			if err != nil || len(health) != 1 || health[0].Severity != backend.Inaccessible || !strings.Contains(health[0].Message, h.root) {
				h.Errorf("health %+v, %v", health, err)
			}
			if health, err = h.VolumeHealth(h.Context(), r.ID); err != nil || len(health) != 1 || health[0].Reason != "PoolInaccessible" {
				h.Errorf("volume's health %+v, %v", health, err)
			}
		}
		back := func() {
			h.Helper()
			h.must(backendtest.Poll(5*time.Second, func() error {
				_, err := h.Volume(h.Context(), r.ID)
				return err
			}))
			if again, err := h.CreateVolume(h.Context(), r); err != nil || again != v {
				h.Errorf("%+v, %v, want %+v", again, err, v)
			}
		}
		// The file that says that it is a pool vanishes while it is open.
		h.must(os.Rename(h.store().poolFile(), h.root+"/hidden"))
		away("missing")
		h.must(os.Rename(h.root+"/hidden", h.store0().poolFile()))
		back()
		// It is not mounted at the next start: the folder below is no new pool.
		h.close()
		backendtest.Unmount(h, h.root)
		h.open()
		away()
		if names, _ := os.ReadDir(h.root); len(names) > 0 {
			h.Errorf("%v was made where no pool is mounted", names)
		}
		backendtest.Command(h, "mount", "-o", "loop,noatime", h.image, h.root)
		back()
		// Another pool is mounted in its place.
		h.close()
		backendtest.Unmount(h, h.root)
		wrong := backendtest.Image(h, 384*mib)
		makePoolFilesystem(h.T, h.as, wrong)
		backendtest.Command(h, "mount", "-o", "loop,noatime", wrong, h.root)
		o := h.options
		o.StateDir = ""
		b, err := Open(h.Context(), o) // makes another pool there
		h.must(err)
		h.must(b.Close(h.Context()))
		h.open()
		away("want pool")
		h.close()
		backendtest.Unmount(h, h.root)
		backendtest.Command(h, "mount", "-o", "loop,noatime", h.image, h.root)
		h.open()
		back()
		h.deleteAll()
	})
}

// store0 is the layout of the pool, whether it is accessible or not.
func (h *house) store0() layout { return layout(h.root) }

func TestReadOnlyPool(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id := h.create(thickClass(), 16*mib)
		s := h.snapshotOf(id)
		backendtest.Command(h, "mount", "-o", "remount,ro", h.root)
		refused := func() {
			h.Helper()
			var errs []error
			_, err := h.CreateVolume(h.Context(), request(thickClass(), mib))
			errs = append(errs, err, h.DeleteVolume(h.Context(), id), h.DeleteSnapshot(h.Context(), s.ID))
			_, err = h.ExpandVolume(h.Context(), id, 32*mib)
			errs = append(errs, err)
			_, err = h.CreateSnapshot(h.Context(), cutOf(id, volume.CrashConsistent))
			errs = append(errs, err)
			_, err = h.Attach(h.Context(), backend.AttachRequest{ID: id})
			errs = append(errs, err)
			for _, err := range errs {
				h.want(err, fault.Transient, h.root, "read-only")
			}
			if v, err := h.Volume(h.Context(), id); err != nil || v.SizeBytes != 16*mib {
				h.Errorf("%+v, %v", v, err)
			}
			if health, err := h.Health(h.Context()); err != nil || len(health) != 1 || health[0].Reason != "PoolReadOnly" {
				h.Errorf("health %+v, %v", health, err)
			}
		}
		refused()
		h.reopen()
		refused()
		_, err := h.Attach(h.Context(), backend.AttachRequest{ID: id, ReadOnly: true})
		h.must(err)
		h.must(h.Detach(h.Context(), id))
		backendtest.Command(h, "mount", "-o", "remount,rw", h.root)
		h.deleteAll()
	})
}

// TestNoPool: what cannot be a pool is refused with the reason, and left as it is.
func TestNoPool(t *testing.T) {
	t.Parallel()
	try := func(t *testing.T, path string, kind fault.Kind, says ...string) {
		t.Helper()
		h := &house{T: t}
		before, _ := os.ReadDir(path)
		b, err := Open(t.Context(), Options{Pools: []PoolConfig{{Name: "p", Path: path}}, Attacher: &loop.Attacher{}})
		if err == nil {
			t.Error("opened", b.Pools(t.Context()))
			return
		}
		h.want(err, kind, append(says, path)...)
		if after, _ := os.ReadDir(path); len(after) != len(before) {
			t.Errorf("%s held %v, and now %v", path, before, after)
		}
	}
	onImage := func(t *testing.T, options, command string, args ...string) string {
		image := backendtest.Image(t, 320*mib)
		backendtest.Command(t, command, append(args, image)...)
		return backendtest.Mount(t, image, options)
	}
	t.Run("ext4", func(t *testing.T) {
		try(t, onImage(t, "loop", "mkfs.ext4", "-q"), fault.Precondition, "cannot share extents", "want XFS with reflink, or btrfs")
	})
	t.Run("xfs without reflink", func(t *testing.T) {
		try(t, onImage(t, "loop", "mkfs.xfs", "-q", "-m", "reflink=0"), fault.Precondition, "reflink=1")
	})
	t.Run("tmpfs", func(t *testing.T) {
		dir := t.TempDir()
		backendtest.Command(t, "mount", "-t", "tmpfs", "-o", "size=1m", "none", dir)
		defer backendtest.Unmount(t, dir)
		try(t, dir, fault.Precondition, "cannot share extents")
	})
	t.Run("not empty", func(t *testing.T) {
		dir := onImage(t, "loop", "mkfs.xfs", "-q")
		if err := os.WriteFile(filepath.Join(dir, "precious"), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		try(t, dir, fault.Precondition, "precious", "empty folder")
	})
	t.Run("a file", func(t *testing.T) {
		try(t, backendtest.Image(t, 4096), fault.Precondition, "no folder")
	})
}

// TestPoolOnADevice: a blank device is formatted if the configuration says as
// what, and nothing else ever is.
func TestPoolOnADevice(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		image := backendtest.Image(h, 384*mib)
		device := ""
		defer func() { backendtest.Command(h, "losetup", "-d", device) }()
		point := h.TempDir()
		o := Options{Pools: []PoolConfig{{Name: "d", MountPath: point}}, Attacher: &loop.Attacher{}, StateDir: h.TempDir()}
		blank := func() {
			h.Helper()
			if device != "" {
				backendtest.Command(h, "losetup", "-d", device)
			}
			h.must(errors.Join(os.Truncate(image, 0), os.Truncate(image, 384*mib)))
			device = backendtest.Command(h, "losetup", "--show", "-f", image)
			o.Pools[0].Device = device
		}
		refused := func(says ...string) {
			h.Helper()
			before := h.edges(image)
			_, err := Open(h.Context(), o)
			h.want(err, fault.Precondition, append(says, device)...)
			if after := h.edges(image); before != after {
				h.Error("the device was written")
			}
		}
		blank()
		refused("blank", "want format xfs or btrfs")
		o.Pools[0].Format = h.as
		for _, offset := range []int64{512, 384*mib - 4096} {
			blank()
			h.must(writeAt(device, offset, []byte("precious")))
			refused("unknown data", "never overwrites")
		}
		blank()
		backendtest.Command(h, "mkfs.ext4", "-q", device)
		refused("ext4", "never overwrites")
		blank()
		b, err := Open(h.Context(), o)
		h.must(err)
		defer backendtest.Unmount(h, point)
		if p := b.Pools(h.Context()); p[0].Type != h.as {
			h.Errorf("pools: %+v", p)
		}
		v, err := b.CreateVolume(h.Context(), request(thickClass(), mib))
		h.must(err)
		h.must(b.Close(h.Context()))
		// Mounted again by a later start, and not formatted again.
		backendtest.Unmount(h, point)
		if b, err = Open(h.Context(), o); err != nil {
			h.Fatal(err)
		}
		if again, err := b.Volume(h.Context(), v.ID); err != nil || again != v {
			h.Errorf("%+v, %v, want %+v", again, err, v)
		}
		h.must(b.Close(h.Context()))
		backendtest.Unmount(h, point)
		// A blank device where a pool was known is not it.
		blank()
		if b, err = Open(h.Context(), o); err != nil {
			h.Fatal(err)
		}
		_, err = b.Volume(h.Context(), v.ID)
		h.want(err, fault.Transient, device, "is it the right device?")
		h.must(b.Close(h.Context()))
		if out, err := exec.Command("blkid", "-p", device).CombinedOutput(); err == nil {
			h.Errorf("it was formatted: %s", out)
		}
	})
}

// edges reads the first and the last MiB of a file.
func (h *house) edges(path string) string {
	h.Helper()
	f, err := os.Open(path)
	h.must(err)
	defer f.Close()
	info, err := f.Stat()
	h.must(err)
	b := make([]byte, 2*mib)
	_, first := f.ReadAt(b[:mib], 0)
	_, last := f.ReadAt(b[mib:], info.Size()-mib)
	h.must(errors.Join(first, last))
	return string(b)
}

// TestDamagedRecord: what cannot be read is Corrupt, by the name of its file; it
// hides nothing else, and nothing is changed.
func TestDamagedRecord(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id, whole := h.create(thickClass(), 16*mib), h.create(thickClass(), mib)
		s := h.snapshotOf(id)
		h.attach(whole)
		for _, dir := range []string{h.store().volume(id), h.store().snapshot(s.ID)} {
			content, err := os.ReadFile(meta(dir))
			h.must(err)
			for name, damaged := range map[string][]byte{"truncated": content[:len(content)/2], "empty": {}, "gone": nil} {
				h.must(os.WriteFile(meta(dir), damaged, 0o600))
				if damaged == nil {
					h.must(os.Remove(meta(dir)))
				}
				h.reopen()
				before := h.tree()
				var errs []error
				if dir == h.store().volume(id) {
					_, err := h.Volume(h.Context(), id)
					errs = append(errs, err)
					_, err = h.Attach(h.Context(), backend.AttachRequest{ID: id})
					errs = append(errs, err)
					_, err = h.CreateVolume(h.Context(), backend.CreateVolumeRequest{ID: id, SizeBytes: 16 * mib, Class: thickClass()})
					errs = append(errs, err)
					_, err = h.ExpandVolume(h.Context(), id, 32*mib)
					errs = append(errs, err)
					_, err = h.CreateSnapshot(h.Context(), cutOf(id, volume.CrashConsistent))
					errs = append(errs, err)
					listed := 0
					for v, err := range h.Volumes(h.Context()) {
						if err != nil {
							errs = append(errs, err)
						} else if v.ID == whole && v.Device != "" {
							listed++
						}
					}
					if listed != 1 {
						h.Errorf("%s: the other volume is hidden", name)
					}
					if health, err := h.VolumeHealth(h.Context(), id); err != nil || len(health) != 1 || health[0].Reason != "RecordUnreadable" {
						h.Errorf("%s: health %+v, %v", name, health, err)
					}
				} else {
					_, err := h.Snapshot(h.Context(), s.ID)
					errs = append(errs, err)
					r := request(thickClass(), 16*mib)
					r.Source.Snapshot = s.ID
					_, err = h.CreateVolume(h.Context(), r)
					errs = append(errs, err)
					_, err = h.CreateSnapshot(h.Context(), backend.CreateSnapshotRequest{ID: s.ID, Volume: id, Consistency: volume.FilesystemConsistent})
					errs = append(errs, err)
				}
				for _, err := range errs {
					h.want(err, fault.Corrupt, meta(dir))
				}
				if after := h.tree(); !slices.Equal(before, after) {
					h.Errorf("%s: the pool was changed from\n%s\nto\n%s", name, strings.Join(before, "\n"), strings.Join(after, "\n"))
				}
				h.must(os.WriteFile(meta(dir), content, 0o600))
			}
		}
		// A folder that is missing does not make its volumes absent.
		h.must(os.Rename(h.root+"/volumes", h.root+"/elsewhere"))
		_, err := h.Volume(h.Context(), id)
		h.want(err, fault.Corrupt, h.root+"/volumes", "put it back")
		h.want(h.DeleteVolume(h.Context(), id), fault.Corrupt, h.root+"/volumes")
		h.must(os.Rename(h.root+"/elsewhere", h.root+"/volumes"))
		// A damaged pool record keeps the pool from being opened, and another made.
		h.close()
		file := h.store0().poolFile()
		content, err := os.ReadFile(file)
		h.must(err)
		h.must(os.WriteFile(file, content[:40], 0o600))
		h.open()
		_, err = h.Volume(h.Context(), id)
		h.want(err, fault.Transient, file)
		h.must(os.WriteFile(file, content, 0o600))
		h.reopen()
		// A disk that is short or gone is told, and never made anew.
		disk := h.store().medium.disk(h.store().volume(id))
		h.must(os.Truncate(disk, 4096))
		_, err = h.Attach(h.Context(), backend.AttachRequest{ID: id})
		h.want(err, fault.Corrupt, disk, "4096")
		h.must(os.Remove(disk))
		_, err = h.Attach(h.Context(), backend.AttachRequest{ID: id})
		h.want(err, fault.Corrupt, disk, "missing")
		if health, err := h.VolumeHealth(h.Context(), id); err != nil || len(health) != 1 || health[0].Severity != backend.DataLoss {
			h.Errorf("health %+v, %v", health, err)
		}
		h.must(h.Detach(h.Context(), whole))
		h.deleteAll()
	})
}
