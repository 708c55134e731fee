package controller

import (
	"fmt"
	"slices"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestPagesSurviveDeletions deletes, between two pages, the very thing that the
// next page begins after, and one that is still to come: of the others none is
// missed and none comes twice.
func TestPagesSurviveDeletions(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		var volumes []volume.ID
		var snapshots []volume.SnapshotID
		for i := range 23 {
			v := w.volume(thick(fmt.Sprint("v", i), mib))
			volumes = append(volumes, v.ID)
			snapshots = append(snapshots, w.snapshot(fmt.Sprint("s", i), v.ID).ID)
		}
		pages(t, volumes, func(after volume.ID) ([]volume.ID, volume.ID) {
			page, next, err := w.c.Volumes(t.Context(), after, 4)
			must(t, err)
			return ids(page, func(v repository.Volume) volume.ID { return v.ID }), next
		}, func(id volume.ID) { must(t, w.c.DeleteVolume(t.Context(), id)) })
		pages(t, snapshots, func(after volume.SnapshotID) ([]volume.SnapshotID, volume.SnapshotID) {
			page, next, err := w.c.Snapshots(t.Context(), after, 4)
			must(t, err)
			return ids(page, func(s repository.Snapshot) volume.SnapshotID { return s.ID }), next
		}, func(id volume.SnapshotID) { must(t, w.c.DeleteSnapshot(t.Context(), w.c.Handle(id))) })
	})
}

func ids[R any, ID ~string](page []R, id func(R) ID) (all []ID) {
	for _, r := range page {
		all = append(all, id(r))
	}
	return all
}

func pages[ID ~string](t *testing.T, all []ID, read func(after ID) ([]ID, ID), remove func(ID)) {
	t.Helper()
	slices.Sort(all)
	var seen, removed []ID
	after := ID("")
	for {
		page, next := read(after)
		if len(page) > 4 {
			t.Errorf("a page of %d, want 4 at most", len(page))
		}
		seen = append(seen, page...)
		if next == "" {
			break
		}
		remove(next)
		if i := slices.Index(all, next); i+2 < len(all) {
			remove(all[i+2])
			removed = append(removed, all[i+2])
		}
		after = next
	}
	want := slices.DeleteFunc(slices.Clone(all), func(id ID) bool { return slices.Contains(removed, id) })
	if !slices.Equal(seen, want) {
		t.Errorf("seen %q, want %q", seen, want)
	}
}

// TestOnlyWhatIsThereIsListed: not what is being made, nor what is being deleted.
func TestOnlyWhatIsThereIsListed(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		twoVolumes(w)
		page := mustPage(w)
		s := w.snapshot("snap", page[0].ID)
		for _, e := range w.engines {
			e.down = true
		}
		wantKind(t, w.c.DeleteVolume(t.Context(), page[0].ID), fault.Transient)
		wantKind(t, w.c.DeleteSnapshot(t.Context(), w.c.Handle(s.ID)), fault.Transient)
		if got := mustPage(w); len(got) != 1 || got[0].ID != page[1].ID {
			t.Errorf("listed %+v, want %s alone", got, page[1].ID)
		}
		if got, _, err := w.c.Snapshots(t.Context(), "", 0); err != nil || len(got) > 0 {
			t.Errorf("listed %+v, %v; want nothing", got, err)
		}
		_, err := w.c.Volume(t.Context(), page[0].ID)
		wantKind(t, err, fault.NotFound, "being deleted")
		_, err = w.c.Snapshot(t.Context(), w.c.Handle(s.ID))
		wantKind(t, err, fault.NotFound, "being deleted")
		_, err = w.c.CreateVolume(t.Context(), thick(page[0].Name, mib))
		wantKind(t, err, fault.Busy, "being deleted")
	})
}

// TestCapacity sums over what suits and answers.
func TestCapacity(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		class := thick("", 0).Class
		want := func(topology Topology, gibs int64) {
			t.Helper()
			got, err := w.c.Capacity(t.Context(), class, topology)
			if err != nil || got.AvailableBytes != gibs*gib {
				t.Errorf("capacity %+v, %v; want %d GiB", got, err, gibs)
			}
		}
		want(Topology{}, 300)
		want(Topology{Requisite: []volume.NodeID{"n2"}}, 100)
		want(Topology{Requisite: []volume.NodeID{}}, 0)
		w.engines["n1"].down = true
		want(Topology{}, 200)
		must(t, Retire(t.Context(), w.repo, "n2", w.c.now()))
		want(Topology{}, 100)
		class.Pool = "slow"
		want(Topology{}, 0)
	})
}
