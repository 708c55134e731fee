package node

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// fakeEngine keeps volumes as sparse files with real loop devices.
type fakeEngine struct {
	backend.Backend // what a node never calls
	t               *testing.T
	dir             string

	mu      sync.Mutex
	volumes map[volume.ID]*fakeVolume
	// fail, if not nil, is asked before each call and may fail it.
	fail   func(call string) error
	health []backend.Health
	// gone: it says NotFound of every volume; unfinished: a detached volume is not
	// wholly detached.
	gone, unfinished bool
}

type fakeVolume struct {
	backend.Volume
	readOnly, shared bool
}

func newFakeEngine(t *testing.T, dir string) *fakeEngine {
	e := &fakeEngine{t: t, dir: dir, volumes: make(map[volume.ID]*fakeVolume)}
	t.Cleanup(func() {
		for _, v := range e.volumes {
			if v.Device != "" {
				run(t, "losetup", "-d", v.Device)
			}
		}
	})
	return e
}

func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	output, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, output)
	}
	return strings.TrimSpace(string(output))
}

func (e *fakeEngine) file(id volume.ID) string { return filepath.Join(e.dir, string(id)) }

// create makes a blank volume.
func (e *fakeEngine) create(sizeBytes int64) volume.ID { return e.createAs(volume.NewID(), sizeBytes) }

func (e *fakeEngine) createAs(id volume.ID, sizeBytes int64) volume.ID {
	e.t.Helper()
	if err := os.WriteFile(e.file(id), nil, 0o600); err != nil {
		e.t.Fatal(err)
	}
	if err := os.Truncate(e.file(id), sizeBytes); err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.volumes[id] = &fakeVolume{Volume: backend.Volume{ID: id, SizeBytes: sizeBytes}}
	return id
}

// clone makes a volume from what another one's file holds.
func (e *fakeEngine) clone(from volume.ID, sizeBytes int64) volume.ID {
	return e.cloneAs(volume.NewID(), from, sizeBytes)
}

func (e *fakeEngine) cloneAs(id, from volume.ID, sizeBytes int64) volume.ID {
	e.t.Helper()
	e.createAs(id, sizeBytes)
	run(e.t, "cp", "--sparse=always", e.file(from), e.file(id))
	if err := os.Truncate(e.file(id), sizeBytes); err != nil {
		e.t.Fatal(err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.volumes[id].Filesystem = e.volumes[from].Filesystem
	if e.volumes[id].Filesystem.State == backend.Formatted {
		e.volumes[id].Filesystem.State = backend.Cloned
	}
	return id
}

func (e *fakeEngine) find(call string, id volume.ID) (*fakeVolume, error) {
	if e.fail != nil {
		if err := e.fail(call); err != nil {
			return nil, err
		}
	}
	v, ok := e.volumes[id]
	if !ok {
		return nil, fault.New(fault.NotFound, "volume %s: unknown", id)
	}
	return v, nil
}

// CreateVolume makes a clone of another volume.
func (e *fakeEngine) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	if e.fail != nil {
		if err := e.fail("CreateVolume"); err != nil {
			return backend.Volume{}, err
		}
	}
	e.mu.Lock()
	_, made := e.volumes[r.ID]
	e.mu.Unlock()
	if !made {
		e.cloneAs(r.ID, r.Source.Volume, r.SizeBytes)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.volumes[r.ID].Class = r.Class
	return e.volumes[r.ID].Volume, nil
}

func (e *fakeEngine) DeleteVolume(_ context.Context, id volume.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.volumes, id)
	return nil
}

func (e *fakeEngine) Volume(_ context.Context, id volume.ID) (backend.Volume, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.find("Volume", id)
	if e.gone {
		err = fault.New(fault.NotFound, "volume %s: deleted", id)
	}
	if err != nil {
		return backend.Volume{}, err
	}
	return v.Volume, nil
}

func (e *fakeEngine) RecordFilesystem(_ context.Context, id volume.ID, f backend.Filesystem) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.find("RecordFilesystem", id)
	if err == nil {
		v.Filesystem = f
	}
	return err
}

func (e *fakeEngine) ExpandVolume(_ context.Context, id volume.ID, sizeBytes int64) (backend.Volume, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.find("ExpandVolume", id)
	if err != nil {
		return backend.Volume{}, err
	}
	if sizeBytes > v.SizeBytes {
		v.SizeBytes = sizeBytes
		if err := os.Truncate(e.file(id), sizeBytes); err != nil {
			return v.Volume, err
		}
	}
	if v.Device != "" {
		run(e.t, "losetup", "-c", v.Device)
	}
	return v.Volume, nil
}

func (e *fakeEngine) Attach(_ context.Context, r backend.AttachRequest) (backend.Device, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.find("Attach", r.ID)
	if err != nil {
		return backend.Device{}, err
	}
	if v.Device == "" {
		args := []string{"-f", "--show"}
		if r.ReadOnly {
			args = append(args, "-r")
		}
		v.Device, v.readOnly = run(e.t, "losetup", append(args, e.file(r.ID))...), r.ReadOnly
	}
	v.shared = r.Shared
	if v.readOnly != r.ReadOnly {
		return backend.Device{}, fault.New(fault.InUse, "attached with read-only %t", v.readOnly)
	}
	return backend.Device{Path: v.Device, SizeBytes: v.SizeBytes, ReadOnly: v.readOnly, Filesystem: v.Filesystem}, nil
}

func (e *fakeEngine) Detach(_ context.Context, id volume.ID) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	v, err := e.find("Detach", id)
	if e.unfinished {
		return fault.New(fault.Transient, "uploads are under way")
	}
	if err != nil || v.Device == "" {
		return err
	}
	f, err := os.OpenFile(v.Device, os.O_RDONLY|unix.O_EXCL, 0)
	if errors.Is(err, unix.EBUSY) {
		return fault.New(fault.InUse, "%s is open", v.Device)
	}
	if err != nil {
		return err
	}
	f.Close()
	run(e.t, "losetup", "-d", v.Device)
	v.Device = ""
	return nil
}

func (e *fakeEngine) VolumeHealth(_ context.Context, id volume.ID) ([]backend.Health, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err := e.find("VolumeHealth", id)
	if e.gone {
		return nil, fault.New(fault.NotFound, "volume %s: deleted", id)
	}
	return e.health, err
}

func (e *fakeEngine) Health(context.Context) ([]backend.Health, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.fail != nil {
		if err := e.fail("Health"); err != nil {
			return nil, err
		}
	}
	return e.health, nil
}
