package csi

import (
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestPagesSurviveDeletions deletes all of each page before it asks for the
// next: every volume is seen once.
func TestPagesSurviveDeletions(t *testing.T) {
	f := &fakeService{}
	for range 10 {
		f.add(repository.Volume{Node: "n1", Publications: []repository.Publication{{Node: "n1"}}})
	}
	s := NewControllerServer(f)
	seen := map[string]bool{}
	token := ""
	for pages := 0; ; pages++ {
		got, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: 3, StartingToken: token})
		if err != nil || len(got.Entries) > 3 || pages > 5 {
			t.Fatal(got, err)
		}
		for _, e := range got.Entries {
			if seen[e.Volume.VolumeId] || len(e.Status.PublishedNodeIds) != 1 {
				t.Errorf("%v: twice, or not published", e)
			}
			seen[e.Volume.VolumeId] = true
			f.volumes = f.volumes[1:] // what was listed is the first
		}
		if token = got.NextToken; token == "" {
			break
		}
	}
	if len(seen) != 10 {
		t.Errorf("saw %d of 10", len(seen))
	}
}

func TestSnapshotsOfOneVolume(t *testing.T) {
	f := &fakeService{}
	mine, other := volume.NewID(), volume.NewID()
	for range 40 {
		f.addSnapshot(repository.Snapshot{Volume: other, Node: "n1"})
		f.addSnapshot(repository.Snapshot{Volume: other, Node: "n1"})
		f.addSnapshot(repository.Snapshot{Volume: mine, Node: "n1"})
	}
	s := NewControllerServer(f)
	for _, most := range []int32{0, 1, 3, 7, 100} {
		seen := map[string]bool{}
		for token := ""; ; {
			got, err := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: most, StartingToken: token, SourceVolumeId: string(mine)})
			if err != nil || most > 0 && (len(got.Entries) > int(most) || got.NextToken != "" && len(got.Entries) < int(most)) {
				t.Fatal(most, got, err)
			}
			for _, e := range got.Entries {
				if e.Snapshot.SourceVolumeId != string(mine) || seen[e.Snapshot.SnapshotId] {
					t.Errorf("%v: twice, or of another volume", e)
				}
				seen[e.Snapshot.SnapshotId] = true
			}
			if token = got.NextToken; token == "" {
				break
			}
		}
		if len(seen) != 40 {
			t.Errorf("max_entries %d: saw %d of 40", most, len(seen))
		}
	}
}

func TestListOneSnapshot(t *testing.T) {
	f := &fakeService{}
	snap := f.addSnapshot(repository.Snapshot{Volume: volume.NewID(), Node: "n1"})
	f.addSnapshot(repository.Snapshot{Volume: volume.NewID(), Node: "n1"})
	h := f.Handle(snap.ID).String()
	for name, c := range map[string]struct {
		id, source string
		want       int
	}{
		"all":                     {"", "", 2},
		"one":                     {h, "", 1},
		"one of its volume":       {h, string(snap.Volume), 1},
		"one of another volume":   {h, string(volume.NewID()), 0},
		"impossible snapshot":     {impossible, "", 0},
		"unknown snapshot":        {f.Handle(volume.NewSnapshotID()).String(), "", 0},
		"impossible volume":       {"", impossible, 0},
		"unknown volume":          {"", string(volume.NewID()), 0},
		"a snapshot and nonsense": {h, impossible, 0},
	} {
		got, err := NewControllerServer(f).ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: c.id, SourceVolumeId: c.source})
		if err != nil || len(got.Entries) != c.want || got.NextToken != "" {
			t.Errorf("%s: got %v, %v, want %d", name, got, err, c.want)
		}
	}
}

func TestListVolumeHealth(t *testing.T) {
	f := &fakeService{health: map[volume.ID][]backend.Health{}}
	sick := map[string]bool{}
	for i := range 2*healthPage + 5 {
		v := f.add(repository.Volume{Node: "n1"})
		if i%10 == 0 {
			sick[string(v.ID)] = true
			f.health[v.ID] = []backend.Health{{Severity: backend.Degraded, Reason: "Slow", Message: fmt.Sprint(i)}}
		}
	}
	s := NewControllerServer(f)
	for _, most := range []int32{0, 1, 50, 1000} {
		seen, calls := 0, 0
		for token := ""; ; {
			calls++
			got, err := s.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{MaxEntries: most, StartingToken: token})
			if err != nil || most > 0 && len(got.Entries) > int(most) {
				t.Fatal(got, err)
			}
			for _, e := range got.Entries {
				if seen++; !sick[e.VolumeId] || e.HealthStatuses[0].Status != csi.VolumeHealthErrorType_DEGRADED {
					t.Errorf("%v is not sick", e)
				}
			}
			if token = got.NextToken; token == "" {
				break
			}
		}
		if calls < 3 {
			t.Errorf("max_entries %d: looked at all volumes in %d calls", most, calls)
		}
		if seen != len(sick) {
			t.Errorf("max_entries %d: saw %d of %d", most, seen, len(sick))
		}
	}
}

func TestHealthHasEachReasonOnce(t *testing.T) {
	got := volumeHealth("v", []backend.Health{
		{Severity: backend.DataLoss, Reason: "Rot", Message: "a"}, {Severity: backend.Degraded, Reason: "Rot", Message: "b"},
		{Severity: backend.DataLoss, Reason: "Rot", Message: "c"}, {Severity: "newer", Reason: "Rot"},
	})
	if len(got.HealthStatuses) != 3 || got.HealthStatuses[0].Message != "a; c" || got.HealthStatuses[2].Status != csi.VolumeHealthErrorType_INACCESSIBLE {
		t.Errorf("got %v", got)
	}
}
