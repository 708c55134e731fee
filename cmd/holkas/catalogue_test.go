package main

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// deaf is a store that takes the condition of a creation and does not apply it,
// as some servers do.
type deaf struct{ objstore.Store }

func (d deaf) Create(ctx context.Context, key string, body []byte) error {
	return d.Put(ctx, key, body)
}

func keys(t *testing.T, s objstore.Store) (keys []string) {
	t.Helper()
	page, err := s.List(t.Context(), objstore.ListOptions{})
	must(t, err)
	for _, o := range page.Objects {
		keys = append(keys, o.Key)
	}
	return keys
}

// TestBucket: a repository is made where that is said and the store keeps to its
// contract; nothing stays in any other.
func TestBucket(t *testing.T) {
	store := memory.New()
	if _, err := (&catalogue{}).openBucket(t.Context(), store); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "--create-repository") {
		t.Errorf("an empty bucket: %v, want NotFound and how to make a repository", err)
	}
	creating := &catalogue{create: true}
	if _, err := creating.openBucket(t.Context(), deaf{store}); !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), "16 of 16 concurrent creations") {
		t.Errorf("a store that ignores conditions: %v, want Unsupported and what it did", err)
	}
	asked := faults.New(deaf{store}, nil)
	open := creating.unlessUnfit(asked)
	for range 2 {
		if _, err := open(t.Context()); !fault.Is(err, fault.Unsupported) || asked.Count(faults.Create) != 16 {
			t.Errorf("got %v after %d creations, want Unsupported after those of one probe", err, asked.Count(faults.Create))
		}
	}
	if left := keys(t, store); len(left) > 0 {
		t.Errorf("left in a store that holds no repository: %q", left)
	}
	r, err := creating.openBucket(t.Context(), store)
	must(t, err)
	if _, err := (&catalogue{}).openBucket(t.Context(), deaf{store}); !fault.Is(err, fault.Unsupported) {
		t.Errorf("a repository in a store that ignores conditions: %v, want Unsupported", err)
	}
	again, err := (&catalogue{}).openBucket(t.Context(), store)
	if err != nil || again.ID() != r.ID() {
		t.Errorf("got %v, want the repository that is there", err)
	}
	if left := keys(t, store); !slices.Equal(left, []string{"holkas.json"}) {
		t.Errorf("the store holds %q, want holkas.json only", left)
	}
}

// TestBucketAway: while the store is away it is asked again, and calls are
// Transient; afterwards they are made.
func TestBucketAway(t *testing.T) {
	gone := fault.New(fault.Transient, "connection refused")
	store := faults.New(memory.New(), func(faults.Request) faults.Fault { return faults.Fault{Before: gone} })
	c := &catalogue{create: true}
	o := opener{open: func(ctx context.Context) (*repository.Repository, error) { return c.openBucket(ctx, store) }}
	service := newLate()

	early, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := service.Volume(early, volume.NewID()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("before the first attempt: %v, want it to wait as long as its caller", err)
	}
	attempts := 0
	r, err := o.await(t.Context(), func(err error) {
		service.failed(err)
		_, err = service.Volume(t.Context(), volume.NewID())
		if !fault.Is(err, fault.Transient) || !strings.Contains(err.Error(), "connection refused") {
			t.Errorf("while the store is away: %v, want Transient with the reason", err)
		}
		if err := service.DeleteSnapshot(t.Context(), volume.Handle{}); !fault.Is(err, fault.Transient) {
			t.Errorf("a deletion while the store is away: %v, want Transient, since nobody knows whether it is ours", err)
		}
		if attempts++; attempts == 2 {
			store.Follow(nil)
		}
	})
	must(t, err)
	opened, err := controller.New(controller.Options{Repository: r, Engines: noEngines{}})
	must(t, err)
	service.opened(opened)
	if _, err := service.Volume(t.Context(), volume.NewID()); !fault.Is(err, fault.NotFound) {
		t.Errorf("with the store: %v, want NotFound", err)
	}
	if h := service.Handle("s-1"); h.Repository != r.ID() {
		t.Errorf("handle %v, want one of repository %s", h, r.ID())
	}

	// What is no outage ends it.
	damaged := memory.New()
	must(t, damaged.Put(t.Context(), "volumes/x", nil))
	o.open = func(ctx context.Context) (*repository.Repository, error) { return c.openBucket(ctx, damaged) }
	if _, err := o.await(t.Context(), func(error) {}); !fault.Is(err, fault.Corrupt) {
		t.Errorf("a damaged repository: %v, want Corrupt", err)
	}
}

type noEngines struct{ controller.Engines }
