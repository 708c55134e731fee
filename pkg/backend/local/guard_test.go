package local

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/volume"
)

// frozenByHand mounts a volume's filesystem and freezes it, as a process leaves it
// that dies then.
func frozenByHand(h *house) (id volume.ID, dir string, unmount func()) {
	h.Helper()
	id = h.create(thickClass(), 16*mib)
	dir, unmount = h.mount(id)
	h.must(h.RecordFilesystem(h.Context(), id, backend.Filesystem{Type: volume.Ext4, State: backend.Formatted}))
	h.must(record.Write(h.store().frozenRecord(id), record.Frozen{Volume: id, MountPoint: dir, Since: time.Now().UTC()}))
	m, err := os.Open(dir)
	h.must(err)
	defer m.Close()
	h.must(freezeMount(m))
	return id, dir, unmount
}

// TestGuard: its process dies, hangs, or ends the freeze itself.
func TestGuard(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id := h.create(thickClass(), 16*mib)
		dir, unmount := h.mount(id)
		defer h.thawNow(dir)
		start := func(limit time.Duration) *guard {
			m, err := os.Open(dir)
			h.must(err)
			defer m.Close()
			g, err := newGuard(m, limit)
			h.must(err)
			h.must(freezeMount(m))
			return g
		}
		killed := start(time.Hour)
		h.must(killed.over.Close()) // as the kernel does for a process that is gone
		h.writeSoon(filepath.Join(dir, "killed"))
		_ = killed.child.Wait()

		stopped := start(0) // nobody says anything
		h.writeSoon(filepath.Join(dir, "stopped"))
		h.must(stopped.end())

		mine := start(time.Hour)
		h.must(mine.end())
		m, err := os.Open(dir)
		h.must(err)
		if err := thawMount(m); err != nil {
			h.Errorf("a guard that was told that it is over has thawed: %v", err)
		}
		h.must(m.Close())
		unmount()
		h.deleteAll()
	})
}

// TestFrozenWhenItIsOpened: writers go on, and the record is gone.
func TestFrozenWhenItIsOpened(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		_, dir, unmount := frozenByHand(h)
		defer h.thawNow(dir)
		h.reopen()
		h.writeSoon(filepath.Join(dir, "f"))
		h.nothingLeft("frozen")
		unmount()
		h.deleteAll()
	})
}

// TestUnmountedWhileFrozen: the freeze keeps the filesystem and its device, and
// a later mount would be frozen too.
func TestUnmountedWhileFrozen(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id, _, unmountFrozen := frozenByHand(h)
		unmountFrozen()
		h.reopen()
		h.nothingLeft("frozen")
		h.must(h.Detach(h.Context(), id))
		dir, unmount := h.mountDevice(h.attach(id))
		defer h.thawNow(dir)
		h.writeSoon(filepath.Join(dir, "f"))
		unmount()
		h.deleteAll()
	})
}
