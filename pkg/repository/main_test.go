package repository

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/dir"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onEveryStore runs a test on a store in memory and on one in a directory.
func onEveryStore(t *testing.T, test func(t *testing.T, store objstore.Store)) {
	t.Run("memory", func(t *testing.T) { test(t, memory.New()) })
	t.Run("dir", func(t *testing.T) {
		parent, err := os.MkdirTemp("/var/tmp", "holkas-repository-")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(parent) })
		store, err := dir.Open(t.Context(), dir.Options{Root: filepath.Join(parent, "store"), Create: true})
		must(t, err)
		test(t, store)
	})
}

func openOn(t *testing.T, store objstore.Store) *Repository {
	t.Helper()
	r, err := Open(t.Context(), store, Options{})
	must(t, err)
	return r
}

// openAt opens a repository whose clock the test moves.
func openAt(t *testing.T, store objstore.Store, clock *time.Time) *Repository {
	t.Helper()
	r, err := Open(t.Context(), store, Options{Now: func() time.Time { return *clock }})
	must(t, err)
	return r
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantFault(t *testing.T, what string, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got error %v, want kind %q", what, err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: got %q, want %q in it", what, err, word)
		}
	}
}

// wantSlots compares what lies under a prefix, by the names behind it.
func wantSlots(t *testing.T, store objstore.Store, prefix string, want ...string) {
	t.Helper()
	page, err := store.List(t.Context(), objstore.ListOptions{Prefix: prefix})
	must(t, err)
	var got []string
	for _, object := range page.Objects {
		got = append(got, strings.TrimPrefix(object.Key, prefix))
	}
	if !slices.Equal(got, want) {
		t.Errorf("under %s: got %q, want %q", prefix, got, want)
	}
}

func digits(from, to int64) (names []string) {
	for n := from; n <= to; n++ {
		names = append(names, fmt.Sprintf("%010d", n))
	}
	return names
}
