package node

import (
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var (
	sharedClass = volume.Class{Backend: volume.BackendObject}.WithDefaults()
	readers     = Use{ReadOnly: true, Shared: true}
)

// dirtyOrigin stages a volume and leaves it mounted, its journal full: "g" is only
// there.
func (h *house) dirtyOrigin(fs volume.Filesystem) volume.ID {
	h.Helper()
	origin := h.engine.create(sizeFor(fs))
	h.must(h.stage(origin, Use{Filesystem: fs}))
	h.write(filepath.Join(h.staging(origin), "f"), "x")
	run(h.T, "sync", "-f", h.staging(origin))
	h.write(filepath.Join(h.staging(origin), "g"), "y")
	run(h.T, "sync", filepath.Join(h.staging(origin), "g"))
	return origin
}

func cloneForReaders(origin volume.ID, fs volume.Filesystem) backend.CreateVolumeRequest {
	return backend.CreateVolumeRequest{
		ID: volume.NewID(), SizeBytes: sizeFor(fs), Class: sharedClass, Source: backend.Source{Volume: origin}, ReadOnly: true,
	}
}

// TestReadersFindASettledVolume: what is created for readers alone mounts without
// another write, beside its origin and its likes; what is not is refused to readers
// as long as it has a journal to replay.
func TestReadersFindASettledVolume(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		origin := h.dirtyOrigin(fs)
		settling := Settling(h.engine)
		var settled []volume.ID
		for range 2 {
			r := cloneForReaders(origin, fs)
			for range 2 { // repeated it is the same
				v, err := settling.CreateVolume(t.Context(), r)
				h.must(err)
				if v.Filesystem != (backend.Filesystem{Type: fs, State: backend.Formatted}) || v.Device != "" {
					h.Errorf("made %+v, want it formatted with %s, and detached", v, fs)
				}
			}
			settled = append(settled, r.ID)
		}
		before := fingerprint(h, settled[0])
		for _, id := range settled {
			for range 2 {
				h.must(h.stage(id, readers))
			}
			if got := h.read(filepath.Join(h.staging(id), "g")); got != "y" {
				h.Errorf("read %q, want y: the journal was not replayed", got)
			}
			if d, err := lookAtDevice(h.device(id)); err != nil || !d.readOnly {
				h.Errorf("device %+v, %v: want it read-only", d, err)
			}
			h.must(h.publish(id, "reader", readers))
			if err := os.WriteFile(filepath.Join(h.target("reader"), "h"), nil, 0o600); err == nil {
				h.Error("wrote to a volume for readers")
			}
			h.must(h.unpublish(id, "reader"))
		}
		for _, id := range settled {
			h.must(h.unstage(id))
		}
		if fingerprint(h, settled[0]) != before {
			h.Error("a reader's mount wrote something")
		}
		if fs != volume.XFS && identity(h, settled[0]) == identity(h, settled[1]) {
			h.Error("two clones have one UUID")
		}

		r := cloneForReaders(origin, fs)
		r.ReadOnly = false
		plain, err := settling.CreateVolume(t.Context(), r)
		h.must(err)
		before = fingerprint(h, plain.ID)
		h.want(h.stage(plain.ID, readers), fault.Precondition, "journal to replay")
		if fingerprint(h, plain.ID) != before || h.state(plain.ID) != backend.Cloned {
			h.Error("what readers were refused was written to")
		}
		h.must(h.unstage(plain.ID))
		h.must(h.stage(plain.ID, Use{}))
		h.must(h.unstage(plain.ID))
		h.must(h.stage(plain.ID, readers))
		h.must(h.unstage(plain.ID))
		h.must(h.unstage(origin))
		for _, id := range append(settled, plain.ID) {
			h.checkQuietly(id, fs)
		}
	})
}

func TestReadersOfWhatIsNotForThem(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	for _, use := range []Use{readers, {Block: true, ReadOnly: true, Shared: true}} {
		h.want(h.stage(id, use), fault.Precondition, "SINGLE_NODE")
	}
	h.engine.volumes[id].Class = sharedClass
	h.want(h.stage(id, readers), fault.Precondition, "never formatted")
	h.must(h.unstage(id))
	h.must(h.stage(id, Use{Block: true, ReadOnly: true, Shared: true}))
	if !h.engine.volumes[id].shared {
		h.Error("the backend was not told that other nodes read it")
	}
	h.must(h.unstage(id))
}

