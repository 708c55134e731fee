package repository_test

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestConcurrentUpdatesLoseNothing(t *testing.T) {
	repo, err := repository.Open(t.Context(), memory.New(), repository.Options{})
	if err != nil {
		t.Fatal(err)
	}
	id := volume.NewID()
	var winners atomic.Int64
	var group sync.WaitGroup
	for range 16 {
		group.Go(func() {
			if _, err := repo.Volumes.Append(t.Context(), string(id), repository.Revision[repository.Volume]{}, repository.Volume{ID: id}); err == nil {
				winners.Add(1)
			} else if !fault.Is(err, fault.Busy) {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if winners.Load() != 1 {
		t.Fatalf("%d winners, want 1", winners.Load())
	}
	for range 16 {
		group.Go(func() {
			for range 20 {
				_, err := repo.Volumes.Update(t.Context(), string(id), func(v repository.Volume) (repository.Volume, error) {
					v.SizeBytes++
					return v, nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	v, err := repo.Volumes.Latest(t.Context(), string(id))
	if err != nil || v.Value.SizeBytes != 320 {
		t.Fatalf("got %+v, %v; want 320 increments", v, err)
	}
}
