package local

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestEveryFilesystemFreezes: a mounted volume is found and frozen whatever it is
// formatted with; btrfs hides the device's number from the list of mounts.
func TestEveryFilesystemFreezes(t *testing.T) {
	t.Parallel()
	eachPool(t, 2048*mib, func(h *house) {
		for _, mkfs := range [][]string{{"mkfs.xfs", "-q"}, {"mkfs.btrfs", "-q"}} {
			id := h.create(thickClass(), 320*mib)
			device := h.attach(id)
			backendtest.Command(h, mkfs[0], append(mkfs[1:], device)...)
			dir, unmount := h.mountDevice(device)
			w := h.startWriter(filepath.Join(dir, "numbers"), os.O_RDWR|os.O_CREATE)
			pause := backend.PauseID(mkfs[0])
			h.must(h.Pause(h.Context(), pause, []volume.ID{id}))
			before := w.written.Load()
			r := cutOf(id, volume.FilesystemConsistent)
			r.Pause = pause
			if s, err := h.CreateSnapshot(h.Context(), r); err != nil || s.Consistency != volume.FilesystemConsistent {
				h.Errorf("%s: %+v, %v", mkfs[0], s, err)
			}
			if after := w.written.Load(); after != before {
				h.Errorf("%s: written in the pause", mkfs[0])
			}
			h.must(h.Resume(h.Context(), pause))
			s := h.snapshotOf(id)
			if s.Consistency != volume.FilesystemConsistent || s.Pause <= 0 {
				h.Errorf("%s: %+v", mkfs[0], s)
			}
			w.end(h)
			unmount()
			h.deleteAll()
		}
	})
}
