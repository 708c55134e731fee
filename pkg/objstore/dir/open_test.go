package dir

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

func wantFault(t *testing.T, what string, err error, kind fault.Kind, words string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), words) {
		t.Errorf("%s: got %v, want kind %q and %q in it", what, err, kind, words)
	}
}

func TestOpenMakesAStoreOnlyWhenAsked(t *testing.T) {
	root := newRoot(t)
	_, err := Open(t.Context(), Options{Root: root})
	wantFault(t, "open what does not exist", err, fault.NotFound, "is its filesystem mounted?")
	if _, err := os.Lstat(root); err == nil {
		t.Error("the directory was made, want it left alone")
	}
	if err := os.Mkdir(root, 0o700); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Root: root})
	wantFault(t, "open an empty directory", err, fault.NotFound, "is its filesystem mounted?")
	if err := os.Mkdir(filepath.Join(root, "lost+found"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := openAt(t, root)
	if err := s.Create(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(t.Context(), Options{Root: root}); err != nil {
		t.Fatalf("open the store again: %v", err)
	}
	if page, err := s.List(t.Context(), objstore.ListOptions{}); err != nil || len(page.Objects) != 1 {
		t.Errorf("list: %v, %v; want the one object", page, err)
	}
}

func TestOpenRefuses(t *testing.T) {
	root := newRoot(t)
	_, err := Open(t.Context(), Options{Root: "relative", Create: true})
	wantFault(t, "a relative path", err, fault.Invalid, `"relative": want an absolute path`)
	_, err = Open(t.Context(), Options{Root: filepath.Join(root, "deep"), Create: true})
	wantFault(t, "a missing parent", err, fault.Transient, "no such file")
	if err := os.WriteFile(root, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), Options{Root: root, Create: true})
	wantFault(t, "a file", err, fault.Invalid, "want a directory")
	_, err = Open(t.Context(), Options{Root: filepath.Dir(root), Create: true})
	wantFault(t, "a directory of something else", err, fault.Invalid, `it holds "store" but no store`)
}

// TestVanishedRoot: where the store was, there is nothing any more, or the empty
// directory that its filesystem was mounted on. Neither is an empty store, and
// nothing is written there.
func TestVanishedRoot(t *testing.T) {
	for _, mountPoint := range []bool{false, true} {
		root := newRoot(t)
		s := openAt(t, root)
		if err := s.Create(t.Context(), "a/b", nil); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(root, root+".away"); err != nil {
			t.Fatal(err)
		}
		if mountPoint {
			if err := os.Mkdir(root, 0o700); err != nil {
				t.Fatal(err)
			}
		}
		const words = "is its filesystem mounted?"
		_, err := s.Get(t.Context(), "a/b")
		wantFault(t, "get", err, fault.Transient, words)
		_, err = s.GetRange(t.Context(), "a/b", 0, 1)
		wantFault(t, "get range", err, fault.Transient, words)
		_, err = s.List(t.Context(), objstore.ListOptions{})
		wantFault(t, "list", err, fault.Transient, words)
		wantFault(t, "create", s.Create(t.Context(), "a/c", nil), fault.Transient, words)
		wantFault(t, "put", s.Put(t.Context(), "a/b", nil), fault.Transient, words)
		wantFault(t, "delete", s.Delete(t.Context(), "a/b"), fault.Transient, words)
		if entries, _ := os.ReadDir(root); len(entries) > 0 {
			t.Errorf("%v was written, want nothing", entries)
		}
		if mountPoint {
			os.Remove(root)
		}
		if err := os.Rename(root+".away", root); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Get(t.Context(), "a/b"); err != nil {
			t.Errorf("get when it is back: %v", err)
		}
	}
}

func TestKeyAndPrefixAtOnceIsRefused(t *testing.T) {
	s := openAt(t, newRoot(t))
	if err := s.Create(t.Context(), "a/b/c", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "a/b", "a/b/c/d", "a/b/c/d/e"} {
		wantFault(t, "create "+key, s.Create(t.Context(), key, nil), fault.Invalid, "begin")
		wantFault(t, "put "+key, s.Put(t.Context(), key, nil), fault.Invalid, "begin")
	}
	if body, err := s.Get(t.Context(), "a/b/c"); err != nil || string(body) != "kept" {
		t.Errorf("get: %q, %v; want it as it was", body, err)
	}
}

func TestOpenSweepsOnlyWhatIsOld(t *testing.T) {
	root := newRoot(t)
	s := openAt(t, root)
	fresh, stale := filepath.Join(s.staging(), "fresh"), filepath.Join(s.staging(), "stale")
	for _, path := range []string{fresh, stale} {
		if err := os.WriteFile(path, []byte("half an obj"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	past := time.Now().Add(-staleAge - time.Minute)
	if err := os.Chtimes(stale, past, past); err != nil {
		t.Fatal(err)
	}
	openAt(t, root)
	entries, err := os.ReadDir(s.staging())
	if err != nil || len(entries) != 1 || entries[0].Name() != "fresh" {
		t.Errorf("staged: %v, %v; want fresh alone", entries, err)
	}
}

func TestForeignNamesAreNotListed(t *testing.T) {
	s := openAt(t, newRoot(t))
	for _, name := range []string{".hidden", "with space", "a~"} {
		if err := os.WriteFile(filepath.Join(s.root, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if page, err := s.List(t.Context(), objstore.ListOptions{}); err != nil || len(page.Objects) != 0 {
		t.Errorf("list: %v, %v; want nothing", page, err)
	}
}
