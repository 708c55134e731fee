package repository

import (
	"context"
	"fmt"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

// hooked is a store whose Create goes through the test.
type hooked struct {
	objstore.Store
	create func(ctx context.Context, key string, body []byte) error
}

func (h hooked) Create(ctx context.Context, key string, body []byte) error {
	return h.create(ctx, key, body)
}

// once calls before instead of the n-th Create, with what that would do.
func once(store objstore.Store, n int, instead func(real func() error) error) objstore.Store {
	calls := 0
	return hooked{store, func(ctx context.Context, key string, body []byte) error {
		if calls++; calls == n {
			return instead(func() error { return store.Create(ctx, key, body) })
		}
		return store.Create(ctx, key, body)
	}}
}

var errLost = fault.New(fault.Transient, "the reply was lost")

// through opens the repository that store holds through a hook on the next Create.
func through(t *testing.T, store objstore.Store, instead func(real func() error) error) *Repository {
	t.Helper()
	return openOn(t, once(store, 1, instead))
}

func TestLostRepliesAreRecognised(t *testing.T) {
	for name, instead := range map[string]func(real func() error) error{
		"made, reply lost": func(real func() error) error {
			if err := real(); err != nil {
				return err
			}
			return errLost
		},
		"not made": func(func() error) error { return errLost },
	} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			v := newVolume(t, openOn(t, store))
			got, err := through(t, store, instead).Volumes.Update(t.Context(), string(v.Value.ID), increment)
			must(t, err)
			if got.Number != 2 || got.Value.SizeBytes != 1 {
				t.Errorf("got %+v, want one increment in revision 2", got)
			}
			first := volume.NewID()
			made, err := through(t, store, instead).Volumes.Append(t.Context(), string(first), Revision[Volume]{}, Volume{ID: first})
			if err != nil || made.Number != 1 {
				t.Errorf("first revision: %+v, %v", made, err)
			}
		})
	}
}

func TestLostReplyBehindAWinnerIsBusy(t *testing.T) {
	store := memory.New()
	plain := openOn(t, store)
	v := newVolume(t, plain)
	other := through(t, store, func(func() error) error {
		grow(t, plain, v.Value.ID, 2)
		return errLost
	})
	_, err := other.Volumes.Append(t.Context(), string(v.Value.ID), v, v.Value)
	wantFault(t, "append", err, fault.Busy)
}

func TestOutageIsTransientWithinBounds(t *testing.T) {
	store := memory.New()
	v := newVolume(t, openOn(t, store))
	calls := 0
	down := openOn(t, hooked{store, func(context.Context, string, []byte) error {
		calls++
		return errLost
	}})
	_, err := down.Volumes.Update(t.Context(), string(v.Value.ID), increment)
	wantFault(t, "update", err, fault.Transient, string(v.Value.ID))
	if calls != tries {
		t.Errorf("%d tries, want %d", calls, tries)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	calls = 0
	stopped := openOn(t, hooked{store, func(context.Context, string, []byte) error {
		calls++
		cancel()
		return errLost
	}})
	_, err = stopped.Volumes.Append(ctx, string(v.Value.ID), v, v.Value)
	wantFault(t, "append until its context ends", err, fault.Transient)
	if calls != 1 {
		t.Errorf("%d tries after the context ended, want none", calls-1)
	}
}

// TestStalledWriterCannotWinACleanedSlot: a writer sleeps just before it creates
// revision 2, until 2 was written by another and cleaned away again.
func TestStalledWriterCannotWinACleanedSlot(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store objstore.Store) {
		plain := openOn(t, store)
		v := newVolume(t, plain)
		stalled := through(t, store, func(real func() error) error {
			grow(t, plain, v.Value.ID, 2*keptRevisions)
			return real()
		})
		value, _ := increment(v.Value)
		_, err := stalled.Volumes.Append(t.Context(), string(v.Value.ID), v, value)
		wantFault(t, "append", err, fault.Busy)
		wantSlots(t, store, "volumes/"+string(v.Value.ID)+"/records/", digits(keptRevisions+1, 2*keptRevisions)...)
		latest, err := plain.Volumes.Latest(t.Context(), string(v.Value.ID))
		if err != nil || latest.Number != 2*keptRevisions || latest.Value.SizeBytes != 2*keptRevisions-1 {
			t.Errorf("latest: %+v, %v; want the others' work as it was", latest, err)
		}
	})
}

