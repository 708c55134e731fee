package controller

import (
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestMissingRecords loses the record of a volume, a snapshot and a group whose
// creators had their answers: what the engines have of them is never taken for
// the rest of a creation that nobody repeats.
func TestMissingRecords(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		ctx := t.Context()
		v := w.volume(thick("volume", mib))
		s := w.snapshot("snapshot", v.ID)
		request := CreateGroupRequest{Name: "group", Consistency: volume.FilesystemConsistent, Volumes: []volume.ID{v.ID}}
		g, _, err := w.c.CreateGroup(ctx, request)
		must(t, err)
		snapshots := len(w.engines["n1"].snapshotIDs())
		for _, base := range []string{"volumes/" + string(v.ID), "snapshots/" + string(s.ID), "groups/" + string(g.ID)} {
			page, err := w.store.List(ctx, objstore.ListOptions{Prefix: base + "/"})
			must(t, err)
			for _, o := range page.Objects {
				must(t, w.store.Delete(ctx, o.Key))
			}
		}
		_, err = w.c.CreateVolume(ctx, thick("volume", mib))
		wantKind(t, err, fault.Corrupt, string(v.ID), "missing")
		_, err = w.c.CreateSnapshot(ctx, CreateSnapshotRequest{Name: "snapshot", Volume: v.ID, Consistency: volume.FilesystemConsistent})
		wantKind(t, err, fault.Corrupt, string(s.ID), "missing")
		_, _, err = w.c.CreateGroup(ctx, request)
		wantKind(t, err, fault.Corrupt, string(g.ID), "missing")
		for range 3 {
			time.Sleep(25 * time.Hour)
			wantKind(t, w.c.Sweep(ctx), fault.Corrupt, string(v.ID), string(s.ID), string(g.ID))
		}
		if e := w.engines["n1"]; len(e.volumeIDs()) != 1 || len(e.snapshotIDs()) != snapshots {
			t.Errorf("the engine was left with volumes %v and snapshots %v", e.volumeIDs(), e.snapshotIDs())
		}
	})
}
