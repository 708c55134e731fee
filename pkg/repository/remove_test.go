package repository

import (
	"context"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestRemove(t *testing.T) {
	onEveryStore(t, func(t *testing.T, store objstore.Store) {
		r := openOn(t, store)
		v := newVolume(t, r)
		subject := string(v.Value.ID)
		must(t, r.Volumes.Remove(t.Context(), string(volume.NewID())))
		wantFault(t, "remove what lives", r.Volumes.Remove(t.Context(), subject), fault.Precondition, subject, "has not ended")
		grow(t, r, v.Value.ID, keptRevisions+3)
		must(t, endAndRemove(t, r, v.Value.ID))
		wantSlots(t, store, "volumes/")
		_, err := r.Volumes.Latest(t.Context(), subject)
		wantFault(t, "latest", err, fault.NotFound)
		page, next, err := r.Volumes.List(t.Context(), "", 0)
		if err != nil || len(page) > 0 || next != "" {
			t.Errorf("list: %v, %q, %v; want nothing", page, next, err)
		}
	})
}

func TestANameReturns(t *testing.T) {
	r := openOn(t, memory.New())
	for round := range 3 {
		_, err := r.VolumeNames.Append(t.Context(), "pvc", Revision[Name]{}, Name{Name: "pvc", ID: string(volume.NewID())})
		must(t, err)
		ended, err := r.VolumeNames.Update(t.Context(), "pvc", func(n Name) (Name, error) {
			n.Ended = true
			return n, nil
		})
		must(t, err)
		if ended.Number != 2 {
			t.Errorf("round %d: ended with revision %d, want 2", round, ended.Number)
		}
		must(t, r.VolumeNames.Remove(t.Context(), "pvc"))
	}
}

// TestStalledWriterMeetsARemoval: a writer sleeps just before it creates the next
// revision of a record, until that was removed, or is another life's.
func TestStalledWriterMeetsARemoval(t *testing.T) {
	for name, again := range map[string]bool{"removed": false, "removed and made again": true} {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			plain := openOn(t, store)
			v := newVolume(t, plain)
			v = grow(t, plain, v.Value.ID, 3)
			subject := string(v.Value.ID)
			stalled := through(t, store, func(real func() error) error {
				must(t, endAndRemove(t, plain, v.Value.ID))
				if again {
					_, err := plain.Volumes.Append(t.Context(), subject, Revision[Volume]{}, Volume{ID: v.Value.ID})
					must(t, err)
					grow(t, plain, v.Value.ID, 3)
				}
				return real()
			})
			_, err := stalled.Volumes.Append(t.Context(), subject, v, v.Value)
			wantFault(t, "append", err, fault.Busy)
			if again {
				wantSlots(t, store, "volumes/"+subject+"/records/", digits(1, 3)...)
			} else {
				wantSlots(t, store, "volumes/")
			}
		})
	}
}

// TestWriterWinsAgainstRemove: who takes an ended name just before its removal
// keeps it.
func TestWriterWinsAgainstRemove(t *testing.T) {
	store := memory.New()
	plain := openOn(t, store)
	_, err := plain.VolumeNames.Append(t.Context(), "pvc", Revision[Name]{}, Name{Name: "pvc", Ended: true})
	must(t, err)
	remover := through(t, store, func(real func() error) error {
		_, err := plain.VolumeNames.Update(t.Context(), "pvc", func(n Name) (Name, error) {
			n.Ended = false
			return n, nil
		})
		must(t, err)
		return real()
	})
	wantFault(t, "remove", remover.VolumeNames.Remove(t.Context(), "pvc"), fault.Busy)
	if n, err := plain.VolumeNames.Latest(t.Context(), "pvc"); err != nil || n.Number != 2 || n.Value.Ended {
		t.Errorf("latest: %+v, %v; want the name taken", n, err)
	}
}

// stopping is a store whose process dies after some deletions.
type stopping struct {
	objstore.Store
	left int
}

func (s *stopping) Delete(ctx context.Context, keys ...string) error {
	if s.left--; s.left < 0 {
		return fault.New(fault.Transient, "stopped")
	}
	return s.Store.Delete(ctx, keys...)
}

// TestInterruptedRemoval stops a removal at each deletion: the subject stays
// NotFound and cannot be made again yet; later, a List or the next first Append
// finishes it.
func TestInterruptedRemoval(t *testing.T) {
	for _, finish := range []string{"list", "append", "remove"} {
		for left := range 5 {
			clock := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			store := memory.New()
			r := openAt(t, store, &clock)
			v := newVolume(t, r)
			subject := string(v.Value.ID)
			grow(t, r, v.Value.ID, 3)
			err := endAndRemove(t, openAt(t, &stopping{store, left}, &clock), v.Value.ID)
			wantFault(t, "remove", err, fault.Transient, "stopped")
			_, err = r.Volumes.Latest(t.Context(), subject)
			wantFault(t, "latest", err, fault.NotFound)
			_, err = r.Volumes.Append(t.Context(), subject, Revision[Volume]{}, v.Value)
			wantFault(t, "append", err, fault.Busy, "being removed")
			must(t, r.Volumes.Remove(t.Context(), subject))
			if page, _, err := r.Volumes.List(t.Context(), "", 0); err != nil || len(page) > 0 {
				t.Errorf("list: %v, %v; want nothing", page, err)
			}
			clock = clock.Add(takeoverAge)
			switch finish {
			case "list":
				_, _, err = r.Volumes.List(t.Context(), "", 0)
				must(t, err)
				wantSlots(t, store, "volumes/")
			case "remove":
				must(t, r.Volumes.Remove(t.Context(), subject))
				wantSlots(t, store, "volumes/")
			case "append":
				_, err = r.Volumes.Append(t.Context(), subject, Revision[Volume]{}, v.Value)
				must(t, err)
				wantSlots(t, store, "volumes/"+subject+"/records/", digits(1, 1)...)
			}
		}
	}
}

func TestDeletionsAreBounded(t *testing.T) {
	store := memory.New()
	r := openOn(t, deadlines{store, t})
	v := newVolume(t, r)
	grow(t, r, v.Value.ID, 2*keptRevisions)
	must(t, endAndRemove(t, r, v.Value.ID))
}

// deadlines sees that whoever deletes stops in time.
type deadlines struct {
	objstore.Store
	t *testing.T
}

func (s deadlines) Delete(ctx context.Context, keys ...string) error {
	if deadline, ok := ctx.Deadline(); !ok || time.Until(deadline) > removalBound {
		s.t.Errorf("delete %q until %v (%v), want at most %v from now", keys, deadline, ok, removalBound)
	}
	return s.Store.Delete(ctx, keys...)
}
