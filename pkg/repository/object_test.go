package repository

import (
	"context"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestPermanentRecords: the first revision is created by one request, once and for
// all, however many follow it and are cleaned away; and nothing is removed.
func TestPermanentRecords(t *testing.T) {
	store := memory.New()
	r := openOn(t, store)
	id := string(volume.NewID())
	requests := 0
	l := r.ObjectVolumes
	l.store = counted{store, &requests}
	first, err := l.Append(t.Context(), id, Revision[ObjectVolume]{}, ObjectVolume{ID: volume.ID(id), State: Creating})
	must(t, err)
	if requests != 1 {
		t.Errorf("%d requests for a first revision, want 1", requests)
	}
	last := first
	for i := range 3 * keptRevisions {
		last, err = r.ObjectVolumes.Append(t.Context(), id, last, ObjectVolume{ID: volume.ID(id), State: Ready, SizeBytes: int64(i)})
		must(t, err)
	}
	if _, err := l.Append(t.Context(), id, Revision[ObjectVolume]{}, ObjectVolume{ID: volume.ID(id), State: Creating}); !fault.Is(err, fault.Busy) {
		t.Errorf("a second first revision: %v, want busy", err)
	}
	if got, err := r.ObjectVolumes.Latest(t.Context(), id); err != nil || got.Number != last.Number || got.Value.SizeBytes != last.Value.SizeBytes {
		t.Errorf("latest: %+v, %v, want %+v", got, err, last)
	}
	numbers, err := r.ObjectVolumes.numbers(t.Context(), id)
	if err != nil || numbers[0] != 1 || len(numbers) > 2*keptRevisions+1 {
		t.Errorf("revisions %v, %v, want the first and the last %d or so", numbers, err, keptRevisions)
	}
	if err := r.ObjectVolumes.Remove(t.Context(), id); !fault.Is(err, fault.Precondition) {
		t.Errorf("remove: %v, want precondition", err)
	}
}

// counted counts requests of every kind.
type counted struct {
	objstore.Store
	n *int
}

func (c counted) Create(ctx context.Context, key string, body []byte) error {
	*c.n++
	return c.Store.Create(ctx, key, body)
}

func (c counted) Get(ctx context.Context, key string) ([]byte, error) {
	*c.n++
	return c.Store.Get(ctx, key)
}

func (c counted) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	*c.n++
	return c.Store.List(ctx, o)
}
