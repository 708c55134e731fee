package node

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// house is a node with its own kubelet directory and engine.
type house struct {
	*testing.T
	node    *Node
	engine  *fakeEngine
	kubelet string
}

func newHouse(t *testing.T) *house {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("these tests mount filesystems: run them as root")
	}
	base, err := os.MkdirTemp("/var/tmp", "holkas-node-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(base) })
	h := &house{T: t, kubelet: filepath.Join(base, "kubelet")}
	for _, dir := range []string{"engine", "kubelet", "kubelet/staging", "kubelet/pods"} {
		if err := os.Mkdir(filepath.Join(base, dir), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	h.engine = newFakeEngine(t, filepath.Join(base, "engine"))
	h.node, err = New(Options{
		ID: "node-1", Backends: []backend.Backend{h.engine}, KubeletDir: h.kubelet, EngineWait: 200 * time.Millisecond,
		MaxVolumes: func(context.Context) (int64, error) { return 7, nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(h.unmountEverything)
	t.Cleanup(h.node.Close)
	return h
}

func (h *house) unmountEverything() {
	t, err := mounts()
	if err != nil {
		h.Fatal(err)
	}
	for _, m := range slices.Backward(t) {
		if strings.HasPrefix(m.point, h.kubelet+"/") {
			if err := unix.Unmount(m.point, unix.MNT_DETACH); err != nil {
				h.Errorf("unmount %s: %v", m.point, err)
			}
		}
	}
}

// staging makes and returns the staging path of a volume.
func (h *house) staging(id volume.ID) string {
	h.Helper()
	path := filepath.Join(h.kubelet, "staging", string(id))
	if err := os.Mkdir(path, 0o750); err != nil && !os.IsExist(err) {
		h.Fatal(err)
	}
	return path
}

func (h *house) target(name string) string { return filepath.Join(h.kubelet, "pods", name) }

func (h *house) stage(id volume.ID, u Use) error {
	return h.node.Stage(h.Context(), StageRequest{ID: id, StagingPath: h.staging(id), Use: u})
}

func (h *house) unstage(id volume.ID) error {
	return h.node.Unstage(h.Context(), id, h.staging(id))
}

func (h *house) publish(id volume.ID, name string, u Use) error {
	return h.node.Publish(h.Context(), PublishRequest{ID: id, StagingPath: h.staging(id), TargetPath: h.target(name), Use: u})
}

func (h *house) unpublish(id volume.ID, name string) error {
	return h.node.Unpublish(h.Context(), id, h.target(name))
}

// must fails the test on an error.
func (h *house) must(err error) {
	h.Helper()
	if err != nil {
		h.Fatal(err)
	}
}

// want fails the test unless err is of a kind and its message holds a part.
func (h *house) want(err error, kind fault.Kind, part string) {
	h.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), part) {
		h.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), kind, part)
	}
}

func (h *house) write(path, text string) {
	h.Helper()
	h.must(os.WriteFile(path, []byte(text), 0o600))
}

func (h *house) read(path string) string {
	h.Helper()
	body, err := os.ReadFile(path)
	h.must(err)
	return string(body)
}

// total is the size of the filesystem at a path.
func (h *house) total(id volume.ID, path string) int64 {
	h.Helper()
	usage, err := h.node.Stats(h.Context(), id, path)
	h.must(err)
	return usage.Bytes.Total
}

func (h *house) mountsBelow() []string {
	h.Helper()
	t, err := mounts()
	h.must(err)
	var points []string
	for _, m := range t {
		if strings.HasPrefix(m.point, h.kubelet+"/") {
			points = append(points, m.point)
		}
	}
	return points
}

func (h *house) state(id volume.ID) backend.FormatState {
	h.Helper()
	v, err := h.engine.Volume(h.Context(), id)
	h.must(err)
	return v.Filesystem.State
}

func (h *house) device(id volume.ID) string {
	h.Helper()
	v, err := h.engine.Volume(h.Context(), id)
	h.must(err)
	return v.Device
}

var filesystems = []volume.Filesystem{volume.Ext4, volume.XFS, volume.Btrfs}

// sizeFor is a small size that the filesystem's tools accept.
func sizeFor(fs volume.Filesystem) int64 { return max(fs.MinimumBytes(), 64<<20) }

func eachFilesystem(t *testing.T, f func(h *house, fs volume.Filesystem)) {
	for _, fs := range filesystems {
		t.Run(string(fs), func(t *testing.T) { f(newHouse(t), fs) })
	}
}
