package objstoretest

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

const racers = 16

func testOneWinner(t *testing.T, s objstore.Store) {
	for round := range 25 {
		key := fmt.Sprintf("round-%d/deep/slot", round)
		var winner atomic.Int64
		var wins atomic.Int64
		var all sync.WaitGroup
		begin := make(chan struct{})
		for racer := range int64(racers) {
			all.Go(func() {
				<-begin
				switch err := s.Create(t.Context(), key, content(byte('a'+racer), 100)); {
				case err == nil:
					wins.Add(1)
					winner.Store(racer)
				case !fault.Is(err, fault.Exists):
					t.Errorf("create: got %v, want nil or Exists", err)
				default: // who lost can read what won
					if body, err := s.Get(t.Context(), key); err != nil || !whole(body, 100) {
						t.Errorf("get after Exists: %q, %v", body, err)
					}
				}
			})
		}
		close(begin)
		all.Wait()
		if wins.Load() != 1 {
			t.Fatalf("round %d: %d winners among %d creators, want 1", round, wins.Load(), racers)
		}
		wantBody(t, s, key, content(byte('a'+winner.Load()), 100))
	}
}

// testWinnersAmongDeleters sees that no object is lost when others beside it go
// and take, in a hierarchical store, their common folder with them.
func testWinnersAmongDeleters(t *testing.T, s objstore.Store) {
	var all sync.WaitGroup
	for racer := range 8 {
		all.Go(func() {
			key := fmt.Sprintf("common/folder/%d", racer)
			for range 25 {
				if err := s.Create(t.Context(), key, []byte(key)); err != nil {
					t.Errorf("create %s: %v", key, err)
				}
				wantBody(t, s, key, []byte(key))
				if page, err := s.List(t.Context(), objstore.ListOptions{Prefix: key}); err != nil || len(page.Objects) != 1 {
					t.Errorf("list %s: %v, %v; want it", key, page, err)
				}
				if err := s.Delete(t.Context(), key); err != nil {
					t.Errorf("delete %s: %v", key, err)
				}
			}
		})
	}
	all.Wait()
	wantKeys(t, s)
}

func testCreatedWhole(t *testing.T, s objstore.Store) {
	const size = 1 << 20
	for round := range 8 {
		key := fmt.Sprintf("slot/%d", round)
		seen := watch(t, func() bool {
			body, err := s.Get(t.Context(), key)
			if fault.Is(err, fault.NotFound) {
				return false
			}
			if err != nil || !whole(body, size) {
				t.Errorf("while it is created: %d bytes, %v; want all %d or NotFound", len(body), err, size)
			}
			return true
		})
		must(t, "create", s.Create(t.Context(), key, content('c', size)))
		seen()
	}
}

func testReplacedWhole(t *testing.T, s objstore.Store) {
	const size = 1 << 20
	must(t, "put", s.Put(t.Context(), "f/replaced", content('0', size)))
	look := func() bool {
		body, err := s.Get(t.Context(), "f/replaced")
		if err != nil || !whole(body, size) {
			t.Errorf("get while it is replaced: %d bytes, %v; want all %d", len(body), err, size)
		}
		part, err := s.GetRange(t.Context(), "f/replaced", size/4, size/2)
		if err != nil || !whole(part, size/2) {
			t.Errorf("get range while it is replaced: %d bytes, %v", len(part), err)
		}
		page, err := s.List(t.Context(), objstore.ListOptions{Prefix: "f/"})
		if err != nil || !slices.Equal(page.Objects, []objstore.Object{{Key: "f/replaced", SizeBytes: size}}) {
			t.Errorf("list while it is replaced: %v, %v", page.Objects, err)
		}
		return false
	}
	stop := watch(t, look)
	for i := range 30 {
		must(t, "put", s.Put(t.Context(), "f/replaced", content(byte('a'+i%26), size)))
	}
	stop()
}

// watch looks again and again, beside the caller, until a look returns true or
// the caller stops it.
func watch(t *testing.T, look func() bool) (stop func()) {
	var done atomic.Bool
	var all sync.WaitGroup
	for range 2 {
		all.Go(func() {
			for !done.Load() && !t.Failed() && !look() {
			}
		})
	}
	return func() {
		done.Store(true)
		all.Wait()
	}
}
