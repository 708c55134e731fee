package repository

import (
	"bytes"
	"os"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

// FuzzRecord gives a reader any bytes: it refuses them as Corrupt or Unsupported,
// or reads what encodes to a record that reads the same.
func FuzzRecord(f *testing.F) {
	for _, row := range golden {
		object, err := os.ReadFile(goldenFile(row.file))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(object)
		_, body, _ := bytes.Cut(object, []byte("\n"))
		f.Add(body)
	}
	f.Add([]byte("holkas 2 volume 00000000\n"))
	f.Add([]byte("holkas 18446744073709551616 volume 00000000\n{}"))
	f.Add([]byte("holkas 1 volume 00000000"))
	r, err := Open(f.Context(), memory.New(), Options{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		readsOrRefuses(t, r, input)
		readsOrRefuses(t, r, append(header("volume", input), input...)) // past the checksum
		for _, prefix := range []string{"", string(header(rootKind, input)), string(header(tombstoneKind, input))} {
			opensOrRefuses(t, append([]byte(prefix), input...))
		}
	})
}

// opensOrRefuses reads the objects that are not revisions.
func opensOrRefuses(t *testing.T, object []byte) {
	store := memory.New()
	const tombstone = "retired/node.1/" + goldenVolume
	must(t, store.Put(t.Context(), rootKey, object))
	must(t, store.Put(t.Context(), tombstone, object))
	r, err := Open(t.Context(), store, Options{})
	if err == nil {
		if _, err := volume.ParseRepositoryID(string(r.ID())); err != nil {
			t.Fatalf("%q was read as a root with id %q", object, r.ID())
		}
	} else if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
		t.Fatalf("root: got %v, want Corrupt or Unsupported", err)
	}
	found, err := on(store, time.Now).Buried(t.Context(), "node.1")
	if err == nil && (len(found) != 1 || found[0].Volume != goldenVolume) {
		t.Fatalf("%q was read as the tombstones %+v, want one of %s", object, found, goldenVolume)
	}
	if err != nil && !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
		t.Fatalf("tombstone: got %v, want Corrupt or Unsupported", err)
	}
}

func readsOrRefuses(t *testing.T, r *Repository, object []byte) {
	s, err := r.Volumes.parse(goldenVolume, 2, object)
	if err != nil {
		if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			t.Fatalf("got %v, want Corrupt or Unsupported", err)
		}
		return
	}
	e := s.envelope
	if !s.removal() {
		if e.Value, err = encodeValue(s.Value); err != nil {
			return // a time beyond what JSON can carry
		}
	}
	again, err := encode("volume", e)
	if err != nil {
		return // it grew beyond the bound
	}
	if _, err := r.Volumes.parse(goldenVolume, 2, again); err != nil {
		t.Fatalf("%q\nwas read, and encodes to\n%q\nwhich is not: %v", object, again, err)
	}
}
