package backendtest

import (
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var deletes = []test{
	{"Delete", testDelete},
	{"DeleteBeforeCreate", testDeleteBeforeCreate},
}

var changes = []test{
	{"Expand", testExpand},
	{"Modify", testModify},
	{"ModifyPause", testModifyPause},
	{"ModifyProvisioning", testModifyProvisioning},
	{"RecordFilesystem", testRecordFilesystem},
}

func testDelete(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	s.create(r)
	cutRequest := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: r.ID, Consistency: volume.CrashConsistent}
	s.cut(cutRequest)
	for range 2 {
		s.must(s.Backend.DeleteSnapshot(s.Context(), cutRequest.ID))
		_, err := s.Backend.Snapshot(s.Context(), cutRequest.ID)
		s.wantKind("look up a deleted snapshot", err, fault.NotFound)
		_, err = s.Backend.CreateSnapshot(s.Context(), cutRequest)
		s.wantKind("create a deleted snapshot", err, fault.Fenced)
	}
	for range 2 {
		s.must(s.Backend.DeleteVolume(s.Context(), r.ID))
		_, err := s.Backend.Volume(s.Context(), r.ID)
		s.wantKind("look up a deleted volume", err, fault.NotFound)
		_, err = s.Backend.CreateVolume(s.Context(), r)
		s.wantKind("create a deleted volume", err, fault.Fenced)
		s.reopen()
	}
	_, err := s.Backend.Attach(s.Context(), backend.AttachRequest{ID: r.ID})
	s.wantKind("attach a deleted volume", err, fault.NotFound)
	_, err = s.Backend.ExpandVolume(s.Context(), r.ID, 2*sizeBytes)
	s.wantKind("expand a deleted volume", err, fault.NotFound)
	_, err = s.Backend.ModifyVolume(s.Context(), r.ID, volume.Mutable{})
	s.wantKind("modify a deleted volume", err, fault.NotFound)
	_, err = s.Backend.VolumeHealth(s.Context(), r.ID)
	s.wantKind("health of a deleted volume", err, fault.NotFound)
	err = s.Backend.RecordFilesystem(s.Context(), r.ID, backend.Filesystem{Type: volume.Ext4, State: backend.Formatted})
	s.wantKind("record the filesystem of a deleted volume", err, fault.NotFound)
	_, err = s.Backend.CreateSnapshot(s.Context(), backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: r.ID, Consistency: volume.CrashConsistent})
	s.wantKind("snapshot a deleted volume", err, fault.NotFound)
}

// testDeleteBeforeCreate: unknown ids are success, and never come to exist after.
func testDeleteBeforeCreate(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	s.must(s.Backend.DeleteVolume(s.Context(), r.ID))
	_, err := s.Backend.CreateVolume(s.Context(), r)
	s.wantKind("create after a delete that overtook it", err, fault.Fenced)
	cut := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: s.blank().ID, Consistency: volume.CrashConsistent}
	s.must(s.Backend.DeleteSnapshot(s.Context(), cut.ID))
	_, err = s.Backend.CreateSnapshot(s.Context(), cut)
	s.wantKind("cut after a delete that overtook it", err, fault.Fenced)
	for _, id := range []string{"", "x", "../volumes", "v-\x00", "/"} {
		s.must(s.Backend.DeleteVolume(s.Context(), volume.ID(id)))
		s.must(s.Backend.DeleteSnapshot(s.Context(), volume.SnapshotID(id)))
		s.must(s.Backend.Detach(s.Context(), volume.ID(id)))
	}
}

func testExpand(s *scene) {
	v := s.blank()
	content := pattern(1, sizeBytes)
	s.write(v.ID, 0, content)
	expand := func(what string, to, want int64) {
		s.Helper()
		got, err := s.Backend.ExpandVolume(s.Context(), v.ID, to)
		s.must(err)
		v.SizeBytes, v.Device = want, got.Device
		s.wantVolume(what, got, v)
		s.wantVolume(what+", looked up", s.volume(v.ID), v)
	}
	expand("at rest", sizeBytes+volume.SizeUnit, sizeBytes+volume.SizeUnit)
	d := s.attach(v.ID, false)
	f := s.openDevice(d.Path, os.O_RDWR)
	for range 2 {
		expand("in use", 2*sizeBytes, 2*sizeBytes)
	}
	expand("to less", sizeBytes, 2*sizeBytes)
	expand("to nothing", 0, 2*sizeBytes)
	if size, err := f.Seek(0, 2); err != nil || size != 2*sizeBytes {
		s.Errorf("device that was open while it grew: %d bytes, error %v, want %d", size, err, 2*sizeBytes)
	}
	if d := s.attach(v.ID, false); d.SizeBytes != 2*sizeBytes {
		s.Errorf("device: %d bytes, want %d", d.SizeBytes, 2*sizeBytes)
	}
	s.wantBytes("after expansions", s.read(v.ID), content, zeros(sizeBytes))
	for _, size := range []int64{2*sizeBytes + 1, -volume.SizeUnit} {
		_, err := s.Backend.ExpandVolume(s.Context(), v.ID, size)
		s.wantKind("expand to an impossible size", err, fault.Invalid)
	}
	_, err := s.Backend.ExpandVolume(s.Context(), v.ID, volume.MaximumBytes+volume.SizeUnit)
	s.wantKind("expand beyond the largest size", err, fault.OutOfRange)
	expand("after refusals", 2*sizeBytes, 2*sizeBytes)
}

