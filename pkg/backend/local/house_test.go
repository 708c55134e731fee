package local

import (
	"context"
	"errors"
	"io/fs"
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

const mib = 1 << 20

// house is a backend with one pool on a filesystem of its own.
type house struct {
	*testing.T
	*Backend
	as      volume.PoolType
	image   string // of the filesystem under the pool
	root    string
	options Options
	piece   int64 // what scatter writes at once, in bytes; 0: 16 KiB
}

// eachPool runs a test on both kinds of pool.
func eachPool(t *testing.T, sizeBytes int64, test func(h *house)) {
	for _, as := range []volume.PoolType{volume.XFSPool, volume.BtrfsPool} {
		t.Run(string(as), func(t *testing.T) {
			t.Parallel()
			test(newHouse(t, as, sizeBytes))
		})
	}
}

func newHouse(t *testing.T, as volume.PoolType, sizeBytes int64) *house {
	t.Helper()
	h := &house{T: t, as: as, image: backendtest.Image(t, sizeBytes)}
	makePoolFilesystem(t, as, h.image)
	h.root = backendtest.Mount(t, h.image, "loop,noatime")
	h.options = Options{Pools: []PoolConfig{{Name: "fast", Path: h.root}}, Attacher: &loop.Attacher{}}
	t.Cleanup(h.detachAll) // before the pool is unmounted
	h.open()
	t.Cleanup(h.close)
	return h
}

func makePoolFilesystem(t *testing.T, as volume.PoolType, image string) {
	t.Helper()
	if as == volume.BtrfsPool {
		backendtest.Command(t, "mkfs.btrfs", "-q", image)
		return
	}
	backendtest.Command(t, "mkfs.xfs", "-q", "-m", "reflink=1", image)
}

func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// want sees that an error is of a kind, and says all of these.
func (h *house) want(err error, kind fault.Kind, says ...string) {
	h.Helper()
	if !fault.Is(err, kind) {
		h.Errorf("got %v, want it to be %s", err, kind)
		return
	}
	for _, part := range says {
		if !strings.Contains(err.Error(), part) {
			h.Errorf("got %v, want it to say %q", err, part)
		}
	}
}

func (h *house) open() {
	h.Helper()
	b, err := Open(h.Context(), h.options)
	h.must(err)
	h.Backend = b
}

// close gives the pool back; the backend object is dropped.
func (h *house) close() {
	if h.Backend != nil {
		_ = h.Close(context.WithoutCancel(h.Context()))
		h.Backend = nil
	}
}

func (h *house) reopen() { h.Helper(); h.close(); h.open() }

func (h *house) store() *store {
	h.Helper()
	s, err := h.pools[0].use(h.Context())
	h.must(err)
	return s
}

// detachAll frees the devices that a failed test left.
func (h *house) detachAll() {
	found, _ := h.options.Attacher.Find(context.Background(), h.root)
	for backing := range found {
		_ = h.options.Attacher.Detach(context.Background(), backing)
	}
}

func thickClass() volume.Class {
	return volume.Class{Backend: volume.BackendLocal, Provisioning: volume.Thick, MaxSnapshotPause: time.Second}
}

func thinClass() volume.Class {
	c := thickClass()
	c.Provisioning = volume.Thin
	return c
}

func request(class volume.Class, sizeBytes int64) backend.CreateVolumeRequest {
	return backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: sizeBytes, Class: class}
}

func (h *house) create(class volume.Class, sizeBytes int64) volume.ID {
	h.Helper()
	v, err := h.CreateVolume(h.Context(), request(class, sizeBytes))
	h.must(err)
	return v.ID
}

func (h *house) clone(from backend.Source, class volume.Class, sizeBytes int64) volume.ID {
	h.Helper()
	r := request(class, sizeBytes)
	r.Source = from
	v, err := h.CreateVolume(h.Context(), r)
	h.must(err)
	return v.ID
}

func (h *house) attach(id volume.ID) string {
	h.Helper()
	d, err := h.Attach(h.Context(), backend.AttachRequest{ID: id})
	h.must(err)
	return d.Path
}

func cutOf(id volume.ID, c volume.Consistency) backend.CreateSnapshotRequest {
	return backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: id, Consistency: c}
}

func (h *house) snapshotOf(id volume.ID) backend.Snapshot {
	h.Helper()
	s, err := h.CreateSnapshot(h.Context(), cutOf(id, volume.FilesystemConsistent))
	h.must(err)
	return s
}

// mount puts an ext4 on a volume, and mounts it until the test ends or unmount.
func (h *house) mount(id volume.ID) (dir string, unmount func()) {
	h.Helper()
	device := h.attach(id)
	backendtest.Command(h, "mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", device)
	return h.mountDevice(device)
}

func (h *house) mountDevice(device string) (dir string, unmount func()) {
	h.Helper()
	dir = backendtest.Mount(h, device, "noatime")
	return dir, func() { backendtest.Unmount(h, dir) }
}

func (h *house) writeFile(path, content string) {
	h.Helper()
	f, err := os.Create(path)
	h.must(err)
	_, err = f.WriteString(content)
	h.must(errors.Join(err, f.Sync(), f.Close()))
}

// entries lists one of the pool's folders.
func (h *house) entries(folder string) []string {
	h.Helper()
	entries, err := os.ReadDir(filepath.Join(h.root, folder))
	h.must(err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// deleteAll deletes all that exists, and sees that nothing is left: no file, no
// subvolume, no device.
func (h *house) deleteAll() {
	h.Helper()
	for _, id := range h.entries("snapshots") {
		h.must(h.DeleteSnapshot(h.Context(), volume.SnapshotID(id)))
	}
	for _, id := range h.entries("volumes") {
		h.must(h.Detach(h.Context(), volume.ID(id)))
		h.must(h.DeleteVolume(h.Context(), volume.ID(id)))
	}
	h.nothingLeft("volumes", "snapshots", "tmp", "trash", "frozen")
	found, err := h.options.Attacher.Find(h.Context(), h.root)
	h.must(err)
	if len(found) > 0 {
		h.Errorf("devices are left: %v", found)
	}
	if h.as == volume.BtrfsPool {
		if list := backendtest.Command(h, "btrfs", "subvolume", "list", h.root); list != "" {
			h.Errorf("subvolumes are left: %s", list)
		}
	}
}

func (h *house) nothingLeft(folders ...string) {
	h.Helper()
	for _, folder := range folders {
		if names := h.entries(folder); len(names) > 0 {
			h.Errorf("%s holds %v, want nothing", folder, names)
		}
	}
}

// tree reads every record of the pool, to see that something changed
// nothing.
func (h *house) tree() []string {
	h.Helper()
	var all []string
	h.must(filepath.WalkDir(h.root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		line := path
		if !strings.HasSuffix(path, "/disk") {
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			line += " " + string(content)
		}
		all = append(all, line)
		return nil
	}))
	slices.Sort(all)
	return all
}

// thawNow ends a freeze that a broken test left, without which nothing ends.
func (h *house) thawNow(dir string) {
	_ = exec.Command("fsfreeze", "--unfreeze", dir).Run()
}

// withoutFilesystem does something while the pool's folder does not exist.
func (h *house) withoutFilesystem(do func()) error {
	h.Helper()
	backendtest.Unmount(h, h.root)
	if err := os.Remove(h.root); err != nil {
		return err
	}
	do()
	if err := os.Mkdir(h.root, 0o700); err != nil {
		return err
	}
	backendtest.Command(h, "mount", "-o", "loop,noatime", h.image, h.root)
	return nil
}
