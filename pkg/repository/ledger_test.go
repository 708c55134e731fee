package repository

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

// newVolume appends the first revision of a new volume.
func newVolume(t *testing.T, r *Repository) Revision[Volume] {
	t.Helper()
	id := volume.NewID()
	v, err := r.Volumes.Append(t.Context(), string(id), Revision[Volume]{}, Volume{ID: id, State: Ready})
	must(t, err)
	return v
}

func increment(v Volume) (Volume, error) {
	v.SizeBytes++
	return v, nil
}

// grow appends increments until a volume's record has a revision.
func grow(t *testing.T, r *Repository, id volume.ID, number int64) Revision[Volume] {
	t.Helper()
	for {
		v, err := r.Volumes.Latest(t.Context(), string(id))
		must(t, err)
		if v.Number >= number {
			return v
		}
		_, err = r.Volumes.Update(t.Context(), string(id), increment)
		must(t, err)
	}
}

func TestOneFirstWriterWins(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store objstore.Store) {
		r := openOn(t, store)
		for round := range 5 {
			name := fmt.Sprintf("pvc-%d", round)
			var won atomic.Value
			var wins atomic.Int64
			var all sync.WaitGroup
			for range 16 {
				all.Go(func() {
					n, err := r.VolumeNames.Append(t.Context(), name, Revision[Name]{}, Name{Name: name, ID: string(volume.NewID())})
					if err == nil {
						wins.Add(1)
						won.Store(n.Value.ID)
					} else if !fault.Is(err, fault.Busy) {
						t.Errorf("append: %v, want nil or Busy", err)
					}
				})
			}
			all.Wait()
			latest, err := r.VolumeNames.Latest(t.Context(), name)
			if wins.Load() != 1 || err != nil || latest.Number != 1 || latest.Value.ID != won.Load() {
				t.Fatalf("%d winners, latest %+v, %v; want one, and its revision 1", wins.Load(), latest, err)
			}
		}
	})
}

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store objstore.Store) {
		r := openOn(t, store)
		v := newVolume(t, r)
		const writers, each = 8, 10
		var all sync.WaitGroup
		for range writers {
			all.Go(func() {
				for range each {
					if _, err := r.Volumes.Update(t.Context(), string(v.Value.ID), increment); err != nil {
						t.Error(err)
					}
				}
			})
		}
		all.Wait()
		got, err := r.Volumes.Latest(t.Context(), string(v.Value.ID))
		must(t, err)
		if got.Value.SizeBytes != writers*each || got.Number != 1+writers*each {
			t.Errorf("got %d increments in %d revisions, want %d", got.Value.SizeBytes, got.Number, writers*each)
		}
	})
}

func TestUpdate(t *testing.T) {
	r := openOn(t, memory.New())
	v := newVolume(t, r)
	subject := string(v.Value.ID)
	same, err := r.Volumes.Update(t.Context(), subject, func(v Volume) (Volume, error) {
		v.Publications = []Publication{} // encodes as none does
		return v, nil
	})
	if err != nil || same.Number != 1 {
		t.Errorf("an equal value: revision %d, %v; want nothing written", same.Number, err)
	}
	refused := errors.New("refused")
	if _, err := r.Volumes.Update(t.Context(), subject, func(v Volume) (Volume, error) { return v, refused }); !errors.Is(err, refused) || fault.KindOf(err) != fault.KindOf(refused) {
		t.Errorf("got %v, want the error as it is", err)
	}
	_, err = r.Volumes.Update(t.Context(), string(volume.NewID()), increment)
	wantFault(t, "update what does not exist", err, fault.NotFound, "no such record")

	// A change that works on the value's own map is seen as a change.
	set := func(value string) func(Volume) (Volume, error) {
		return func(v Volume) (Volume, error) {
			if v.Request.Parameters == nil {
				v.Request.Parameters = map[string]string{}
			}
			v.Request.Parameters["key"] = value
			return v, nil
		}
	}
	for number, value := range []string{"one", "two"} {
		got, err := r.Volumes.Update(t.Context(), subject, set(value))
		if err != nil || got.Number != int64(number+2) || got.Value.Request.Parameters["key"] != value {
			t.Errorf("set %q: got %+v, %v", value, got, err)
		}
	}
}

