package repository

import (
	"strings"
	"sync"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestOpenersAgreeOnOneRepository(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store objstore.Store) {
		ids := make([]volume.RepositoryID, 16)
		var all sync.WaitGroup
		for i := range ids {
			all.Go(func() {
				r, err := Open(t.Context(), store, Options{})
				if err != nil {
					t.Error(err)
					return
				}
				ids[i] = r.ID()
			})
		}
		all.Wait()
		for _, id := range ids {
			if _, err := volume.ParseRepositoryID(string(id)); err != nil || id != ids[0] {
				t.Errorf("id %q, want one for all, such as %q: %v", id, ids[0], err)
			}
		}
	})
}

func TestOpenRefusesADamagedRoot(t *testing.T) {
	sound := func(t *testing.T, store objstore.Store) []byte {
		openOn(t, store)
		object, err := store.Get(t.Context(), rootKey)
		must(t, err)
		return object
	}
	for name, row := range map[string]struct {
		damage func(object string) string
		kind   fault.Kind
		words  string
	}{
		"empty":         {func(string) string { return "" }, fault.Corrupt, "holkas.json"},
		"truncated":     {func(o string) string { return o[:len(o)-1] }, fault.Corrupt, "holkas.json"},
		"bit flipped":   {func(o string) string { return o[:60] + string(o[60]^4) + o[61:] }, fault.Corrupt, "want"},
		"later version": {func(o string) string { return strings.Replace(o, "holkas 1", "holkas 2", 1) }, fault.Unsupported, "format version 2: this Holkas reads up to 1"},
		"other kind":    {func(o string) string { return strings.Replace(o, " repository ", " volume ", 1) }, fault.Corrupt, "want"},
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			damaged := row.damage(string(sound(t, store)))
			must(t, store.Put(t.Context(), rootKey, []byte(damaged)))
			_, err := Open(t.Context(), store, Options{})
			wantFault(t, "open", err, row.kind, row.words)
		})
	}
}

func TestOpenNeverMakesARootBesideRecords(t *testing.T) {
	store := memory.New()
	r := openOn(t, store)
	id := volume.NewID()
	_, err := r.Volumes.Append(t.Context(), string(id), Revision[Volume]{}, Volume{ID: id})
	must(t, err)
	must(t, store.Delete(t.Context(), rootKey))
	_, err = Open(t.Context(), store, Options{})
	wantFault(t, "open", err, fault.Corrupt, `holkas.json: missing, though the store holds "volumes/"`)
	if _, err := store.Get(t.Context(), rootKey); !fault.Is(err, fault.NotFound) {
		t.Errorf("the root: %v, want it still missing", err)
	}
}

// TestOpenMustExist: no root is made where there must be one, and probes are
// nothing that stands in the way of one.
func TestOpenMustExist(t *testing.T) {
	store := memory.New()
	must(t, store.Create(t.Context(), ProbePrefix+"1-x/0", nil))
	_, err := Open(t.Context(), store, Options{MustExist: true})
	wantFault(t, "open", err, fault.NotFound, "holkas.json: missing, and the store is empty")
	r := openOn(t, store)
	again, err := Open(t.Context(), store, Options{MustExist: true})
	if err != nil || again.ID() != r.ID() {
		t.Errorf("got %v, want the repository that is there", err)
	}
}
