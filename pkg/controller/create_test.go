package controller

import (
	"fmt"
	"reflect"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestARepeatedCreateIsCompared repeats a create with a difference: either the
// reply is the very same, or the difference is named and nothing happens.
func TestARepeatedCreateIsCompared(t *testing.T) {
	inWorld(t, 3, func(t *testing.T, w *world) {
		origin := w.volume(thick("origin", mib))
		first := thick("one", 4*mib)
		first.Request.Range.LimitBytes = 8 * mib
		first.Request.Parameters = map[string]string{"pool": "fast", "csi.storage.k8s.io/pvc/name": "a"}
		first.Request.Mutable = map[string]string{"maxSnapshotPause": "1s"}
		first.Topology = Topology{Requisite: []volume.NodeID{"n1", "n2"}, Preferred: []volume.NodeID{"n2", "n1"}}
		made := w.volume(first)
		if made.Node != "n2" || made.SizeBytes != 4*mib {
			t.Fatalf("made %+v, want 4 MiB on n2", made)
		}
		for name, row := range map[string]struct {
			change func(r *CreateVolumeRequest)
			says   string // of the difference; empty: there is none that counts
		}{
			"nothing":                      {func(*CreateVolumeRequest) {}, ""},
			"the sidecars' parameters":     {func(r *CreateVolumeRequest) { r.Request.Parameters = map[string]string{"pool": "fast"} }, ""},
			"the order of the topology":    {func(r *CreateVolumeRequest) { r.Topology.Preferred = []volume.NodeID{"n1", "n2"} }, ""},
			"no topology":                  {func(r *CreateVolumeRequest) { r.Topology = Topology{} }, ""},
			"a range that holds its size":  {func(r *CreateVolumeRequest) { r.Request.Range = volume.Range{RequiredBytes: 3 * mib} }, ""},
			"secrets":                      {func(r *CreateVolumeRequest) { r.Secrets = volume.Secrets{"a": "b"} }, ""},
			"a range above its size":       {func(r *CreateVolumeRequest) { r.Request.Range = volume.Range{RequiredBytes: 5 * mib} }, "capacity_range"},
			"a range below its size":       {func(r *CreateVolumeRequest) { r.Request.Range = volume.Range{LimitBytes: 3 * mib} }, "capacity_range"},
			"a parameter's value":          {func(r *CreateVolumeRequest) { r.Request.Parameters = map[string]string{"pool": "slow"} }, "parameters"},
			"a parameter less":             {func(r *CreateVolumeRequest) { r.Request.Parameters = nil }, "parameters"},
			"a mutable parameter":          {func(r *CreateVolumeRequest) { r.Request.Mutable = nil }, "mutable_parameters"},
			"a source":                     {func(r *CreateVolumeRequest) { r.Request.Source.Volume = origin.ID }, "volume_content_source"},
			"a topology that excludes it":  {func(r *CreateVolumeRequest) { r.Topology = Topology{Requisite: []volume.NodeID{"n3"}} }, "accessibility_requirements"},
			"a topology that has no nodes": {func(r *CreateVolumeRequest) { r.Topology = Topology{Requisite: []volume.NodeID{}} }, "accessibility_requirements"},
		} {
			again := first
			row.change(&again)
			got, err := w.c.CreateVolume(t.Context(), again)
			if row.says == "" {
				if err != nil || !reflect.DeepEqual(got, made) {
					t.Errorf("%s: got %+v, %v; want the first reply %+v", name, got, err, made)
				}
			} else if !fault.Is(err, fault.Exists) || !contains(err.Error(), row.says) {
				t.Errorf("%s: got %v, want Exists with %q", name, err, row.says)
			}
		}
		w.clean("in the end")
	})
}

func TestANameReturnsAfterItsDeletion(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		seen := map[volume.ID]bool{}
		for round := range 3 {
			v := w.volume(thick("one", int64(1+round)*mib)) // another size each time
			s := w.snapshot("snap", v.ID)
			if seen[v.ID] || v.SizeBytes != int64(1+round)*mib {
				t.Errorf("round %d: %+v, want a new one", round, v)
			}
			seen[v.ID] = true
			must(t, w.c.DeleteSnapshot(t.Context(), w.c.Handle(s.ID)))
			for range 2 {
				must(t, w.c.DeleteVolume(t.Context(), v.ID))
			}
			_, err := w.c.Volume(t.Context(), v.ID)
			wantKind(t, err, fault.NotFound, string(v.ID))
		}
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestFullNodes: the next node is tried, as long as there is one; what the full
// ones were asked for is undone on them.
func TestFullNodes(t *testing.T) {
	const nodes = creationRounds + 6
	inWorld(t, nodes, func(t *testing.T, w *world) {
		for id, e := range w.engines {
			if id != "n7" {
				e.capacity = 4096
			}
		}
		r := thick("one", mib)
		for i := range nodes {
			r.Topology.Preferred = append(r.Topology.Preferred, volume.NodeID(fmt.Sprintf("n%d", 1+i)))
		}
		if v := w.volume(r); v.Node != "n7" {
			t.Errorf("made on %s, want n7, which has room", v.Node)
		}
		r.Name = "two"
		r.Topology.Requisite = []volume.NodeID{"n1", "n2"}
		_, err := w.c.CreateVolume(t.Context(), r)
		wantKind(t, err, fault.Exhausted, "n1", "n2")
		w.engines["n7"].capacity = 4096
		r.Name, r.Topology.Requisite = "three", nil
		_, err = w.c.CreateVolume(t.Context(), r)
		wantKind(t, err, fault.Exhausted, "no suitable node has room", "more")
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestNodesThatAreDown: nothing is begun on a node that does not answer.
func TestNodesThatAreDown(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		w.engines["n1"].down = true
		r := thick("one", mib)
		r.Topology.Preferred = []volume.NodeID{"n1"}
		if v := w.volume(r); v.Node != "n2" {
			t.Errorf("made on %s, want n2", v.Node)
		}
		w.engines["n2"].down = true
		_, err := w.c.CreateVolume(t.Context(), thick("two", mib))
		wantKind(t, err, fault.Transient, "n1", "n2")
		_, err = w.repo.VolumeNames.Latest(t.Context(), "two")
		wantKind(t, err, fault.NotFound)
	})
}

func TestUnsuitableNodes(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		_, err := w.c.CreateVolume(t.Context(), thick("one", mib))
		wantKind(t, err, fault.Exhausted, "no node has announced itself")
	})
	inWorld(t, 20, func(t *testing.T, w *world) {
		must(t, Retire(t.Context(), w.repo, "n3", w.c.now()))
		for pool, says := range map[string]string{"slow": `no pool with pool="slow"`, "": "retired"} {
			r := thick("one", mib)
			r.Class.Pool = pool
			if pool == "" {
				r.Topology.Requisite = []volume.NodeID{"n3"}
			}
			_, err := w.c.CreateVolume(t.Context(), r)
			wantKind(t, err, fault.Exhausted, says)
		}
		r := thick("one", mib)
		r.Class.PoolType = volume.BtrfsPool
		_, err := w.c.CreateVolume(t.Context(), r)
		wantKind(t, err, fault.Exhausted, `poolType="btrfs"`)
	})
}

// TestSources: a clone is made where its source is, and only there.
func TestSources(t *testing.T) {
	inWorld(t, 20, func(t *testing.T, w *world) {
		r := thick("origin", 2*mib)
		r.Topology.Requisite = []volume.NodeID{"n5"}
		origin := w.volume(r)
		snapshot := w.snapshot("snap", origin.ID)
		for name, source := range map[string]repository.Source{
			"volume": {Volume: origin.ID}, "snapshot": {Snapshot: w.c.Handle(snapshot.ID).String()},
		} {
			clone := func(size int64, nodes ...volume.NodeID) CreateVolumeRequest {
				r := thick(fmt.Sprint("clone of ", name, size, nodes), size)
				r.Request.Source, r.Topology.Requisite = source, nodes
				return r
			}
			for asked, want := range map[int64]int64{0: 2 * mib, 2 * mib: 2 * mib, 3*mib + 1: 3*mib + 4096} {
				if v := w.volume(clone(asked)); v.Node != "n5" || v.SizeBytes != want {
					t.Errorf("%s of %d bytes: %+v, want %d on n5", name, asked, v, want)
				}
			}
			_, err := w.c.CreateVolume(t.Context(), clone(mib))
			wantKind(t, err, fault.OutOfRange, "required_bytes", "2097152")
			limited := clone(0)
			limited.Name, limited.Request.Range.LimitBytes = "limited "+name, mib
			_, err = w.c.CreateVolume(t.Context(), limited)
			wantKind(t, err, fault.OutOfRange, "limit_bytes", "2097152")
			_, err = w.c.CreateVolume(t.Context(), clone(2*mib, "n1", "n2"))
			wantKind(t, err, fault.Exhausted, `node "n5"`, "topology")
			must(t, Retire(t.Context(), w.repo, "n5", w.c.now()))
			_, err = w.c.CreateVolume(t.Context(), clone(4*mib))
			wantKind(t, err, fault.Exhausted, `node "n5": it was retired`)
			w.announce(repository.Node{ID: "n5"})
		}
		for name, source := range map[string]repository.Source{
			"no such volume": {Volume: volume.NewID()}, "no such snapshot": {Snapshot: w.c.Handle(volume.NewSnapshotID()).String()},
			"another repository": {Snapshot: volume.Handle{Repository: volume.NewRepositoryID(), Snapshot: snapshot.ID}.String()},
			"no handle":          {Snapshot: "../x"},
		} {
			r := thick(name, mib)
			r.Request.Source = source
			_, err := w.c.CreateVolume(t.Context(), r)
			wantKind(t, err, fault.NotFound)
		}
		w.clean("in the end")
	})
}

// TestASourceThatIsGone: an intent whose source was deleted is undone, so that
// its name is free.
func TestASourceThatIsGone(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		origin := w.volume(thick("origin", mib))
		r := thick("clone", mib)
		r.Request.Source.Volume = origin.ID
		p := mortal(2) // it dies when the intent is stored
		_, err := w.controller(p).CreateVolume(t.Context(), r)
		if _, stored := w.repo.VolumeNames.Latest(t.Context(), "clone"); stored != nil || !p.died() {
			t.Fatalf("intent: %v, died: %t, %v", stored, p.died(), err)
		}
		must(t, w.c.DeleteVolume(t.Context(), origin.ID))
		_, err = w.c.CreateVolume(t.Context(), r)
		wantKind(t, err, fault.NotFound, string(origin.ID))
		w.volume(thick("clone", mib))
		w.sweepAll()
		w.clean("in the end")
	})
}
