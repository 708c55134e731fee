package backendtest

import (
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var snapshots = []test{
	{"Snapshot", testSnapshot},
	{"SnapshotRepeated", testSnapshotRepeated},
	{"SnapshotInvalid", testSnapshotInvalid},
	{"SnapshotConsistency", testSnapshotConsistency},
}

func testSnapshot(s *scene) {
	v := s.blank()
	old := pattern(1, sizeBytes)
	s.write(v.ID, 0, old)
	s.must(s.Backend.RecordFilesystem(s.Context(), v.ID, backend.Filesystem{Type: volume.XFS, State: backend.Formatted}))
	began := time.Now()
	first := s.snapshot(v.ID)
	s.wantSnapshot("cut", first, backend.Snapshot{
		ID: first.ID, Volume: v.ID, SizeBytes: sizeBytes, Consistency: volume.FilesystemConsistent,
		Filesystem: backend.Filesystem{Type: volume.XFS, State: backend.Formatted}, CreatedAt: first.CreatedAt,
		Pause: first.Pause, PredictedPause: first.PredictedPause,
	})
	if age := first.CreatedAt.Sub(began); age < -time.Second || age > time.Minute {
		s.Errorf("cut at %v, want about %v", first.CreatedAt, began)
	}
	// What becomes of the volume does not change it.
	s.write(v.ID, 0, pattern(2, sizeBytes))
	_, err := s.Backend.ExpandVolume(s.Context(), v.ID, 2*sizeBytes)
	s.must(err)
	s.must(s.Backend.RecordFilesystem(s.Context(), v.ID, backend.Filesystem{Type: volume.XFS, State: backend.Cloned}))
	got, err := s.Backend.Snapshot(s.Context(), first.ID)
	s.must(err)
	s.wantSnapshot("looked up", got, first)
	s.wantBytes("after its volume changed", s.readSnapshot(first), old)
	for last := first; last.CreatedAt.Sub(first.CreatedAt) < time.Millisecond; {
		next := s.snapshot(v.ID)
		if !next.CreatedAt.After(last.CreatedAt) {
			s.Fatalf("cut at %v, and the next one at %v: want it later", last.CreatedAt, next.CreatedAt)
		}
		if next.SizeBytes != 2*sizeBytes {
			s.Errorf("snapshot of a grown volume: %d bytes, want %d", next.SizeBytes, 2*sizeBytes)
		}
		last = next
	}
	_, err = s.Backend.Snapshot(s.Context(), volume.NewSnapshotID())
	s.wantKind("look up a snapshot that does not exist", err, fault.NotFound)
	_, err = s.Backend.Snapshot(s.Context(), "../etc")
	s.wantKind("look up an impossible id", err, fault.NotFound)
}

func testSnapshotRepeated(s *scene) {
	v, other := s.blank(), s.blank()
	r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: v.ID, Consistency: volume.CrashConsistent}
	s.attach(v.ID, false)
	old := pattern(1, sizeBytes)
	s.write(v.ID, 0, old)
	first := s.cut(r)
	s.write(v.ID, 0, pattern(2, sizeBytes))
	again, err := s.Backend.CreateSnapshot(s.Context(), r)
	s.must(err)
	s.wantSnapshot("repeated", again, first)
	s.wantBytes("repeated", s.readSnapshot(first), old)
	for what, change := range map[string]func(*backend.CreateSnapshotRequest){
		"volume":      func(r *backend.CreateSnapshotRequest) { r.Volume = other.ID },
		"consistency": func(r *backend.CreateSnapshotRequest) { r.Consistency = volume.FilesystemConsistent },
	} {
		different := r
		change(&different)
		_, err := s.Backend.CreateSnapshot(s.Context(), different)
		s.wantKind("cut with another "+what, err, fault.Exists)
	}
	s.detach(v.ID)
	s.must(s.Backend.DeleteVolume(s.Context(), v.ID))
	again, err = s.Backend.CreateSnapshot(s.Context(), r)
	s.must(err)
	s.wantSnapshot("repeated after its volume was deleted", again, first)
}

func testSnapshotInvalid(s *scene) {
	v := s.blank()
	before := inventory(s.T, s.Pool)
	for what, row := range map[string]struct {
		change func(*backend.CreateSnapshotRequest)
		want   fault.Kind
	}{
		"no id":                  {func(r *backend.CreateSnapshotRequest) { r.ID = "" }, fault.Invalid},
		"a path as id":           {func(r *backend.CreateSnapshotRequest) { r.ID = "../" + r.ID }, fault.Invalid},
		"an unknown consistency": {func(r *backend.CreateSnapshotRequest) { r.Consistency = "fair" }, fault.Invalid},
		"no consistency":         {func(r *backend.CreateSnapshotRequest) { r.Consistency = "" }, fault.Invalid},
		"an unknown volume":      {func(r *backend.CreateSnapshotRequest) { r.Volume = volume.NewID() }, fault.NotFound},
		"an impossible volume":   {func(r *backend.CreateSnapshotRequest) { r.Volume = "../" + r.Volume }, fault.NotFound},
		"an unknown pause":       {func(r *backend.CreateSnapshotRequest) { r.Pause = "never begun" }, fault.Precondition},
	} {
		r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: v.ID, Consistency: volume.CrashConsistent}
		row.change(&r)
		_, err := s.Backend.CreateSnapshot(s.Context(), r)
		s.wantKind("cut with "+what, err, row.want)
	}
	s.wantInventory("after refusals", before)
}

// testSnapshotConsistency: how a snapshot turns out is told as it is.
func testSnapshotConsistency(s *scene) {
	ask := func(what string, id volume.ID, asked, want volume.Consistency) backend.Snapshot {
		s.Helper()
		got := s.cut(backend.CreateSnapshotRequest{Volume: id, Consistency: asked})
		if got.Consistency != want {
			s.Errorf("%s, asked for %q: it is %q, want %q", what, asked, got.Consistency, want)
		}
		return got
	}
	const filesystem, crash = volume.FilesystemConsistent, volume.CrashConsistent
	v := s.blank()
	ask("at rest", v.ID, filesystem, filesystem)
	ask("at rest", v.ID, crash, crash)
	s.attach(v.ID, false)
	ask("a raw block volume in use", v.ID, filesystem, crash)
	ask("a raw block volume in use", v.ID, crash, crash)
	s.detach(v.ID)
	s.attach(v.ID, true)
	ask("attached for reading", v.ID, filesystem, filesystem)

	m := s.mount()
	s.must(m.put("file", "one"))
	frozen := ask("mounted", m.id, filesystem, filesystem)
	crashed := ask("mounted", m.id, crash, crash)
	s.must(m.put("file", "two"))
	if frozen.Pause <= 0 || frozen.Pause > backend.PauseLimit {
		s.Errorf("pause of a mounted volume: %v, want more than 0 and at most %v", frozen.Pause, backend.PauseLimit)
	}
	// A filesystem that was frozen is clean: it needs no recovery.
	if got := s.readFile(frozen, "file", "ro,noload"); got != "one" {
		s.Errorf("file in a filesystem-consistent snapshot: %q, want %q", got, "one")
	}
	if got := s.readFile(crashed, "file", "ro"); got != "one" {
		s.Errorf("file in a crash-consistent snapshot: %q, want %q", got, "one")
	}
	clone := s.create(s.request(4*sizeBytes, backend.Source{Volume: m.id}))
	if clone.Filesystem.State != backend.Cloned {
		s.Errorf("clone of a mounted volume: filesystem %+v, want it cloned", clone.Filesystem)
	}
}
