package dir

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
)

func TestContract(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Store { return openAt(t, newRoot(t)) })
}

// newRoot returns the path of a directory that does not exist yet, on a disk:
// /tmp may be memory.
func newRoot(t *testing.T) string {
	t.Helper()
	parent, err := os.MkdirTemp("/var/tmp", "holkas-dir-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(parent) })
	return filepath.Join(parent, "store")
}

func openAt(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(t.Context(), Options{Root: root, Create: true})
	if err != nil {
		t.Fatal(err)
	}
	return s
}
