package backendtest

import (
	"bytes"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var sources = []test{
	{"FromSnapshot", testFromSnapshot},
	{"FromVolume", testFromVolume},
	{"FromNothingKnown", testFromNothingKnown},
	{"SourcesOutlived", testSourcesOutlived},
	{"FilesystemOfClones", testFilesystemOfClones},
	{"SourceWouldPauseTooLong", testSourceWouldPauseTooLong},
}

func testFromSnapshot(s *scene) {
	origin := s.blank()
	old, young, other := pattern(1, sizeBytes), pattern(2, sizeBytes), pattern(3, sizeBytes)
	s.write(origin.ID, 0, old)
	cut := s.snapshot(origin.ID)
	s.write(origin.ID, 0, young[:sizeBytes/2])

	r := s.request(2*sizeBytes, backend.Source{Snapshot: cut.ID}) // restored to a larger one
	clone := s.create(r)
	s.wantVolume("clone", clone, backend.Volume{ID: r.ID, SizeBytes: 2 * sizeBytes, Class: r.Class, Source: r.Source, Pool: clone.Pool, CreatedAt: clone.CreatedAt})
	s.wantBytes("clone", s.read(clone.ID), old, zeros(sizeBytes))
	again, err := s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	s.wantVolume("cloned again", again, clone)

	s.write(clone.ID, sizeBytes/4, other)
	s.wantBytes("origin after its clone was written", s.read(origin.ID), young[:sizeBytes/2], old[sizeBytes/2:])
	s.wantBytes("snapshot after its clone was written", s.readSnapshot(cut), old)
	s.write(origin.ID, 0, young)
	s.wantBytes("clone after its origin was written", s.read(clone.ID), old[:sizeBytes/4], other, zeros(sizeBytes*3/4))
	s.wantBytes("snapshot after its origin was written", s.readSnapshot(cut), old)

	_, err = s.Backend.CreateVolume(s.Context(), s.request(sizeBytes-volume.SizeUnit, backend.Source{Snapshot: cut.ID}))
	s.wantKind("restore to less than the snapshot's size", err, fault.OutOfRange)
}

func testFromVolume(s *scene) {
	origin := s.blank()
	s.attach(origin.ID, false)
	old, young := pattern(1, sizeBytes), pattern(2, sizeBytes)
	s.write(origin.ID, 0, old)
	r := s.request(sizeBytes+volume.SizeUnit, backend.Source{Volume: origin.ID})
	clone := s.create(r) // while the origin is in use
	s.write(origin.ID, 0, young)
	again, err := s.Backend.CreateVolume(s.Context(), r)
	s.must(err)
	s.wantVolume("cloned again", again, clone)
	s.wantBytes("clone after its origin was written", s.read(clone.ID), old, zeros(volume.SizeUnit))
	s.write(clone.ID, 0, old[:block])
	s.wantBytes("origin after its clone was written", s.read(origin.ID), young)
	s.detach(origin.ID)
	rested := s.create(s.request(sizeBytes, backend.Source{Volume: origin.ID}))
	s.wantBytes("clone of a volume at rest", s.read(rested.ID), young)
	_, err = s.Backend.CreateVolume(s.Context(), s.request(sizeBytes-volume.SizeUnit, backend.Source{Volume: origin.ID}))
	s.wantKind("clone to less than the volume's size", err, fault.OutOfRange)
}

func testFromNothingKnown(s *scene) {
	for what, from := range map[string]backend.Source{
		"an unknown snapshot":     {Snapshot: volume.NewSnapshotID()},
		"an unknown volume":       {Volume: volume.NewID()},
		"an impossible snapshot":  {Snapshot: "../../etc"},
		"an impossible volume":    {Volume: "v-"},
		"a volume as a snapshot":  {Snapshot: volume.SnapshotID(s.blank().ID)},
		"a group for a volume":    {Volume: volume.ID(volume.NewGroupID())},
		"a snapshot for a volume": {Volume: volume.ID(s.snapshot(s.blank().ID).ID)},
	} {
		r := s.request(sizeBytes, from)
		_, err := s.Backend.CreateVolume(s.Context(), r)
		s.wantKind("create from "+what, err, fault.NotFound)
		r.Source = backend.Source{} // the id is still free
		s.create(r)
	}
}

// testSourcesOutlived: a snapshot outlives its volume, and a clone both.
func testSourcesOutlived(s *scene) {
	origin := s.blank()
	content := pattern(1, sizeBytes)
	s.write(origin.ID, 0, content)
	cut := s.snapshot(origin.ID)
	copied := s.create(s.request(sizeBytes, backend.Source{Volume: origin.ID}))
	s.must(s.Backend.DeleteVolume(s.Context(), origin.ID))
	got, err := s.Backend.Snapshot(s.Context(), cut.ID)
	s.must(err)
	s.wantSnapshot("after its volume was deleted", got, cut)
	s.wantBytes("snapshot after its volume was deleted", s.readSnapshot(cut), content)
	clone := s.create(s.request(sizeBytes, backend.Source{Snapshot: cut.ID}))
	s.must(s.Backend.DeleteSnapshot(s.Context(), cut.ID))
	s.reopen()
	s.wantBytes("clone after its snapshot was deleted", s.read(clone.ID), content)
	s.wantBytes("clone after its volume was deleted", s.read(copied.ID), content)
	if got := s.volume(clone.ID); got.Source.Snapshot != cut.ID {
		s.Errorf("source of a clone after it was deleted: %+v, want snapshot %s", got.Source, cut.ID)
	}
	s.write(clone.ID, 0, bytes.Repeat([]byte{1}, sizeBytes))
	s.wantBytes("the other clone", s.read(copied.ID), content)
}

func testFilesystemOfClones(s *scene) {
	for state, want := range map[backend.FormatState]backend.FormatState{
		backend.NeverFormatted: backend.NeverFormatted,
		backend.Formatting:     backend.Formatting,
		backend.Formatted:      backend.Cloned,
		backend.Cloned:         backend.Cloned,
	} {
		f := backend.Filesystem{Type: volume.XFS, State: state}
		wanted := backend.Filesystem{Type: volume.XFS, State: want}
		origin := s.blank()
		s.must(s.Backend.RecordFilesystem(s.Context(), origin.ID, f))
		cut := s.snapshot(origin.ID)
		if cut.Filesystem != f {
			s.Errorf("snapshot of a volume with filesystem %+v: %+v, want the same", f, cut.Filesystem)
		}
		for _, from := range []backend.Source{{Snapshot: cut.ID}, {Volume: origin.ID}} {
			if clone := s.create(s.request(sizeBytes, from)); clone.Filesystem != wanted {
				s.Errorf("clone of a volume with filesystem %+v: %+v, want %+v", f, clone.Filesystem, wanted)
			}
		}
	}
}

// testSourceWouldPauseTooLong: a cut that would hold writers up for longer than
// the class allows is refused, and leaves nothing; or it is none that does.
func testSourceWouldPauseTooLong(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	r.Class.MaxSnapshotPause = 1
	origin := s.create(r)
	s.attach(origin.ID, false)
	s.write(origin.ID, 0, pattern(1, block))
	before := inventory(s.T, s.Pool)
	cutRequest := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: origin.ID, Consistency: volume.CrashConsistent}
	s.removeSnapshotLater(cutRequest.ID)
	cut, err := s.Backend.CreateSnapshot(s.Context(), cutRequest)
	if err == nil && cut.PredictedPause <= 1 {
		return // its pause does not depend on what is in the volume
	}
	s.wantKind("snapshot with a pause of 1 ns at most", err, fault.Precondition)
	clone := s.request(sizeBytes, backend.Source{Volume: origin.ID})
	_, err = s.Backend.CreateVolume(s.Context(), clone)
	s.wantKind("clone with a pause of 1 ns at most", err, fault.Precondition)
	s.wantInventory("after cuts that would pause for too long", before)
	minute := time.Minute
	_, err = s.Backend.ModifyVolume(s.Context(), origin.ID, volume.Mutable{MaxSnapshotPause: &minute})
	s.must(err)
	if cut := s.cut(cutRequest); cut.PredictedPause <= 0 || cut.PredictedPause > minute || cut.Pause <= 0 {
		s.Errorf("after the limit was raised: paused for %v, predicted %v, want both above 0 and below %v", cut.Pause, cut.PredictedPause, minute)
	}
	s.create(clone)
}
