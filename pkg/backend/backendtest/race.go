package backendtest

import (
	"context"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var races = []test{
	{"DuplicatesInFlight", testDuplicatesInFlight},
	{"DifferentCreatesOfOneID", testDifferentCreatesOfOneID},
	{"CreateAgainstDelete", testCreateAgainstDelete},
	{"OneVolumeOneOperation", testOneVolumeOneOperation},
	{"ManyVolumes", testManyVolumes},
	{"CancelledCalls", testCancelledCalls},
}

// inFlight is how many calls are made at once.
const inFlight = 16

// atOnce makes many calls at the same time and returns their errors.
func atOnce(call func(i int) error) []error {
	errs := make([]error, inFlight)
	start := make(chan struct{})
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			<-start
			errs[i] = call(i)
		})
	}
	close(start)
	all.Wait()
	return errs
}

// wantSome sees that at least one call succeeded, and the others did or failed
// with one of these kinds.
func (s *scene) wantSome(what string, errs []error, kinds ...fault.Kind) (succeeded int) {
	s.Helper()
	for _, err := range errs {
		if err == nil {
			succeeded++
			continue
		}
		s.wantKind(what, err, kinds...)
	}
	if succeeded == 0 {
		s.Errorf("%s: none of %d succeeded", what, len(errs))
	}
	return succeeded
}

func testDuplicatesInFlight(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	s.removeLater(r.ID)
	duplicates(s, "create", func() (backend.Volume, error) {
		v, err := s.Backend.CreateVolume(s.Context(), r)
		v.UsedBytes = 0
		return v, err
	})
	duplicates(s, "attach", func() (backend.Device, error) {
		return s.Backend.Attach(s.Context(), backend.AttachRequest{ID: r.ID})
	})
	s.write(r.ID, 0, pattern(1, sizeBytes))
	cut := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: r.ID, Consistency: volume.CrashConsistent}
	s.removeSnapshotLater(cut.ID)
	duplicates(s, "cut", func() (backend.Snapshot, error) { return s.Backend.CreateSnapshot(s.Context(), cut) })
	for _, from := range []backend.Source{{Snapshot: cut.ID}, {Volume: r.ID}} {
		clone := s.request(sizeBytes, from)
		s.removeLater(clone.ID)
		duplicates(s, "clone", func() (backend.Volume, error) {
			v, err := s.Backend.CreateVolume(s.Context(), clone)
			v.UsedBytes = 0
			return v, err
		})
	}
	duplicates(s, "expand", func() (backend.Volume, error) {
		v, err := s.Backend.ExpandVolume(s.Context(), r.ID, 2*sizeBytes)
		v.UsedBytes = 0
		return v, err
	})
	s.wantSome("detach", atOnce(func(int) error { return s.Backend.Detach(s.Context(), r.ID) }), fault.Busy)
	s.wantSome("delete the snapshot", atOnce(func(int) error { return s.Backend.DeleteSnapshot(s.Context(), cut.ID) }), fault.Busy)
	s.wantSome("delete", atOnce(func(int) error { return s.Backend.DeleteVolume(s.Context(), r.ID) }), fault.Busy)
}

// duplicates makes one call many times at once: all replies are the same.
func duplicates[V comparable](s *scene, what string, call func() (V, error)) {
	s.Helper()
	replies := make([]V, inFlight)
	errs := atOnce(func(i int) (err error) {
		replies[i], err = call()
		return err
	})
	s.wantSome(what, errs, fault.Busy)
	want, err := call()
	s.must(err)
	for i, got := range replies {
		if errs[i] == nil && got != want {
			s.Errorf("%s, %d at once:\n got %+v\nwant %+v", what, inFlight, got, want)
		}
	}
}

// testDifferentCreatesOfOneID: one of them wins, and the others are told.
func testDifferentCreatesOfOneID(s *scene) {
	r := s.request(0, backend.Source{})
	s.removeLater(r.ID)
	errs := atOnce(func(i int) error {
		r := r
		r.SizeBytes = sizeBytes + int64(i)*volume.SizeUnit
		return second(s.Backend.CreateVolume(s.Context(), r))
	})
	if n := s.wantSome("create in many sizes", errs, fault.Exists, fault.Busy); n > 1 {
		s.Errorf("%d creates of one id in different sizes succeeded, want 1", n)
	}
	for i, err := range errs {
		if want := sizeBytes + int64(i)*volume.SizeUnit; err == nil && s.volume(r.ID).SizeBytes != want {
			s.Errorf("the volume has %d bytes, want the %d of the create that succeeded", s.volume(r.ID).SizeBytes, want)
		}
	}
}

