package controller

import (
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func (w *world) exhume(node volume.NodeID) error {
	return Exhume(w.t.Context(), w.repo, node, map[string]backend.Backend{volume.BackendLocal: w.engines[node], volume.BackendObject: w.fronts[node]})
}

// TestARetiredNode: what is deleted while it is gone is deleted when it comes
// back, and not before; what is in use there by then, when it is not any more.
func TestARetiredNode(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		e := w.engines["n1"]
		idle, used, kept := w.volume(thick("idle", mib)), w.volume(thick("used", mib)), w.volume(thick("kept", mib))
		s := w.snapshot("snap", kept.ID)
		g, _, err := w.c.CreateGroup(t.Context(), CreateGroupRequest{Name: "group", Volumes: []volume.ID{kept.ID, idle.ID}})
		must(t, err)
		_, err = w.c.Publish(t.Context(), PublishRequest{used.ID, repository.Publication{Node: "n1", AccessMode: "SINGLE_NODE_WRITER"}})
		must(t, err)
		e.down = true
		deletions := func() []error {
			return []error{
				w.c.DeleteVolume(t.Context(), idle.ID), w.c.DeleteVolume(t.Context(), used.ID),
				w.c.DeleteSnapshot(t.Context(), w.c.Handle(s.ID)), w.c.DeleteGroup(t.Context(), w.c.GroupHandle(g.ID), nil),
			}
		}
		must(t, w.c.Unpublish(t.Context(), used.ID, "n1")) // no node is needed for it
		for i, err := range deletions() {
			if !fault.Is(err, fault.Transient) {
				t.Errorf("deletion %d while the node is down: got %v, want Transient", i, err)
			}
		}
		must(t, Retire(t.Context(), w.repo, "n1", w.c.now()))
		for range 2 {
			for i, err := range deletions() {
				if err != nil {
					t.Errorf("deletion %d while the node is retired: %v", i, err)
				}
			}
		}
		if buried, err := w.repo.Buried(t.Context(), "n1"); err != nil || len(buried) != 5 {
			t.Errorf("buried %v, %v; want two volumes and three snapshots", buried, err)
		}
		must(t, w.c.Sweep(t.Context())) // does not reach for it
		_, err = w.c.CreateSnapshot(t.Context(), CreateSnapshotRequest{Name: "new", Volume: kept.ID})
		wantKind(t, err, fault.Precondition, "retired")

		e.down, e.attached[used.ID] = false, true
		must(t, w.exhume("n1"))
		w.announce(repository.Node{ID: "n1"})
		if got := e.volumeIDs(); len(got) != 2 || len(e.snapshotIDs()) != 0 {
			t.Errorf("the node has volumes %v and snapshots %v, want those in use and kept", got, e.snapshotIDs())
		}
		if err := w.c.Sweep(t.Context()); !fault.Is(err, fault.InUse) {
			t.Errorf("sweep: got %v, want it to say what is in use", err)
		}
		delete(e.attached, used.ID)
		w.sweepAll()
		w.clean("in the end")
		if buried, err := w.repo.Buried(t.Context(), "n1"); err != nil || len(buried) > 0 {
			t.Errorf("buried %v, %v; want none left", buried, err)
		}
	})
}

// TestTombstonesAreExecutedOneByOne: one that fails keeps none of the others.
func TestTombstonesAreExecutedOneByOne(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		a, b := w.volume(thick("a", mib)), w.volume(thick("b", mib))
		must(t, Retire(t.Context(), w.repo, "n1", w.c.now()))
		must(t, w.c.DeleteVolume(t.Context(), a.ID))
		must(t, w.c.DeleteVolume(t.Context(), b.ID))
		bad := "retired/n1/" + string(volume.NewID())
		must(t, w.store.Put(t.Context(), bad, []byte("torn")))
		wantKind(t, w.exhume("n1"), fault.Corrupt, bad)
		must(t, w.store.Delete(t.Context(), bad))
		first := min(a.ID, b.ID)
		w.engines["n1"].attached[first] = true
		must(t, w.exhume("n1"))
		if got := w.engines["n1"].volumeIDs(); len(got) != 1 || got[0] != first {
			t.Errorf("the node has %v, want the attached %s alone", got, first)
		}
	})
}

// TestADirectoryServesOneMachine: a second machine is refused for as long as the
// first has a node that the operator did not retire.
func TestADirectoryServesOneMachine(t *testing.T) {
	inWorld(t, 0, func(t *testing.T, w *world) {
		announce := func(id volume.NodeID, machine string) error {
			return Announce(t.Context(), w.repo, repository.Node{ID: id, Machine: machine, Changed: w.c.now()}, true)
		}
		must(t, announce("a", "m1"))
		must(t, announce("b", "m1"))
		wantKind(t, announce("c", "m2"), fault.Precondition, `node "a"`, "m2")
		if _, err := w.repo.Nodes.Latest(t.Context(), "c"); !fault.Is(err, fault.NotFound) {
			t.Errorf("node c: %v, want no record", err)
		}
		must(t, announce("a", "m1"))
		must(t, Retire(t.Context(), w.repo, "a", w.c.now()))
		wantKind(t, announce("c", "m2"), fault.Precondition, `node "b"`)
		must(t, Retire(t.Context(), w.repo, "b", w.c.now()))
		must(t, announce("c", "m2"))
		wantKind(t, announce("a", "m1"), fault.Precondition, `node "c"`)
		wantKind(t, Retire(t.Context(), w.repo, "nowhere", w.c.now()), fault.NotFound)
		wantKind(t, announce("../x", "m2"), fault.Invalid)
		// The boot id of a machine is another one after each start.
		must(t, announce("c", "m3"))
	})
}

// TestAnnouncingWritesOnlyNews: a node that says what it said before leaves the
// repository alone.
func TestAnnouncingWritesOnlyNews(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		revision := func() int64 {
			n, err := w.repo.Nodes.Latest(t.Context(), "n1")
			must(t, err)
			return n.Number
		}
		first := revision()
		w.announce(repository.Node{ID: "n1"})
		if got := revision(); got != first {
			t.Errorf("revision %d after the same words, want %d", got, first)
		}
		w.announce(repository.Node{ID: "n1", MaxVolumes: 7})
		if got := revision(); got != first+1 {
			t.Errorf("revision %d after news, want %d", got, first+1)
		}
	})
}
