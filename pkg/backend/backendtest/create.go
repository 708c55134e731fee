package backendtest

import (
	"bytes"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var creates = []test{
	{"CreateBlank", testCreateBlank},
	{"CreateRepeated", testCreateRepeated},
	{"CreateDiffers", testCreateDiffers},
	{"CreateInvalid", testCreateInvalid},
	{"CreateFillsAll", testCreateFillsAll},
	{"CreateSurvivesRestart", testCreateSurvivesRestart},
}

func testCreateBlank(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	began := time.Now()
	got := s.create(r)
	want := backend.Volume{ID: r.ID, SizeBytes: r.SizeBytes, Class: r.Class, Pool: got.Pool, CreatedAt: got.CreatedAt}
	s.wantVolume("created", got, want)
	s.wantVolume("looked up", s.volume(r.ID), got)
	if (got.Pool == "") != s.Class.Shared() {
		s.Errorf("pool: %q, want its name, or none of what is shared", got.Pool)
	}
	if age := got.CreatedAt.Sub(began); age < -time.Second || age > time.Minute {
		s.Errorf("created at %v, want about %v", got.CreatedAt, began)
	}
	switch {
	case r.Class.Provisioning == volume.Thick && got.UsedBytes < got.SizeBytes:
		s.Errorf("thick: %d bytes used, want %d at least", got.UsedBytes, got.SizeBytes)
	case r.Class.Provisioning == volume.Thin && got.UsedBytes > got.SizeBytes/2:
		s.Errorf("thin: %d bytes used, want few", got.UsedBytes)
	}
	s.wantBytes("blank volume", s.read(r.ID), zeros(sizeBytes))
	odd := s.create(s.request(volume.MinimumBytes+volume.SizeUnit, backend.Source{}))
	s.wantBytes("odd size", s.read(odd.ID), zeros(volume.MinimumBytes+volume.SizeUnit))
	_, err := s.Backend.Volume(s.Context(), volume.NewID())
	s.wantKind("look up a volume that does not exist", err, fault.NotFound)
	_, err = s.Backend.Volume(s.Context(), "../etc")
	s.wantKind("look up an impossible id", err, fault.NotFound)
}

func testCreateRepeated(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	first := s.create(r)
	content := pattern(1, sizeBytes)
	s.write(r.ID, 0, content)
	again, err := s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	s.wantVolume("repeated", again, first)
	grown, err := s.Backend.ExpandVolume(s.Context(), r.ID, 2*sizeBytes)
	s.must(err)
	again, err = s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	s.wantVolume("repeated after an expansion", again, grown)
	s.wantBytes("after repeated creates", s.read(r.ID), content, zeros(sizeBytes))
}

func testCreateDiffers(s *scene) {
	source := s.blank()
	cut := s.snapshot(source.ID)
	r := s.request(sizeBytes, backend.Source{})
	first := s.create(r)
	before := inventory(s.T, s.Pool)
	for what, change := range map[string]func(*backend.CreateVolumeRequest){
		"size":     func(r *backend.CreateVolumeRequest) { r.SizeBytes *= 2 },
		"class":    func(r *backend.CreateVolumeRequest) { r.Class.MaxSnapshotPause += time.Second },
		"snapshot": func(r *backend.CreateVolumeRequest) { r.Source.Snapshot = cut.ID },
		"volume":   func(r *backend.CreateVolumeRequest) { r.Source.Volume = source.ID },
	} {
		other := r
		change(&other)
		_, err := s.Backend.CreateVolume(s.Context(), other)
		s.wantKind("create with another "+what, err, fault.Exists)
	}
	s.wantVolume("after creates that differ", s.volume(r.ID), first)
	s.wantInventory("after creates that differ", before)
}

func testCreateInvalid(s *scene) {
	source := s.blank()
	before := inventory(s.T, s.Pool)
	for what, change := range map[string]func(*backend.CreateVolumeRequest){
		"no size":          func(r *backend.CreateVolumeRequest) { r.SizeBytes = 0 },
		"a negative size":  func(r *backend.CreateVolumeRequest) { r.SizeBytes = -volume.SizeUnit },
		"a size between":   func(r *backend.CreateVolumeRequest) { r.SizeBytes++ },
		"no id":            func(r *backend.CreateVolumeRequest) { r.ID = "" },
		"a path as id":     func(r *backend.CreateVolumeRequest) { r.ID = "../" + r.ID },
		"another backend":  func(r *backend.CreateVolumeRequest) { r.Class.Backend = "tape" },
		"itself as source": func(r *backend.CreateVolumeRequest) { r.Source.Volume = r.ID },
		"two sources at once": func(r *backend.CreateVolumeRequest) {
			r.Source = backend.Source{Volume: source.ID, Snapshot: volume.NewSnapshotID()}
		},
	} {
		r := s.request(sizeBytes, backend.Source{})
		change(&r)
		_, err := s.Backend.CreateVolume(s.Context(), r)
		s.wantKind("create with "+what, err, fault.Invalid)
	}
	s.wantInventory("after invalid creates", before)
}

// testCreateFillsAll: what capacity says can be created, and no more; what does
// not fit is undone, so that its id is free.
func testCreateFillsAll(s *scene) {
	all, err := s.Backend.Capacity(s.Context(), s.Class)
	s.must(err)
	if all.MaximumVolumeBytes < sizeBytes || all.AvailableBytes < sizeBytes {
		s.Fatalf("capacity of an empty backend: %+v", all)
	}
	if s.Class.Shared() || all.MaximumVolumeBytes >= volume.MaximumBytes {
		return // nothing is too large, or thin
	}
	before := inventory(s.T, s.Pool)
	r := s.request(all.MaximumVolumeBytes+1<<30, backend.Source{})
	_, err = s.Backend.CreateVolume(s.Context(), r)
	s.wantKind("create more than fits", err, fault.Exhausted)
	s.wantInventory("after a create that did not fit", before)
	_, err = s.Backend.Volume(s.Context(), r.ID)
	s.wantKind("look up what did not fit", err, fault.NotFound)
	r.SizeBytes = all.MaximumVolumeBytes
	s.create(r)
	left, err := s.Backend.Capacity(s.Context(), s.Class)
	s.must(err)
	if left.MaximumVolumeBytes > all.MaximumVolumeBytes/8 {
		s.Errorf("capacity after the largest volume (%d bytes): %+v, want next to nothing", r.SizeBytes, left)
	}
	s.wantFullVolume(r.ID)
	s.must(s.remove(r.ID))
	s.must(Poll(20*time.Second, func() error {
		c, err := s.Backend.Capacity(s.Context(), s.Class)
		if err == nil && c.MaximumVolumeBytes < all.MaximumVolumeBytes*15/16 {
			err = fault.New(fault.Exhausted, "capacity: %d bytes again, want about %d", c.MaximumVolumeBytes, all.MaximumVolumeBytes)
		}
		return err
	}))
}

// wantFullVolume sees that a volume that takes all room can neither be grown nor,
// since its writes could then meet a full pool, be snapshotted or cloned.
func (s *scene) wantFullVolume(id volume.ID) {
	s.Helper()
	before, was := inventory(s.T, s.Pool), s.volume(id)
	_, err := s.Backend.ExpandVolume(s.Context(), id, was.SizeBytes+1<<30)
	s.wantKind("expand a volume that takes all room", err, fault.Exhausted)
	r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: id, Consistency: volume.FilesystemConsistent}
	_, err = s.Backend.CreateSnapshot(s.Context(), r)
	s.wantKind("snapshot a volume that takes all room", err, fault.Exhausted)
	_, err = s.Backend.Snapshot(s.Context(), r.ID)
	s.wantKind("look up the snapshot that was refused", err, fault.NotFound)
	_, err = s.Backend.CreateVolume(s.Context(), s.request(was.SizeBytes, backend.Source{Volume: id}))
	s.wantKind("clone a volume that takes all room", err, fault.Exhausted)
	s.wantVolume("after what did not fit", s.volume(id), was)
	s.wantInventory("after what did not fit", before)
}

