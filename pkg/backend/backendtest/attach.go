package backendtest

import (
	"bytes"
	"os"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var attaches = []test{
	{"Attach", testAttach},
	{"AttachForReading", testAttachForReading},
	{"DetachInUse", testDetachInUse},
	{"AttachAsManyAsThereCanBe", testAttachAsManyAsThereCanBe},
}

func testAttach(s *scene) {
	v := s.blank()
	if v.Device != "" {
		s.Errorf("device of a volume that is not attached: %q, want none", v.Device)
	}
	s.detach(v.ID) // not attached is success
	d := s.attach(v.ID, false)
	if want := (backend.Device{Path: d.Path, SizeBytes: sizeBytes}); d != want {
		s.Errorf("attached: %+v, want %+v", d, want)
	}
	if info, err := os.Stat(d.Path); err != nil || info.Mode()&os.ModeDevice == 0 {
		s.Errorf("%s: %v, %v, want a device", d.Path, info, err)
	}
	content := pattern(1, sizeBytes)
	s.write(v.ID, 0, content)
	if again := s.attach(v.ID, false); again != d {
		s.Errorf("attached again: %+v, want %+v", again, d)
	}
	if got := s.volume(v.ID).Device; got != d.Path {
		s.Errorf("device of an attached volume: %q, want %q", got, d.Path)
	}
	_, err := s.Backend.Attach(s.Context(), backend.AttachRequest{ID: v.ID, ReadOnly: true})
	s.wantKind("attach for reading what is attached for writing", err, fault.InUse)
	other := s.blank()
	if o := s.attach(other.ID, false); o.Path == d.Path {
		s.Errorf("two volumes have the device %s", d.Path)
	}
	for range 2 {
		s.detach(v.ID)
		if got := s.volume(v.ID).Device; got != "" {
			s.Errorf("device of a detached volume: %q, want none", got)
		}
	}
	s.wantBytes("after it was detached", s.read(v.ID), content)
	s.wantBytes("another volume", s.read(other.ID), zeros(sizeBytes))
	_, err = s.Backend.Attach(s.Context(), backend.AttachRequest{ID: volume.NewID()})
	s.wantKind("attach an unknown volume", err, fault.NotFound)
	_, err = s.Backend.Attach(s.Context(), backend.AttachRequest{ID: "../x"})
	s.wantKind("attach an impossible volume", err, fault.NotFound)
	s.detach(volume.NewID())
}

func testAttachForReading(s *scene) {
	v := s.blank()
	content := pattern(1, sizeBytes)
	s.write(v.ID, 0, content)
	d := s.attach(v.ID, true)
	if !d.ReadOnly {
		s.Errorf("attached for reading: %+v", d)
	}
	if again := s.attach(v.ID, true); again != d {
		s.Errorf("attached again: %+v, want %+v", again, d)
	}
	if f, err := os.OpenFile(d.Path, os.O_RDWR, 0); err == nil {
		if _, err = f.WriteAt(zeros(block), 0); err == nil {
			err = f.Sync()
		}
		f.Close()
		if err == nil {
			s.Error("a write through a device for reading went through")
		}
	}
	_, err := s.Backend.Attach(s.Context(), backend.AttachRequest{ID: v.ID})
	s.wantKind("attach for writing what is attached for reading", err, fault.InUse)
	s.wantBytes("attached for reading", s.read(v.ID), content)
}

// testDetachInUse: a device that somebody has open is neither taken away nor is
// its volume deleted.
func testDetachInUse(s *scene) {
	v := s.blank()
	d := s.attach(v.ID, false)
	f := s.openDevice(d.Path, os.O_RDWR)
	s.wantKind("detach an open device", s.Backend.Detach(s.Context(), v.ID), fault.InUse)
	s.wantKind("delete a volume whose device is open", s.Backend.DeleteVolume(s.Context(), v.ID), fault.InUse)
	content := pattern(1, sizeBytes)
	_, err := f.WriteAt(content, 0)
	s.must(err)
	s.must(f.Sync())
	if got := s.volume(v.ID).Device; got != d.Path {
		s.Errorf("device after refusals: %q, want %q", got, d.Path)
	}
	s.must(f.Close())
	s.wantBytes("after refusals", s.read(v.ID), content)
	if got := s.volume(v.ID).Device; got != d.Path {
		s.Errorf("device after its user closed it: %q, want %q", got, d.Path)
	}
	s.must(s.Backend.DeleteVolume(s.Context(), v.ID)) // nobody uses the device: it goes with it
	if got, err := os.ReadFile(d.Path); err == nil && bytes.Equal(got, content) {
		s.Errorf("%s still shows a volume that was deleted", d.Path)
	}
}

func testAttachAsManyAsThereCanBe(s *scene) {
	if s.MaxVolumes == 0 {
		return
	}
	var last backend.Volume
	for range s.MaxVolumes {
		last = s.blank()
		s.attach(last.ID, false)
	}
	more := s.blank()
	_, err := s.Backend.Attach(s.Context(), backend.AttachRequest{ID: more.ID})
	s.wantKind("attach one more than there can be", err, fault.Exhausted)
	s.attach(last.ID, false) // has its device already
	s.detach(last.ID)
	s.attach(more.ID, false)
}