func TestAppendIsBusyBehindAnother(t *testing.T) {
	r := openOn(t, memory.New())
	first := newVolume(t, r)
	subject := string(first.Value.ID)
	_, err := r.Volumes.Append(t.Context(), subject, Revision[Volume]{}, first.Value)
	wantFault(t, "append a first revision again", err, fault.Busy, subject, "exists with revision 1")
	grow(t, r, first.Value.ID, 2)
	_, err = r.Volumes.Append(t.Context(), subject, first, first.Value)
	wantFault(t, "append behind an old revision", err, fault.Busy, subject, "revision 2 was taken by another")
}

func TestSubjectsAreChecked(t *testing.T) {
	r := openOn(t, memory.New())
	for _, subject := range []string{"", "v-short", "../volumes", "v-" + strings.Repeat("a", 25) + "/", "s-aaaaaaaaaaaaaaaaaaaaaaaaaa"} {
		_, err := r.Volumes.Latest(t.Context(), subject)
		wantFault(t, "latest of "+subject, err, fault.NotFound)
		_, err = r.Volumes.Append(t.Context(), subject, Revision[Volume]{}, Volume{})
		wantFault(t, "append to "+subject, err, fault.Invalid)
	}
	for _, subject := range []string{"", "\xff"} {
		_, err := r.VolumeNames.Append(t.Context(), subject, Revision[Name]{}, Name{})
		wantFault(t, "append a name", err, fault.Invalid, "name")
	}
	_, err := r.Nodes.Append(t.Context(), "../x", Revision[Node]{}, Node{})
	wantFault(t, "append a node", err, fault.Invalid, "node id")
	for _, subject := range []string{"../../etc", "a/b", strings.Repeat("n", 4000), "имя", "\x00", "."} {
		n, err := r.VolumeNames.Append(t.Context(), subject, Revision[Name]{}, Name{Name: subject})
		must(t, err)
		if n.Value.Name != subject {
			t.Errorf("name %q came back as %q", subject, n.Value.Name)
		}
	}
	_, err = r.Nodes.Append(t.Context(), "ip-10.0_0.example", Revision[Node]{}, Node{})
	must(t, err)
	_, err = r.Nodes.Append(t.Context(), "n", Revision[Node]{}, Node{Address: strings.Repeat("x", maxObjectBytes)})
	wantFault(t, "append more than a reader takes", err, fault.Invalid, "want at most 1048576")
}

func TestListPages(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store objstore.Store) {
		r := openOn(t, store)
		var want []volume.ID
		for range 11 {
			want = append(want, newVolume(t, r).Value.ID)
		}
		slices.Sort(want)
		grow(t, r, want[3], 40)
		var got []volume.ID
		after := ""
		for {
			page, next, err := r.Volumes.List(t.Context(), after, 3)
			must(t, err)
			for _, v := range page {
				got = append(got, v.Value.ID)
			}
			if next == "" {
				break
			}
			if len(page) > 3 || next != string(page[len(page)-1].Value.ID) {
				t.Errorf("a page of %d, next %q; want 3, and the last one's id", len(page), next)
			}
			after = next
			// The very record to go on from is deleted between the pages.
			must(t, endAndRemove(t, r, volume.ID(next)))
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

func TestListFailsOnWhatItCannotRead(t *testing.T) {
	store := memory.New()
	r := openOn(t, store)
	v := newVolume(t, r)
	newVolume(t, r)
	slot := "volumes/" + string(v.Value.ID) + "/records/0000000001"
	object, err := store.Get(t.Context(), slot)
	must(t, err)
	must(t, store.Put(t.Context(), slot, object[:len(object)/2]))
	_, _, err = r.Volumes.List(t.Context(), "", 0)
	wantFault(t, "list", err, fault.Corrupt, slot)
	must(t, store.Put(t.Context(), slot, object))
	must(t, store.Put(t.Context(), "volumes/stray", nil))
	_, _, err = r.Volumes.List(t.Context(), "", 0)
	wantFault(t, "list beside a stray object", err, fault.Corrupt, "volumes/stray")
	_, _, err = r.Nodes.List(t.Context(), "no/key", 0)
	must(t, err) // whatever it is, nothing follows it
	_, _, err = r.Nodes.List(t.Context(), "../", 0)
	wantFault(t, "list after a bad key", err, fault.Invalid)
}

func endAndRemove(t *testing.T, r *Repository, id volume.ID) error {
	t.Helper()
	_, err := r.Volumes.Update(t.Context(), string(id), func(v Volume) (Volume, error) {
		return Volume{ID: v.ID, State: Ended}, nil
	})
	must(t, err)
	return r.Volumes.Remove(t.Context(), string(id))
}
