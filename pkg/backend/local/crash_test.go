package local

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// drama is something that a process may die in.
type drama struct {
	name string
	// prepare makes what the operation needs.
	prepare func(h *house) operation
	// done sees that the operation has happened.
	done func(h *house, o operation) error
	// least is how many places it passes at least.
	least int
}

func created(h *house, o operation) error {
	v, err := h.Volume(h.Context(), o.Create.ID)
	if err == nil && (v.SizeBytes != o.Create.SizeBytes || v.Class != o.Create.Class || v.Source != o.Create.Source) {
		return fmt.Errorf("%+v", v)
	}
	return err
}

func cutDone(h *house, o operation) error {
	_, err := h.Snapshot(h.Context(), o.Cut.ID)
	return err
}

func dramas() []drama {
	thin, pause := volume.Thick, 2*time.Second
	make := func(class volume.Class, source func(h *house) backend.Source) func(h *house) operation {
		return func(h *house) operation {
			r := request(class, 24*mib)
			r.Source = source(h)
			return operation{Create: &r}
		}
	}
	blank := func(*house) backend.Source { return backend.Source{} }
	return []drama{
		{"create", make(thickClass(), blank), created, 6},
		{"create thin", make(thinClass(), blank), created, 6},
		{"clone a snapshot", make(thickClass(), func(h *house) backend.Source {
			return backend.Source{Snapshot: h.snapshotOf(h.create(thickClass(), 16*mib)).ID}
		}), created, 6},
		{"clone a volume", make(thickClass(), func(h *house) backend.Source {
			return backend.Source{Volume: h.create(thickClass(), 16*mib)}
		}), created, 6},
		{"snapshot", func(h *house) operation {
			r := cutOf(h.create(thickClass(), 16*mib), volume.FilesystemConsistent)
			return operation{Cut: &r}
		}, cutDone, 6},
		{"delete a volume", func(h *house) operation {
			id := h.create(thickClass(), 16*mib)
			h.snapshotOf(id)
			return operation{Delete: id}
		}, func(h *house, o operation) error {
			_, err := h.CreateVolume(h.Context(), backend.CreateVolumeRequest{ID: o.Delete, SizeBytes: 16 * mib, Class: thickClass()})
			return wantKind(err, fault.Fenced)
		}, 3},
		{"delete a snapshot", func(h *house) operation {
			return operation{DeleteCut: h.snapshotOf(h.create(thickClass(), 16*mib)).ID}
		}, func(h *house, o operation) error {
			_, err := h.Snapshot(h.Context(), o.DeleteCut)
			return wantKind(err, fault.NotFound)
		}, 3},
		{"expand", func(h *house) operation {
			id := h.create(thickClass(), 16*mib)
			h.attach(id)
			return operation{Expand: id, SizeBytes: 32 * mib}
		}, func(h *house, o operation) error {
			d, err := h.Attach(h.Context(), backend.AttachRequest{ID: o.Expand})
			if err == nil && d.SizeBytes != o.SizeBytes {
				return fmt.Errorf("device has %d bytes, want %d", d.SizeBytes, o.SizeBytes)
			}
			return err
		}, 4},
		{"thin to thick", func(h *house) operation {
			id := h.create(thinClass(), 16*mib)
			h.attach(id)
			return operation{Modify: id, Mutable: volume.Mutable{Provisioning: &thin, MaxSnapshotPause: &pause}}
		}, func(h *house, o operation) error {
			v, err := h.Volume(h.Context(), o.Modify)
			if err == nil && (v.Class.Provisioning != volume.Thick || v.Class.MaxSnapshotPause != pause || v.UsedBytes < v.SizeBytes) {
				return fmt.Errorf("%+v", v)
			}
			return err
		}, 3},
		{"record a filesystem", func(h *house) operation {
			return operation{Record: h.create(thinClass(), 16*mib), Filesystem: backend.Filesystem{Type: volume.Ext4, State: backend.Formatting}}
		}, func(h *house, o operation) error {
			v, err := h.Volume(h.Context(), o.Record)
			if err == nil && v.Filesystem != o.Filesystem {
				return fmt.Errorf("%+v", v)
			}
			return err
		}, 2},
	}
}

func wantKind(err error, kind fault.Kind) error {
	if fault.Is(err, kind) {
		return nil
	}
	return fmt.Errorf("want %s, got: %w", kind, err)
}

// TestDeathAtEveryStep kills the process at each place between two durable
// steps, for every operation, and starts another. That one finishes or undoes;
// the operation is repeated (every third time it is not), and twice gives the
// same reply; nothing leaks.
func TestDeathAtEveryStep(t *testing.T) {
	t.Parallel()
	walk(t, false)
}

// TestPowerLossAtEveryStep is the same, and what was not synced is lost too. It
// takes every second operation; all of them with HOLKAS_SOAK.
func TestPowerLossAtEveryStep(t *testing.T) {
	t.Parallel()
	walk(t, true)
}

func walk(t *testing.T, power bool) {
	eachPool(t, 768*mib, func(h *house) {
		for i, d := range dramas() {
			if power && i%2 == 1 && os.Getenv("HOLKAS_SOAK") == "" {
				continue
			}
			k := 1
			for h.act(d, k, power) {
				k++
			}
			if k <= d.least {
				h.Errorf("%s passes %d places, want %d or more", d.name, k-1, d.least)
			}
			if h.Failed() {
				return
			}
		}
	})
}

