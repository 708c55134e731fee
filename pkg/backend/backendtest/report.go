package backendtest

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var reports = []test{
	{"Volumes", testVolumes},
	{"Capacity", testCapacity},
	{"Health", testHealth},
	{"UsedBytes", testUsedBytes},
}

func testVolumes(s *scene) {
	want := map[volume.ID]backend.Volume{}
	for i := range 6 {
		v := s.blank()
		if i%3 == 0 {
			v.Device = s.attach(v.ID, i > 0).Path
		}
		want[v.ID] = v
	}
	gone := s.blank()
	s.must(s.Backend.DeleteVolume(s.Context(), gone.ID))
	last := volume.ID("")
	for v, err := range s.Backend.Volumes(s.Context()) {
		s.must(err)
		if v.ID <= last {
			s.Errorf("%s comes after %s: want ids to ascend", v.ID, last)
		}
		last = v.ID
		w, ok := want[v.ID]
		if !ok {
			s.Errorf("volume %s is listed, and was not made", v.ID)
		}
		s.wantVolume("listed", v, w)
		delete(want, v.ID)
	}
	if len(want) > 0 {
		s.Errorf("%d volumes are not listed: %v", len(want), want)
	}
	for range s.Backend.Volumes(s.Context()) {
		break // may be left at any time
	}
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	ended := error(nil)
	for _, err := range s.Backend.Volumes(ctx) {
		ended = err
	}
	s.wantKind("list with a context that ended", ended, fault.Canceled)
}

func testCapacity(s *scene) {
	if s.Class.Shared() {
		c, err := s.Backend.Capacity(s.Context(), s.Class)
		if err != nil || c.MaximumVolumeBytes != s.Class.MaximumBytes() || c.AvailableBytes < c.MaximumVolumeBytes {
			s.Errorf("capacity: %+v, %v, want room for the largest volume, %d bytes", c, err, s.Class.MaximumBytes())
		}
		return
	}
	thick := s.Class
	thick.Provisioning = volume.Thick
	before, err := s.Backend.Capacity(s.Context(), thick)
	s.must(err)
	r := s.request(before.MaximumVolumeBytes/2/volume.SizeUnit*volume.SizeUnit, backend.Source{})
	r.Class = thick
	s.create(r)
	after, err := s.Backend.Capacity(s.Context(), thick)
	s.must(err)
	if after.AvailableBytes > before.AvailableBytes-r.SizeBytes*7/8 || after.MaximumVolumeBytes > after.AvailableBytes {
		s.Errorf("capacity with a volume of %d bytes more: %+v, before %+v", r.SizeBytes, after, before)
	}
	unknown := s.Class
	unknown.Pool = "no-such-pool"
	if got, err := s.Backend.Capacity(s.Context(), unknown); err != nil || got != (backend.Capacity{}) {
		s.Errorf("capacity in an unknown pool: %+v, %v, want none", got, err)
	}
	r = s.request(sizeBytes, backend.Source{})
	r.Class = unknown
	_, err = s.Backend.CreateVolume(s.Context(), r)
	s.wantKind("create in an unknown pool", err, fault.Exhausted)
}

func testHealth(s *scene) {
	v := s.blank()
	s.attach(v.ID, false)
	health, err := s.Backend.VolumeHealth(s.Context(), v.ID)
	if err != nil || len(health) > 0 {
		s.Errorf("health of a volume: %+v, %v, want nothing", health, err)
	}
	health, err = s.Backend.Health(s.Context())
	if err != nil || len(health) > 0 {
		s.Errorf("health: %+v, %v, want nothing", health, err)
	}
	_, err = s.Backend.VolumeHealth(s.Context(), volume.NewID())
	s.wantKind("health of an unknown volume", err, fault.NotFound)
}

func testUsedBytes(s *scene) {
	if s.Class.Shared() {
		return
	}
	v := s.blank()
	s.write(v.ID, 0, pattern(1, sizeBytes/2))
	s.must(Poll(10*time.Second, func() error {
		if used := s.volume(v.ID).UsedBytes; used < sizeBytes/2 || used > 2*sizeBytes {
			return fault.New(fault.Internal, "%d bytes used after %d were written to a volume of %d", used, sizeBytes/2, sizeBytes)
		}
		return nil
	}))
	clone := s.create(s.request(sizeBytes, backend.Source{Volume: v.ID}))
	if used := s.volume(clone.ID).UsedBytes; used < sizeBytes/2 || used > 2*sizeBytes {
		s.Errorf("clone: %d bytes used, want %d at least: shared ones count", used, sizeBytes/2)
	}
}
