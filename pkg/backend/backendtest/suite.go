package backendtest

import (
	"cmp"
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Fixture is a backend under test, and what the suite has to be told about it.
// The backend must be empty and have 1 GiB of room at least.
type Fixture struct {
	Backend backend.Backend
	// Class is what volumes are made with. One that is shared lives in no pool of
	// the node: its room and use are not counted, and its writers can be held without
	// a filesystem.
	Class volume.Class
	// Reopen, if not nil, ends the backend and opens it again on what it left, as
	// a restart of its process does. Nil: the contract is held to without one.
	Reopen func(t *testing.T) backend.Backend
	// PauseLimit is how long a pause lasts at most; 0: backend.PauseLimit. The
	// suite waits for one to pass.
	PauseLimit time.Duration
	// MaxVolumes is how many volumes can be attached; 0: not limited. At least 4.
	MaxVolumes int
	// Pool, if not empty, is a folder in which everything that the backend keeps
	// can be seen, so that a failed call can be seen to leave nothing behind.
	Pool string
}

// scene is one test of the suite.
type scene struct {
	*testing.T
	Fixture
}

// Run runs the suite on the backend that open returns. open is called once.
func Run(t *testing.T, open func(t *testing.T) Fixture) {
	f := open(t)
	f.PauseLimit = cmp.Or(f.PauseLimit, backend.PauseLimit)
	for _, group := range [][]test{creates, sources, deletes, changes, snapshots, pauses, attaches, ranges, reports, races} {
		for _, test := range group {
			t.Run(test.name, func(t *testing.T) {
				before := inventory(t, f.Pool)
				s := &scene{T: t, Fixture: f}
				t.Run("all", func(t *testing.T) {
					s.T = t
					test.run(s)
				})
				f.Backend = s.Backend // a test may have opened it again
				s.T = t
				s.wantInventory("after the test", before)
			})
		}
	}
	s := &scene{T: t, Fixture: f}
	for v, err := range s.Backend.Volumes(t.Context()) {
		t.Errorf("left after all tests: volume %s, error %v; want none", v.ID, err)
	}
}

type test struct {
	name string
	run  func(s *scene)
}

// mutable is a change that the fixture's class takes, by how much it says.
func (s *scene) mutable(to time.Duration) volume.Mutable {
	if s.Class.Shared() {
		return volume.Mutable{UploadDelay: &to}
	}
	return volume.Mutable{MaxSnapshotPause: &to}
}

// sizeBytes is the size of most volumes.
const sizeBytes = 4 << 20

func (s *scene) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

func (s *scene) wantKind(what string, err error, kinds ...fault.Kind) {
	s.Helper()
	if err == nil || !slices.Contains(kinds, fault.KindOf(err)) {
		s.Errorf("%s: got error %v, want kind %v", what, err, kinds)
	}
}

// request asks for a volume of the fixture's class.
func (s *scene) request(size int64, from backend.Source) backend.CreateVolumeRequest {
	return backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: size, Class: s.Class, Source: from}
}

// create makes a volume, which is gone after the test.
func (s *scene) create(r backend.CreateVolumeRequest) backend.Volume {
	s.Helper()
	s.removeLater(r.ID)
	v, err := s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	return v
}

// blank makes a blank volume.
func (s *scene) blank() backend.Volume {
	s.Helper()
	return s.create(s.request(sizeBytes, backend.Source{}))
}

func (s *scene) removeLater(id volume.ID) {
	s.Cleanup(func() {
		s.Helper()
		if err := s.remove(id); err != nil {
			s.Errorf("remove volume %s: %v", id, err)
		}
	})
}

func (s *scene) remove(id volume.ID) error {
	if err := s.Backend.Detach(context.Background(), id); err != nil {
		return err
	}
	return s.Backend.DeleteVolume(context.Background(), id)
}

// snapshot cuts a snapshot, which is gone after the test.
func (s *scene) snapshot(of volume.ID) backend.Snapshot {
	s.Helper()
	return s.cut(backend.CreateSnapshotRequest{Volume: of, Consistency: volume.FilesystemConsistent})
}

func (s *scene) cut(r backend.CreateSnapshotRequest) backend.Snapshot {
	s.Helper()
	if r.ID == "" {
		r.ID = volume.NewSnapshotID()
	}
	s.removeSnapshotLater(r.ID)
	got, err := s.Backend.CreateSnapshot(s.Context(), r)
	s.must(err)
	return got
}

func (s *scene) removeSnapshotLater(id volume.SnapshotID) {
	s.Cleanup(func() {
		if err := s.Backend.DeleteSnapshot(context.Background(), id); err != nil {
			s.Errorf("remove snapshot %s: %v", id, err)
		}
	})
}

// reopen restarts the backend, if the fixture can.
func (s *scene) reopen() {
	s.Helper()
	if s.Reopen != nil {
		s.Backend = s.Reopen(s.T)
	}
}

func (s *scene) volume(id volume.ID) backend.Volume {
	s.Helper()
	v, err := s.Backend.Volume(s.Context(), id)
	s.must(err)
	return v
}

// wantVolume compares two replies; how much is used changes by itself.
func (s *scene) wantVolume(what string, got, want backend.Volume) {
	s.Helper()
	got.UsedBytes, want.UsedBytes = 0, 0
	got.CreatedAt, want.CreatedAt = got.CreatedAt.UTC(), want.CreatedAt.UTC()
	if got != want {
		s.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

func (s *scene) wantSnapshot(what string, got, want backend.Snapshot) {
	s.Helper()
	got.CreatedAt, want.CreatedAt = got.CreatedAt.UTC(), want.CreatedAt.UTC()
	if got != want {
		s.Errorf("%s:\n got %+v\nwant %+v", what, got, want)
	}
}

// inventory names all that a pool holds, but for empty files, which hold no
// bytes of anything: what was deleted may be remembered by them.
func inventory(t *testing.T, pool string) (names []string) {
	t.Helper()
	if pool == "" {
		return nil
	}
	err := filepath.WalkDir(pool, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && (d.IsDir() || info.Size() > 0) {
			names = append(names, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func (s *scene) wantInventory(what string, want []string) {
	s.Helper()
	if got := inventory(s.T, s.Pool); !slices.Equal(got, want) {
		s.Errorf("%s, in %s:\n got %q\nwant %q", what, s.Pool, got, want)
	}
}