// act lets a process die at the k-th place of an operation, and looks after what
// it left. It reports whether it died.
func (h *house) act(d drama, k int, power bool) (died bool) {
	h.Helper()
	o := d.prepare(h)
	if power { // all that was prepared is durable; the operation is to be on its own
		h.must(h.store().medium.settle())
	}
	h.close()
	died = h.dieIn(o, k)
	if power {
		h.losePower(h)
	}
	h.open()
	h.whole()
	if !died {
		if err := d.done(h, o); err != nil {
			h.Errorf("%s: done, and then: %v", d.name, err)
		}
	}
	if k%3 != 0 {
		before, _ := o.look(h)
		first, err := o.run(h.Context(), h.Backend)
		second, again := o.run(h.Context(), h.Backend)
		if err != nil || again != nil || first != second || before != "" && before != first {
			h.Errorf("%s, death %d: there was %q; repeated: %q, %v; again: %q, %v", d.name, k, before, first, err, second, again)
		}
		if err := d.done(h, o); err != nil {
			h.Errorf("%s, death %d, repeated: %v", d.name, k, err)
		}
	}
	h.deleteAll()
	return died
}

// look renders what a create made, if it is there already.
func (o operation) look(h *house) (string, error) {
	switch {
	case o.Create != nil:
		v, err := h.Volume(h.Context(), o.Create.ID)
		if err != nil {
			return "", err
		}
		return rendered(v, nil)
	case o.Cut != nil:
		s, err := h.Snapshot(h.Context(), o.Cut.ID)
		if err != nil {
			return "", err
		}
		return rendered(s, nil)
	}
	return "", nil
}

// whole sees that nothing is half done after a start.
func (h *house) whole() {
	h.Helper()
	h.nothingLeft("tmp", "trash", "frozen")
	for v, err := range h.Volumes(h.Context()) {
		h.must(err)
		health, err := h.VolumeHealth(h.Context(), v.ID)
		if err != nil || len(health) > 0 {
			h.Errorf("volume %s: %+v, %v", v.ID, health, err)
		}
		if v.Device != "" {
			if size := deviceSize(h, h.attach(v.ID)); size != v.SizeBytes {
				h.Errorf("volume %s has %d bytes, and its device %d", v.ID, v.SizeBytes, size)
			}
		}
	}
	for _, folder := range []string{"volumes", "snapshots"} {
		for _, name := range h.entries(folder) {
			if strings.Contains(fmt.Sprint(h.entries("deleted")), name) {
				h.Errorf("%s/%s is there, and has a tombstone", folder, name)
			}
		}
	}
}

func deviceSize(h *house, device string) int64 {
	h.Helper()
	f, err := os.Open(device)
	h.must(err)
	defer f.Close()
	size, err := f.Seek(0, io.SeekEnd)
	h.must(err)
	return size
}

// TestDeathWhileFrozen kills the process around the freezing of mounted
// filesystems. The next start lets their writers go on.
func TestDeathWhileFrozen(t *testing.T) {
	t.Parallel()
	eachPool(t, 768*mib, func(h *house) {
		a, b := h.create(thickClass(), 16*mib), h.create(thickClass(), 16*mib)
		dirA, unmountA := h.mount(a)
		dirB, unmountB := h.mount(b)
		for name, orderOf := range map[string]func() operation{
			"snapshot": func() operation { r := cutOf(a, volume.FilesystemConsistent); return operation{Cut: &r} },
			"clone": func() operation {
				r := request(thickClass(), 16*mib)
				r.Source.Volume = a
				return operation{Create: &r}
			},
			"group": func() operation {
				return operation{Group: []backend.CreateSnapshotRequest{cutOf(a, volume.FilesystemConsistent), cutOf(b, volume.FilesystemConsistent)}}
			},
		} {
			k := 1
			for died := true; died; k++ {
				o := orderOf()
				h.close()
				died = h.dieIn(o, k)
				h.open()
				h.whole()
				h.writeSoon(filepath.Join(dirA, "f"))
				h.writeSoon(filepath.Join(dirB, "f"))
				if o.Group == nil {
					_, err := o.run(h.Context(), h.Backend)
					h.must(err)
				}
				for _, id := range h.entries("snapshots") {
					h.must(h.DeleteSnapshot(h.Context(), volume.SnapshotID(id)))
				}
				if o.Create != nil {
					h.must(h.DeleteVolume(h.Context(), o.Create.ID))
				}
			}
			if k < 8 {
				h.Errorf("%s passes %d places, want 7 or more", name, k-2)
			}
		}
		unmountA()
		unmountB()
		h.deleteAll()
	})
}

// writeSoon writes a file, which takes no time unless the filesystem is frozen.
func (h *house) writeSoon(path string) {
	h.Helper()
	written := make(chan struct{})
	go func() {
		defer close(written)
		h.writeFile(path, "x")
	}()
	select {
	case <-written:
	case <-time.After(20 * time.Second):
		h.thawNow(filepath.Dir(path))
		<-written
		h.Fatalf("%s is still frozen", filepath.Dir(path))
	}
}