func testModify(s *scene) {
	v := s.blank()
	for _, to := range []time.Duration{time.Second, 3 * time.Second} {
		for range 2 {
			class, err := v.Class.Apply(s.mutable(to))
			s.must(err)
			got, err := s.Backend.ModifyVolume(s.Context(), v.ID, s.mutable(to))
			s.must(err)
			v.Class = class
			s.wantVolume("modified", got, v)
		}
	}
	other, thin := time.Second, volume.Thin
	foreign := volume.Mutable{UploadDelay: &other}
	if s.Class.Shared() {
		foreign = volume.Mutable{Provisioning: &thin}
	}
	_, err := s.Backend.ModifyVolume(s.Context(), v.ID, foreign)
	s.wantKind("modify what is of another backend", err, fault.Invalid)
	s.wantVolume("after a refusal", s.volume(v.ID), v)
}

func testModifyPause(s *scene) {
	if s.Class.Shared() {
		return
	}
	v := s.blank()
	for _, pause := range []time.Duration{time.Nanosecond, 3 * time.Second} {
		for range 2 {
			got, err := s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{MaxSnapshotPause: &pause})
			s.must(err)
			v.Class.MaxSnapshotPause = pause
			s.wantVolume("modified", got, v)
		}
	}
	got, err := s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{})
	s.must(err)
	s.wantVolume("modified without a change", got, v)
	for _, pause := range []time.Duration{0, -time.Second} {
		_, err := s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{MaxSnapshotPause: &pause})
		s.wantKind("modify with an impossible pause", err, fault.Invalid)
	}
	odd := volume.Provisioning("fat")
	_, err = s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{Provisioning: &odd})
	s.wantKind("modify with an unknown provisioning", err, fault.Invalid)
	s.wantVolume("after refusals", s.volume(v.ID), v)
}

// testModifyProvisioning: a thin volume becomes thick while it is in use.
func testModifyProvisioning(s *scene) {
	thick, thin := volume.Thick, volume.Thin
	if s.Class.Shared() {
		return
	}
	if s.Class.Provisioning == thick {
		v := s.blank()
		_, err := s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{Provisioning: &thin})
		s.wantKind("make a thick volume thin", err, fault.Invalid)
		return
	}
	s.tooThin()
	v := s.blank()
	f := s.openDevice(s.attach(v.ID, false).Path, os.O_RDWR)
	content := pattern(1, sizeBytes/2)
	_, err := f.WriteAt(content, sizeBytes/4)
	s.must(err)
	s.must(f.Sync())
	for range 2 {
		got, err := s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{Provisioning: &thick})
		s.must(err)
		if got.Class.Provisioning != thick || got.UsedBytes < sizeBytes {
			s.Errorf("made thick: %q with %d bytes used, want %q with %d at least", got.Class.Provisioning, got.UsedBytes, thick, sizeBytes)
		}
	}
	if err := blockIoctl(f, unix.BLKDISCARD, 0, sizeBytes); err == nil {
		s.Error("a discard of a thick volume went through")
	}
	if used := s.volume(v.ID).UsedBytes; used < sizeBytes {
		s.Errorf("after a discard: %d bytes used, want %d at least", used, sizeBytes)
	}
	s.wantBytes("made thick", s.read(v.ID), zeros(sizeBytes/4), content, zeros(sizeBytes/4))
	_, err = s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{Provisioning: &thin})
	s.wantKind("make it thin again", err, fault.Invalid)
}

// tooThin sees that a thin volume that is larger than what there is stays thin.
func (s *scene) tooThin() {
	s.Helper()
	class := s.Class
	class.Provisioning = volume.Thick
	all, err := s.Backend.Capacity(s.Context(), class)
	s.must(err)
	v := s.create(s.request(2*all.MaximumVolumeBytes, backend.Source{}))
	thick := volume.Thick
	_, err = s.Backend.ModifyVolume(s.Context(), v.ID, volume.Mutable{Provisioning: &thick})
	s.wantKind("make a volume thick for which there is no room", err, fault.Exhausted)
	s.wantVolume("after that", s.volume(v.ID), v)
	if used := s.volume(v.ID).UsedBytes; used > sizeBytes {
		s.Errorf("after that: %d bytes used, want few", used)
	}
}

func testRecordFilesystem(s *scene) {
	v := s.blank()
	for _, f := range []backend.Filesystem{
		{Type: volume.Ext4, State: backend.Formatting},
		{Type: volume.Ext4, State: backend.Formatted},
		{Type: volume.Ext4, State: backend.Cloned},
		{Type: volume.Ext4, State: backend.Formatted},
	} {
		for range 2 {
			s.must(s.Backend.RecordFilesystem(s.Context(), v.ID, f))
			if got := s.volume(v.ID).Filesystem; got != f {
				s.Errorf("recorded %+v, got %+v", f, got)
			}
			if got := s.attach(v.ID, false).Filesystem; got != f {
				s.Errorf("recorded %+v, got %+v with the device", f, got)
			}
		}
	}
	want := s.volume(v.ID)
	for _, f := range []backend.Filesystem{
		{Type: "vfat", State: backend.Formatted},
		{Type: volume.Ext4, State: "half"},
		{State: backend.Formatted},
	} {
		s.wantKind("record an impossible filesystem", s.Backend.RecordFilesystem(s.Context(), v.ID, f), fault.Invalid)
	}
	s.wantVolume("after refusals", s.volume(v.ID), want)
}
