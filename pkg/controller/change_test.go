package controller

import (
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestExpand(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		v := w.volume(thick("one", 4*mib))
		expand := func(required, limit int64) (int64, error) {
			v, err := w.c.ExpandVolume(t.Context(), v.ID, volume.Range{RequiredBytes: required, LimitBytes: limit})
			return v.SizeBytes, err
		}
		for _, row := range []struct{ required, limit, want int64 }{
			{4 * mib, 0, 4 * mib},
			{mib, 0, 4 * mib}, // below its size: it has that already
			{0, 0, 4 * mib},
			{4*mib + 1, 0, 4*mib + 4096},
			{5 * mib, 6 * mib, 5 * mib},
			{5 * mib, 6 * mib, 5 * mib},
		} {
			if got, err := expand(row.required, row.limit); err != nil || got != row.want {
				t.Errorf("%+v: got %d, %v", row, got, err)
			}
		}
		_, err := expand(0, 4*mib)
		wantKind(t, err, fault.OutOfRange, "limit_bytes", "cannot shrink")
		_, err = expand(-1, 0)
		wantKind(t, err, fault.Invalid, "required_bytes")
		_, err = expand(5*mib+1, 5*mib+2)
		wantKind(t, err, fault.OutOfRange, "limit_bytes")
		_, err = expand(1<<62, 0)
		wantKind(t, err, fault.OutOfRange, "required_bytes")
		_, err = expand(200*gib, 0)
		wantKind(t, err, fault.Exhausted)
		_, err = w.c.ExpandVolume(t.Context(), volume.NewID(), volume.Range{RequiredBytes: mib})
		wantKind(t, err, fault.NotFound)

		// A controller died after the engine had grown the volume: the record
		// follows with the next change, and says what is there.
		_, err = w.engines["n1"].ExpandVolume(t.Context(), v.ID, 9*mib)
		must(t, err)
		_, err = expand(6*mib, 8*mib)
		wantKind(t, err, fault.OutOfRange, "the volume has 9437184")
		if got, err := expand(6*mib, 0); err != nil || got != 9*mib {
			t.Errorf("got %d, %v; want what the engine has", got, err)
		}
		w.clean("in the end")
		must(t, Retire(t.Context(), w.repo, "n1", w.c.now()))
		_, err = expand(10*mib, 0)
		wantKind(t, err, fault.Precondition, "retired")
	})
}

func TestModify(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		thickWord, thinWord, pause := volume.Thick, volume.Thin, 3*time.Second
		r := thick("one", mib)
		r.Class.Provisioning = volume.Thin
		v := w.volume(r)
		for range 2 {
			must(t, w.c.ModifyVolume(t.Context(), v.ID, volume.Mutable{Provisioning: &thickWord, MaxSnapshotPause: &pause}))
		}
		got, err := w.c.Volume(t.Context(), v.ID)
		if err != nil || got.Class.Provisioning != volume.Thick || got.Class.MaxSnapshotPause != pause {
			t.Errorf("got %+v, %v", got, err)
		}
		wantKind(t, w.c.ModifyVolume(t.Context(), v.ID, volume.Mutable{Provisioning: &thinWord}), fault.Invalid, "provisioning", "stays thick")
		wantKind(t, w.c.ModifyVolume(t.Context(), volume.NewID(), volume.Mutable{}), fault.NotFound)
		w.clean("in the end")
	})
}

// TestVolumeHealth: a volume that its node does not have is lost data, and a node
// that does not answer says nothing about its volumes.
func TestVolumeHealth(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		v := w.volume(thick("one", mib))
		want := func(reason string) {
			t.Helper()
			h, err := w.c.VolumeHealth(t.Context(), v.ID)
			must(t, err)
			var got []string
			for _, each := range h.Health {
				got = append(got, each.Reason)
			}
			if reason == "" && len(got) > 0 || reason != "" && (len(got) != 1 || got[0] != reason) {
				t.Errorf("health %v, want %q", h.Health, reason)
			}
		}
		want("")
		w.engines["n1"].down = true
		want("NodeUnreachable")
		w.engines["n1"].down = false
		w.engines["n1"].volumes = map[volume.ID]backend.Volume{}
		want("VolumeMissing")
		_, err := w.c.ExpandVolume(t.Context(), v.ID, volume.Range{RequiredBytes: 2 * mib})
		wantKind(t, err, fault.Corrupt, "does not have it")
		_, err = w.c.CreateSnapshot(t.Context(), CreateSnapshotRequest{Name: "s", Volume: v.ID})
		wantKind(t, err, fault.Corrupt, "does not have it")
		must(t, Retire(t.Context(), w.repo, "n1", w.c.now()))
		want("NodeUnreachable")
		_, err = w.c.VolumeHealth(t.Context(), volume.NewID())
		wantKind(t, err, fault.NotFound)
	})
}