func testCreateSurvivesRestart(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	s.create(r)
	d := s.attach(r.ID, false)
	content := pattern(2, sizeBytes)
	s.write(r.ID, 0, content)
	cutRequest := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: r.ID, Consistency: volume.CrashConsistent}
	cut := s.cut(cutRequest)
	gone := s.request(sizeBytes, backend.Source{})
	s.create(gone)
	s.must(s.Backend.DeleteVolume(s.Context(), gone.ID))
	s.must(s.Backend.RecordFilesystem(s.Context(), r.ID, backend.Filesystem{Type: volume.Ext4, State: backend.Formatting}))
	_, err := s.Backend.ModifyVolume(s.Context(), r.ID, s.mutable(7*time.Second))
	s.must(err)
	want, err := s.Backend.ExpandVolume(s.Context(), r.ID, 2*sizeBytes)
	s.must(err)

	s.reopen()
	s.wantVolume("after a restart", s.volume(r.ID), want)
	again, err := s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	s.wantVolume("created again after a restart", again, want)
	got, err := s.Backend.CreateSnapshot(s.Context(), cutRequest)
	s.must(err)
	s.wantSnapshot("cut again after a restart", got, cut)
	if again := s.attach(r.ID, false); again.Path != d.Path || again.SizeBytes != 2*sizeBytes {
		s.Errorf("device after a restart: %+v, want %s with %d bytes", again, d.Path, 2*sizeBytes)
	}
	if got := s.read(r.ID); !bytes.Equal(got[:sizeBytes], content) {
		s.Error("content after a restart: differs")
	}
	_, err = s.Backend.CreateVolume(s.Context(), gone)
	s.wantKind("create what was deleted before a restart", err, fault.Fenced)
}
