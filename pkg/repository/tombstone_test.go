package repository

import (
	"slices"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestTombstones(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store objstore.Store) {
		r := openOn(t, store)
		created := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
		v := Tombstone{Node: "node.1", Volume: volume.NewID(), Created: created}
		s := Tombstone{Node: "node.1", Snapshot: volume.NewSnapshotID(), Created: created}
		must(t, r.Bury(t.Context(), v))
		must(t, r.Bury(t.Context(), s))
		must(t, r.Bury(t.Context(), Tombstone{Node: "node.10", Volume: volume.NewID(), Created: created}))
		again := v
		again.Created = created.Add(time.Hour)
		must(t, r.Bury(t.Context(), again))
		found, err := r.Buried(t.Context(), "node.1")
		if err != nil || !slices.Equal(found, []Tombstone{s, v}) {
			t.Errorf("buried: %v, %v; want %v", found, err, []Tombstone{s, v})
		}
		for range 2 {
			must(t, r.Exhume(t.Context(), v))
		}
		if found, err = r.Buried(t.Context(), "node.1"); err != nil || !slices.Equal(found, []Tombstone{s}) {
			t.Errorf("buried: %v, %v; want %v alone", found, err, s)
		}
	})
}

func TestBadTombstones(t *testing.T) {
	store := memory.New()
	r := openOn(t, store)
	for _, bad := range []Tombstone{
		{},
		{Node: "../n", Volume: volume.NewID()},
		{Node: "n"},
		{Node: "n", Volume: "v-x"},
		{Node: "n", Volume: volume.NewID(), Snapshot: volume.NewSnapshotID()},
	} {
		wantFault(t, "bury", r.Bury(t.Context(), bad), fault.Invalid)
		wantFault(t, "exhume", r.Exhume(t.Context(), bad), fault.Invalid)
	}
	_, err := r.Buried(t.Context(), "")
	wantFault(t, "buried", err, fault.Invalid)
	good := Tombstone{Node: "n", Volume: volume.NewID()}
	must(t, r.Bury(t.Context(), good))
	key, err := good.key()
	must(t, err)
	object, err := store.Get(t.Context(), key)
	must(t, err)
	other := "retired/n/" + string(volume.NewID())
	must(t, store.Put(t.Context(), other, object))
	_, err = r.Buried(t.Context(), "n")
	wantFault(t, "buried, one misplaced", err, fault.Corrupt, other, "does not belong")
	must(t, store.Put(t.Context(), other, object[:20]))
	_, err = r.Buried(t.Context(), "n")
	wantFault(t, "buried, one truncated", err, fault.Corrupt, other)
}
