package controller

import (
	"reflect"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestAGroupsLife(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		twoVolumes(w)
		r := group(w)
		g, members, err := w.c.CreateGroup(t.Context(), r)
		must(t, err)
		wantHeld(t, w, g.ID)
		r.Volumes[0], r.Volumes[1] = r.Volumes[1], r.Volumes[0]
		again, sameMembers, err := w.c.CreateGroup(t.Context(), r)
		if err != nil || !reflect.DeepEqual(again, g) || !reflect.DeepEqual(sameMembers, members) {
			t.Errorf("again: %+v, %+v, %v; want the first reply", again, sameMembers, err)
		}
		less := r
		less.Volumes = r.Volumes[:1]
		_, _, err = w.c.CreateGroup(t.Context(), less)
		wantKind(t, err, fault.Exists, "source_volume_ids")
		other := r
		other.Consistency = volume.CrashConsistent
		_, _, err = w.c.CreateGroup(t.Context(), other)
		wantKind(t, err, fault.Exists, "consistency")
		for _, m := range members {
			wantKind(t, w.c.DeleteSnapshot(t.Context(), w.c.Handle(m.ID)), fault.Invalid, "part of group snapshot", w.c.GroupHandle(g.ID).String())
		}
		handle := w.c.GroupHandle(g.ID)
		wantKind(t, w.c.DeleteGroup(t.Context(), handle, []volume.Handle{w.c.Handle(members[0].ID)}), fault.Invalid, "snapshot_ids")
		_, _, err = w.c.Group(t.Context(), handle)
		must(t, err)
		for range 2 {
			must(t, w.c.DeleteGroup(t.Context(), handle, []volume.Handle{w.c.Handle(members[1].ID), w.c.Handle(members[0].ID)}))
		}
		_, _, err = w.c.Group(t.Context(), handle)
		wantKind(t, err, fault.NotFound)
		must(t, w.c.DeleteGroup(t.Context(), volume.GroupHandle{Repository: volume.NewRepositoryID(), Group: g.ID}, nil))
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestAGroupTwiceAtOnce: a second controller takes over a name whose cut is
// under way. The first one's pause ends in the middle, which is not to be told
// as a state of the volumes that forbids the snapshot.
func TestAGroupTwiceAtOnce(t *testing.T) {
	inWorld(t, 2, func(t *testing.T, w *world) {
		twoVolumes(w)
		w.engines["n2"].cutTime = 2 * time.Second
		first := make(chan error, 1)
		go func() {
			_, _, err := w.c.CreateGroup(t.Context(), group(w))
			first <- err
		}()
		time.Sleep(time.Second) // the first one is cutting
		second := w.controller(immortal())
		g, _, err := second.CreateGroup(t.Context(), group(w))
		must(t, err)
		wantKind(t, <-first, fault.Busy, "undone by another")
		wantHeld(t, w, g.ID)
		w.sweepAll()
		w.clean("in the end")
	})
}

// TestAGroupThatCannotBe: whatever keeps one member from being cut at the one
// moment, no member stays, writers go on, and the name is free.
func TestAGroupThatCannotBe(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(w *world)
		kind  fault.Kind
		says  string
	}{
		"a raw block volume is published": {func(w *world) {
			for _, v := range mustPage(w) {
				w.engines["n2"].rigid[v.ID] = true
			}
		}, fault.Precondition, "cannot be paused"},
		"the pause lapses":  {func(w *world) { w.engines["n2"].cutTime = backend.PauseLimit }, fault.Transient, ""},
		"a cut is refused":  {func(w *world) { w.engines["n2"].cutFault = fault.New(fault.Exhausted, "no room") }, fault.Exhausted, "no room"},
		"a node is retired": {func(w *world) { must(w.t, Retire(w.t.Context(), w.repo, "n2", w.c.now())) }, fault.Precondition, "retired"},
	} {
		t.Run(name, func(t *testing.T) {
			inWorld(t, 2, func(t *testing.T, w *world) {
				twoVolumes(w)
				row.spoil(w)
				_, _, err := w.c.CreateGroup(t.Context(), group(w))
				wantKind(t, err, row.kind, row.says)
				for id, e := range w.engines {
					if got := e.snapshotIDs(); len(got) > 0 {
						t.Errorf("node %s has snapshots %v, want none", id, got)
					}
					for pause := range e.pauses {
						if e.holds(pause) {
							t.Errorf("node %s still holds pause %s", id, pause)
						}
					}
				}
				if got, _, err := w.c.Snapshots(t.Context(), "", 0); err != nil || len(got) > 0 {
					t.Errorf("listed %+v, %v; want nothing", got, err)
				}
				e := w.engines["n2"]
				e.cutTime, e.cutFault, e.rigid = 0, nil, map[volume.ID]bool{}
				w.announceAgain("n2")
				g, _, err := w.c.CreateGroup(t.Context(), group(w))
				must(t, err)
				wantHeld(t, w, g.ID)
				w.sweepAll()
				w.clean("in the end")
			})
		})
	}
}
