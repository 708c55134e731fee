package dir

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// TestReplacementsAndListingsExclude: while a folder is read nothing in it is
// replaced, and while something is replaced it is not read; creations, deletions
// and other folders go on. Who waits does so within its context and changes
// nothing.
func TestReplacementsAndListingsExclude(t *testing.T) {
	s := openAt(t, newRoot(t))
	for _, key := range []string{"a/1", "a/2", "b/1"} {
		if err := s.Create(t.Context(), key, []byte("old")); err != nil {
			t.Fatal(err)
		}
	}
	holder, err := s.sys.enter(s.path("a"))
	if err != nil {
		t.Fatal(err)
	}
	defer holder.Close()

	hold(t, holder, unix.LOCK_SH)
	wantDeadline(t, "put while the folder is read", func(ctx context.Context) error { return s.Put(ctx, "a/1", []byte("new")) })
	if body, err := s.Get(t.Context(), "a/1"); err != nil || string(body) != "old" {
		t.Errorf("a/1 holds %q, %v; want it as it was", body, err)
	}
	if _, err := s.List(t.Context(), objstore.ListOptions{}); err != nil {
		t.Errorf("list while the folder is read: %v", err)
	}

	hold(t, holder, unix.LOCK_EX)
	for _, o := range []objstore.ListOptions{{}, {Prefix: "a/"}, {Delimiter: "/"}} {
		wantDeadline(t, "list while something is replaced", func(ctx context.Context) error {
			_, err := s.List(ctx, o)
			return err
		})
	}
	for what, err := range map[string]error{
		"create":           s.Create(t.Context(), "a/3", nil),
		"delete":           s.Delete(t.Context(), "a/2"),
		"put elsewhere":    s.Put(t.Context(), "b/1", []byte("new")),
		"list another one": listed(t, s, "b/"),
	} {
		if err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}

	holder.unlock()
	if err := s.Put(t.Context(), "a/1", []byte("new")); err != nil {
		t.Errorf("put afterwards: %v", err)
	}
	if err := listed(t, s, ""); err != nil {
		t.Errorf("list afterwards: %v", err)
	}
}

func hold(t *testing.T, f folder, how int) {
	t.Helper()
	if err := f.lock(t.Context(), how); err != nil {
		t.Fatal(err)
	}
}

func listed(t *testing.T, s *Store, prefix string) error {
	_, err := s.List(t.Context(), objstore.ListOptions{Prefix: prefix})
	return err
}

// wantDeadline runs what must wait until its context ends.
func wantDeadline(t *testing.T, what string, do func(context.Context) error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := do(ctx); !fault.Is(err, fault.Deadline) {
			t.Errorf("%s: got %v, want it to wait until the deadline", what, err)
		}
	})
}
