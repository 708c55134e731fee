package dir

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
)

// mounted returns a directory on a new filesystem.
func mounted(t *testing.T, filesystem string) string {
	t.Helper()
	base := filepath.Dir(newRoot(t))
	image, at := filepath.Join(base, "image"), filepath.Join(base, "mounted")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, 320<<20); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(at, 0o700); err != nil {
		t.Fatal(err)
	}
	command(t, "mkfs."+filesystem, "-q", image)
	command(t, "mount", "-o", "loop", image, at)
	t.Cleanup(func() { command(t, "umount", at) })
	return at
}

func command(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.Command(name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

func TestContractOnOtherFilesystems(t *testing.T) {
	for _, filesystem := range []string{"xfs", "btrfs"} {
		t.Run(filesystem, func(t *testing.T) {
			at := mounted(t, filesystem)
			objstoretest.Run(t, func(t *testing.T) objstore.Store {
				return openAt(t, filepath.Join(at, filepath.Base(t.Name())))
			})
		})
	}
}

func TestReadOnlyFilesystem(t *testing.T) {
	at := mounted(t, "ext4")
	s := openAt(t, at)
	if err := s.Create(t.Context(), "a", []byte("1")); err != nil {
		t.Fatal(err)
	}
	command(t, "mount", "-o", "remount,ro", at)
	const words = "read-only: want it writable"
	wantFault(t, "create", s.Create(t.Context(), "b", nil), fault.Transient, words)
	wantFault(t, "put", s.Put(t.Context(), "a", nil), fault.Transient, words)
	wantFault(t, "delete", s.Delete(t.Context(), "a"), fault.Transient, words)
	_, err := Open(t.Context(), Options{Root: at})
	wantFault(t, "open", err, fault.Transient, words)
	if body, err := s.Get(t.Context(), "a"); err != nil || string(body) != "1" {
		t.Errorf("get: %q, %v; want it as it was", body, err)
	}
}

func TestFullFilesystem(t *testing.T) {
	s := openAt(t, mounted(t, "ext4"))
	var err error
	for i := 0; err == nil && i < 100; i++ {
		err = s.Create(t.Context(), fmt.Sprintf("fill/%d", i), make([]byte, 16<<20))
	}
	wantFault(t, "create", err, fault.Transient, "full: free some space")
	page, err := s.List(t.Context(), objstore.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, object := range page.Objects {
		if object.SizeBytes != 16<<20 {
			t.Errorf("%s has %d bytes, want it whole", object.Key, object.SizeBytes)
		}
	}
	if entries, err := os.ReadDir(s.staging()); err != nil || len(entries) > 0 {
		t.Errorf("staged: %v, %v; want nothing left", entries, err)
	}
}