// TestSettlingIsFinishedByARetry: the engine fails at each of its calls in turn.
func TestSettlingIsFinishedByARetry(t *testing.T) {
	for _, fs := range []volume.Filesystem{volume.Ext4, volume.Btrfs} {
		h := newHouse(t)
		origin := h.dirtyOrigin(fs)
		for k := 1; ; k++ {
			r, calls := cloneForReaders(origin, fs), 0
			h.engine.fail = func(string) error {
				if calls++; calls == k {
					return fault.New(fault.Transient, "connection lost")
				}
				return nil
			}
			settling := Settling(h.engine)
			_, err := settling.CreateVolume(t.Context(), r)
			h.engine.fail = nil
			if calls < k {
				h.must(err)
				if k < 5 {
					h.Errorf("%d calls, want more", k)
				}
				break
			}
			h.want(err, fault.Transient, "connection lost")
			v, err := settling.CreateVolume(t.Context(), r)
			h.must(err)
			if v.Filesystem.State != backend.Formatted || v.Device != "" {
				h.Errorf("%s, %d calls: %+v, want it settled and detached", fs, k, v)
			}
			h.must(h.stage(r.ID, readers))
			h.must(h.unstage(r.ID))
		}
		h.must(h.unstage(origin))
	}
}

// TestWhatCannotBeSettledIsUndone: the source's filesystem is gone.
func TestWhatCannotBeSettledIsUndone(t *testing.T) {
	h := newHouse(t)
	origin := h.engine.create(64 << 20)
	h.must(h.engine.RecordFilesystem(t.Context(), origin, backend.Filesystem{Type: volume.Ext4, State: backend.Formatted}))
	r := cloneForReaders(origin, volume.Ext4)
	_, err := Settling(h.engine).CreateVolume(t.Context(), r)
	h.want(err, fault.Corrupt, "blank")
	_, err = h.engine.Volume(t.Context(), r.ID)
	h.want(err, fault.NotFound, "")
}

// absent is a backend that the engine does not have.
type absent struct{ backend.Backend }

func (absent) Volume(context.Context, volume.ID) (backend.Volume, error) {
	return backend.Volume{}, fault.New(fault.Unsupported, "none of that name")
}

func (absent) Detach(context.Context, volume.ID) error {
	return fault.New(fault.Unsupported, "none of that name")
}

func (absent) Health(context.Context) ([]backend.Health, error) {
	return nil, fault.New(fault.Unsupported, "none of that name")
}

// TestSeveralBackends: a volume is found in whichever has it, and one that cannot
// say is not passed over.
func TestSeveralBackends(t *testing.T) {
	h := newHouse(t)
	dir := filepath.Join(filepath.Dir(h.engine.dir), "other")
	h.must(os.Mkdir(dir, 0o750))
	other := newFakeEngine(t, dir)
	h.node.engine = backends{absent{}, h.engine, other}
	id := other.create(64 << 20)
	h.must(h.stage(id, Use{Block: true}))
	h.must(h.publish(id, "a", Use{Block: true}))
	_, err := other.ExpandVolume(t.Context(), id, 96<<20)
	h.must(err)
	size, err := h.node.Expand(t.Context(), ExpandRequest{ID: id, VolumePath: h.target("a")})
	if err != nil || size != 96<<20 {
		h.Errorf("grown to %d, %v", size, err)
	}
	other.health = []backend.Health{{Severity: backend.Degraded, Reason: "Slow"}}
	for name, health := range map[string]func() ([]backend.Health, error){
		"volume":  func() ([]backend.Health, error) { return h.node.VolumeHealth(t.Context(), HealthRequest{ID: id}) },
		"storage": func() ([]backend.Health, error) { return h.node.StorageHealth(t.Context()) },
	} {
		if got, err := health(); err != nil || len(got) != 1 || got[0].Reason != "Slow" {
			h.Errorf("%s: health %v, %v", name, got, err)
		}
	}
	h.engine.fail = func(string) error { return fault.New(fault.Transient, "connection refused") }
	h.want(h.unpublishAndUnstage(id, "a"), fault.Transient, "refused")
	h.engine.fail = nil
	h.must(h.unstage(id))
	if other.volumes[id].Device != "" {
		h.Error("it is attached still")
	}
	h.want(h.stage(volume.NewID(), Use{}), fault.NotFound, "unknown")

	// The device of a volume that was deleted elsewhere goes, and so does one whose
	// detaching was not finished.
	h.must(h.stage(id, Use{Block: true}))
	device := other.volumes[id].Device
	other.gone = true
	h.must(h.unstage(id))
	other.gone = false
	if other.volumes[id].Device != "" {
		h.Errorf("%s is attached still", device)
	}
	other.unfinished = true
	h.want(h.unstage(id), fault.Transient, "uploads")
	other.unfinished = false
	h.must(h.unstage(id))
}

func (h *house) unpublishAndUnstage(id volume.ID, name string) error {
	h.Helper()
	h.must(h.unpublish(id, name))
	return h.unstage(id)
}
