package object

import (
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
)

// TestConformance holds the backend to the contract.
func TestConformance(t *testing.T) {
	backendtest.Run(t, func(t *testing.T) backendtest.Fixture { return fixture(t, memory.New()) })
}

func fixture(t *testing.T, store objstore.Store) backendtest.Fixture {
	t.Helper()
	n := newNode(t, store, "node-1")
	return backendtest.Fixture{
		Backend: n.Backend, Class: class(), PauseLimit: n.options.PauseLimit, MaxVolumes: n.options.MaxVolumes,
		Reopen: func(t *testing.T) backend.Backend {
			t.Helper()
			n.reopen()
			return n.Backend
		},
	}
}
