package memory_test

import (
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
)

func TestContract(t *testing.T) {
	objstoretest.Run(t, func(*testing.T) objstore.Store { return memory.New() })
}

func TestKeyAndPrefixAtOnceIsRefused(t *testing.T) {
	s := memory.New()
	if err := s.Create(t.Context(), "a/b", nil); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "a/b/c", "a/b/c/d"} {
		if err := s.Put(t.Context(), key, nil); !fault.Is(err, fault.Invalid) {
			t.Errorf("put %s beside a/b: got %v, want Invalid", key, err)
		}
	}
}