// testCreateAgainstDelete: whoever is first, after both nothing is left.
func testCreateAgainstDelete(s *scene) {
	r := s.request(sizeBytes, backend.Source{})
	for _, err := range atOnce(func(i int) error {
		if i == inFlight/2 {
			return s.Backend.DeleteVolume(s.Context(), r.ID)
		}
		return second(s.Backend.CreateVolume(s.Context(), r))
	}) {
		if err != nil {
			s.wantKind("create against delete", err, fault.Fenced, fault.Busy)
		}
	}
	_, err := s.Backend.Volume(s.Context(), r.ID)
	s.wantKind("look up what was deleted", err, fault.NotFound)
	_, err = s.Backend.CreateVolume(s.Context(), r)
	s.wantKind("create what was deleted", err, fault.Fenced)
}

// testOneVolumeOneOperation: what is done to one volume at once is as if it had
// been done in some order.
func testOneVolumeOneOperation(s *scene) {
	v := s.blank()
	content := pattern(1, sizeBytes)
	s.write(v.ID, 0, content)
	cuts := make([]volume.SnapshotID, inFlight)
	for i := range cuts {
		cuts[i] = volume.NewSnapshotID()
		s.removeSnapshotLater(cuts[i])
	}
	s.wantSome("all at once", atOnce(func(i int) error {
		ctx := s.Context()
		switch i % 4 {
		case 0:
			return second(s.Backend.ExpandVolume(ctx, v.ID, sizeBytes+int64(i)<<16))
		case 1:
			return second(s.Backend.CreateSnapshot(ctx, backend.CreateSnapshotRequest{ID: cuts[i], Volume: v.ID, Consistency: volume.CrashConsistent}))
		case 2:
			return second(s.Backend.Attach(ctx, backend.AttachRequest{ID: v.ID}))
		}
		return s.Backend.Detach(ctx, v.ID)
	}), fault.Busy, fault.InUse)
	got := s.volume(v.ID)
	if want := sizeBytes + int64(inFlight-4)<<16; got.SizeBytes != want {
		s.Errorf("expanded by many at once: %d bytes, want the most that was asked for, %d", got.SizeBytes, want)
	}
	if d := s.attach(v.ID, false); d.SizeBytes != got.SizeBytes {
		s.Errorf("device: %d bytes, want the volume's %d", d.SizeBytes, got.SizeBytes)
	}
	s.wantBytes("after all that", s.read(v.ID)[:sizeBytes], content)
	for i := 1; i < inFlight; i += 4 {
		if cut, err := s.Backend.Snapshot(s.Context(), cuts[i]); err == nil {
			s.wantBytes("snapshot amid all that", s.readSnapshot(cut)[:sizeBytes], content)
		}
	}
}

// testManyVolumes: different volumes do not wait for one another for ever, each
// is used as if it were alone.
func testManyVolumes(s *scene) {
	live := make(chan struct{}, 4) // fewer are attached than there can be
	for _, err := range atOnce(func(i int) error {
		ctx := s.Context()
		r := s.request(volume.MinimumBytes, backend.Source{})
		if _, err := s.Backend.CreateVolume(ctx, r); err != nil {
			return err
		}
		live <- struct{}{}
		defer func() { <-live }()
		d, err := s.Backend.Attach(ctx, backend.AttachRequest{ID: r.ID})
		if err != nil {
			return err
		}
		if d.SizeBytes != volume.MinimumBytes {
			return fault.New(fault.Internal, "device of %d bytes", d.SizeBytes)
		}
		if err := s.Backend.Detach(ctx, r.ID); err != nil {
			return err
		}
		return s.Backend.DeleteVolume(ctx, r.ID)
	}) {
		s.must(err)
	}
}

// testCancelledCalls: a call whose caller went away has either been made or
// not, and repeated it is.
func testCancelledCalls(s *scene) {
	for _, after := range []time.Duration{0, 100 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond} {
		ctx, cancel := context.WithTimeout(s.Context(), after)
		r := s.request(sizeBytes, backend.Source{})
		s.removeLater(r.ID)
		cut := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: r.ID, Consistency: volume.CrashConsistent}
		s.removeSnapshotLater(cut.ID)
		for what, err := range map[string]error{
			"create": second(s.Backend.CreateVolume(ctx, r)),
			"attach": second(s.Backend.Attach(ctx, backend.AttachRequest{ID: r.ID})),
			"expand": second(s.Backend.ExpandVolume(ctx, r.ID, 2*sizeBytes)),
			"cut":    second(s.Backend.CreateSnapshot(ctx, cut)),
			"detach": s.Backend.Detach(ctx, r.ID),
		} {
			if err != nil {
				s.wantKind(what+" by a caller that goes away", err, fault.Deadline, fault.Canceled, fault.Busy, fault.Transient, fault.NotFound)
			}
		}
		cancel()
		_, err := s.Backend.CreateVolume(s.Context(), r)
		s.must(err)
		s.attach(r.ID, false)
		v, err := s.Backend.ExpandVolume(s.Context(), r.ID, 2*sizeBytes)
		s.must(err)
		s.cut(cut)
		if v.SizeBytes != 2*sizeBytes {
			s.Errorf("expanded again: %d bytes, want %d", v.SizeBytes, 2*sizeBytes)
		}
		s.wantBytes("after calls that were cancelled", s.read(r.ID), zeros(2*sizeBytes))
	}
}
