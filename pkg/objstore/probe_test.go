package objstore_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
)

// liar is a store with some of its methods done otherwise.
type liar struct {
	objstore.Store
	create func(ctx context.Context, key string, body []byte) error
	get    func(ctx context.Context, key string) ([]byte, error)
	list   func(ctx context.Context, o objstore.ListOptions) (objstore.Page, error)
}

func (l liar) Create(ctx context.Context, key string, body []byte) error {
	if l.create != nil {
		return l.create(ctx, key, body)
	}
	return l.Store.Create(ctx, key, body)
}

func (l liar) Get(ctx context.Context, key string) ([]byte, error) {
	if l.get != nil {
		return l.get(ctx, key)
	}
	return l.Store.Get(ctx, key)
}

func (l liar) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	if l.list != nil {
		return l.list(ctx, o)
	}
	return l.Store.List(ctx, o)
}

// TestProbeRefuses has a probe name what each liar does.
func TestProbeRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		lie  func(m *memory.Store) liar
		want string
	}{
		"the condition is not applied": {func(m *memory.Store) liar {
			return liar{Store: m, create: m.Put}
		}, "16 of 16 concurrent creations"},
		"concurrent ones all win": {func(m *memory.Store) liar {
			return liar{Store: m, create: checkThenPut(m)}
		}, "16 of 16 concurrent creations"},
		"two win": {func(m *memory.Store) liar {
			return liar{Store: m, create: secondWins(m)}
		}, "2 of 16 concurrent creations"},
		"nobody wins": {func(m *memory.Store) liar {
			return liar{Store: m, create: func(context.Context, string, []byte) error { return fault.New(fault.Exists, "exists") }}
		}, "0 of 16 concurrent creations"},
		"the winner is not stored": {func(m *memory.Store) liar {
			return liar{Store: m, create: func(ctx context.Context, key string, body []byte) error {
				return m.Create(ctx, key, append([]byte("x"), body...))
			}}
		}, "other bytes"},
		"a later creation succeeds": {func(m *memory.Store) liar {
			return liar{Store: m, create: laterWins(m, true)}
		}, "a second creation of an object succeeded"},
		"a refused creation has its effect": {func(m *memory.Store) liar {
			return liar{Store: m, create: laterWins(m, false)}
		}, "after a second creation was refused: it found other bytes"},
		"reads are stale": {func(m *memory.Store) liar {
			return liar{Store: m, get: staleGet(m)}
		}, "read of an object after"},
		"absence is stale": {func(m *memory.Store) liar {
			absent := sync.Map{}
			return liar{Store: m, get: func(ctx context.Context, key string) ([]byte, error) {
				body, err := m.Get(ctx, key)
				if fault.Is(err, fault.NotFound) {
					absent.Store(key, true)
				} else if _, ok := absent.LoadAndDelete(key); ok {
					return nil, fault.New(fault.NotFound, "not found")
				}
				return body, err
			}}
		}, "it found none"},
		"listings are stale": {func(m *memory.Store) liar {
			return liar{Store: m, list: func(context.Context, objstore.ListOptions) (objstore.Page, error) { return objstore.Page{}, nil }}
		}, "listed after they were created: 0, want 6"},
		"deletions are listed": {func(m *memory.Store) liar {
			var first objstore.Page
			return liar{Store: m, list: func(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
				page, err := m.List(ctx, o)
				if len(page.Objects) > 0 {
					first = page
				}
				return first, err
			}}
		}, "listed after they were deleted: 6, want 0"},
	} {
		t.Run(name, func(t *testing.T) {
			m := memory.New()
			err := objstore.Probe(t.Context(), row.lie(m), "probe/")
			if !fault.Is(err, fault.Unsupported) || !strings.Contains(err.Error(), row.want) {
				t.Errorf("got %v, want Unsupported with %q", err, row.want)
			}
			wantEmpty(t, m)
		})
	}
}