// TestLostReplyThenCleaned: the writer's own revision was made, its reply lost,
// and so many followed it that it was cleaned away before the writer looked. That
// it was lost must not be said, or an update would be made twice.
func TestLostReplyThenCleaned(t *testing.T) {
	store := memory.New()
	plain := openOn(t, store)
	v := newVolume(t, plain)
	slow := through(t, store, func(real func() error) error {
		must(t, real())
		grow(t, plain, v.Value.ID, 2*keptRevisions)
		return errLost
	})
	_, err := slow.Volumes.Append(t.Context(), string(v.Value.ID), v, v.Value)
	wantFault(t, "append", err, fault.Transient, "unknown")
	wantSlots(t, store, "volumes/"+string(v.Value.ID)+"/records/", digits(keptRevisions+1, 2*keptRevisions)...)
}

// TestSlowWriterKeepsWhatWasBuiltUpon: others followed this writer's revision
// before it could look for its predecessor, which was cleaned away since.
func TestSlowWriterKeepsWhatWasBuiltUpon(t *testing.T) {
	for _, number := range []int64{keptRevisions - 1, keptRevisions, keptRevisions + 1} {
		t.Run(fmt.Sprint(number), func(t *testing.T) {
			store := memory.New()
			plain := openOn(t, store)
			v := grow(t, plain, newVolume(t, plain).Value.ID, number-1)
			slow := through(t, store, func(real func() error) error {
				must(t, real())
				grow(t, plain, v.Value.ID, 2*keptRevisions)
				return nil
			})
			_, err := slow.Volumes.Append(t.Context(), string(v.Value.ID), v, v.Value)
			if number >= keptRevisions { // its successor, at least, is still there
				must(t, err)
			} else {
				wantFault(t, "append", err, fault.Transient, "unknown")
			}
		})
	}
}

func TestStalledFirstWriter(t *testing.T) {
	store := memory.New()
	plain := openOn(t, store)
	id := volume.NewID()
	stalled := through(t, store, func(real func() error) error {
		_, err := plain.Volumes.Append(t.Context(), string(id), Revision[Volume]{}, Volume{ID: id})
		must(t, err)
		grow(t, plain, id, 2*keptRevisions)
		return real()
	})
	_, err := stalled.Volumes.Append(t.Context(), string(id), Revision[Volume]{}, Volume{ID: id})
	wantFault(t, "append", err, fault.Transient, "unknown")
	latest, err := plain.Volumes.Latest(t.Context(), string(id))
	if err != nil || latest.Number != 2*keptRevisions {
		t.Errorf("latest: %+v, %v; want the others' work as it was", latest, err)
	}
	grow(t, plain, id, 3*keptRevisions)
	wantSlots(t, store, "volumes/"+string(id)+"/records/", digits(2*keptRevisions+1, 3*keptRevisions)...)
}

func TestReplyIsWhatIsStored(t *testing.T) {
	r := openOn(t, memory.New())
	id := volume.NewID()
	v := Volume{ID: id, Publications: []Publication{}, Created: r.Volumes.now().Local()}
	made, err := r.Volumes.Append(t.Context(), string(id), Revision[Volume]{}, v)
	must(t, err)
	read, err := r.Volumes.Latest(t.Context(), string(id))
	must(t, err)
	if fmt.Sprintf("%#v", made) != fmt.Sprintf("%#v", read) {
		t.Errorf("made %#v,\nread %#v", made, read)
	}
}
