package local

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
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
	backendtest.Command(h, "fsfreeze", "--freeze", dir)
	return id, dir, unmount
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