// checkThenPut is create-if-absent as a server does it that looks first: all of a
// race look before one of them writes.
func checkThenPut(m *memory.Store) func(ctx context.Context, key string, body []byte) error {
	type race struct {
		looked int
		all    chan struct{}
	}
	var mu sync.Mutex
	races := map[string]*race{}
	return func(ctx context.Context, key string, body []byte) error {
		if _, err := m.Get(ctx, key); err == nil {
			return fault.New(fault.Exists, "exists")
		}
		mu.Lock()
		r := races[key]
		if r == nil {
			r = &race{all: make(chan struct{})}
			races[key] = r
		}
		if r.looked++; r.looked == 16 {
			close(r.all)
		}
		mu.Unlock()
		<-r.all
		return m.Put(ctx, key, body)
	}
}

func secondWins(m *memory.Store) func(ctx context.Context, key string, body []byte) error {
	var mu sync.Mutex
	tries := map[string]int{}
	return func(ctx context.Context, key string, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		if tries[key]++; tries[key] == 2 {
			return m.Put(ctx, key, body)
		}
		return m.Create(ctx, key, body)
	}
}

// laterWins applies the condition to the first 16 only.
func laterWins(m *memory.Store, told bool) func(ctx context.Context, key string, body []byte) error {
	var mu sync.Mutex
	tries := map[string]int{}
	return func(ctx context.Context, key string, body []byte) error {
		mu.Lock()
		defer mu.Unlock()
		err := m.Create(ctx, key, body)
		if tries[key]++; tries[key] > 16 {
			_ = m.Put(ctx, key, body)
			if told {
				return nil
			}
		}
		return err
	}
}

// staleGet returns what was there the first time.
func staleGet(m *memory.Store) func(ctx context.Context, key string) ([]byte, error) {
	var seen sync.Map
	return func(ctx context.Context, key string) ([]byte, error) {
		body, err := m.Get(ctx, key)
		if err != nil {
			return body, err
		}
		old, _ := seen.LoadOrStore(key, body)
		return old.([]byte), nil
	}
}

func wantEmpty(t *testing.T, s objstore.Store) {
	t.Helper()
	page, err := s.List(context.Background(), objstore.ListOptions{})
	if err != nil || len(page.Objects) > 0 {
		t.Errorf("left behind: %v, %v", page.Objects, err)
	}
}

// TestProbesAtOnce has sites probe one store, beside what is in it.
func TestProbesAtOnce(t *testing.T) {
	m := memory.New()
	for _, key := range []string{"probes", "probe/other", "probe/" + fmt.Sprint(time.Now().Unix()) + "-young/1"} {
		if err := m.Create(t.Context(), key, nil); err != nil {
			t.Fatal(err)
		}
	}
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if err := objstore.Probe(t.Context(), m, "probe/"); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if page, err := m.List(t.Context(), objstore.ListOptions{}); err != nil || len(page.Objects) != 3 {
		t.Errorf("the store holds %v, %v; want what was there", page.Objects, err)
	}
}

func TestProbeRemovesWhatAnotherLeft(t *testing.T) {
	m := memory.New()
	if err := m.Create(t.Context(), fmt.Sprintf("probe/%d-DEAD/0", time.Now().Add(-25*time.Hour).Unix()), nil); err != nil {
		t.Fatal(err)
	}
	if err := objstore.Probe(t.Context(), m, "probe/"); err != nil {
		t.Fatal(err)
	}
	wantEmpty(t, m)
}

// TestProbeEnds has a context end on the way: the probe still tidies up.
func TestProbeEnds(t *testing.T) {
	for n := 1; n < 200; n += 7 {
		m := memory.New()
		ctx, cancel := context.WithCancel(t.Context())
		var mu sync.Mutex
		calls := 0
		err := objstore.Probe(ctx, liar{Store: m, create: func(c context.Context, key string, body []byte) error {
			mu.Lock()
			if calls++; calls == n {
				cancel()
			}
			mu.Unlock()
			return m.Create(c, key, body)
		}}, "probe/")
		if ended := n <= calls && calls < 86; ended && !fault.Is(err, fault.Canceled) {
			t.Errorf("ended at creation %d of %d: got %v, want Canceled", n, calls, err)
		}
		cancel()
		wantEmpty(t, m)
	}
}

func TestProbePrefix(t *testing.T) {
	for _, prefix := range []string{"/", "a//", "../", "a b"} {
		if err := objstore.Probe(t.Context(), memory.New(), prefix); !fault.Is(err, fault.Invalid) {
			t.Errorf("prefix %q: got %v, want Invalid", prefix, err)
		}
	}
}
