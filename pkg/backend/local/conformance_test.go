package local_test

import (
	"context"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/backend/local"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestConformance holds both kinds of pool to the contract, with thick volumes
// and with thin ones.
func TestConformance(t *testing.T) {
	for _, as := range []volume.PoolType{volume.XFSPool, volume.BtrfsPool} {
		for _, p := range []volume.Provisioning{volume.Thick, volume.Thin} {
			t.Run(string(as)+"/"+string(p), func(t *testing.T) {
				t.Parallel()
				backendtest.Run(t, func(t *testing.T) backendtest.Fixture { return fixture(t, as, p) })
			})
		}
	}
}

func fixture(t *testing.T, as volume.PoolType, p volume.Provisioning) backendtest.Fixture {
	t.Helper()
	pool := backendtest.Pool(t, as, 2<<30)
	options := local.Options{
		Pools:      []local.PoolConfig{{Name: "pool", Path: pool}},
		Attacher:   &loop.Attacher{},
		StateDir:   backendtest.Dir(t),
		PauseLimit: 3 * time.Second,
		MaxVolumes: 5,
	}
	var b *local.Backend
	closeIt := func() {
		if err := b.Close(context.Background()); err != nil {
			t.Error(err)
		}
	}
	open := func(t *testing.T) backend.Backend {
		t.Helper()
		if b != nil {
			closeIt()
		}
		opened, err := local.Open(t.Context(), options)
		if err != nil {
			t.Fatal(err)
		}
		b = opened
		return b
	}
	f := backendtest.Fixture{
		Backend:    open(t),
		Class:      volume.Class{Backend: volume.BackendLocal, Provisioning: p, PoolType: as, MaxSnapshotPause: 10 * time.Second},
		Reopen:     open,
		PauseLimit: options.PauseLimit,
		MaxVolumes: options.MaxVolumes,
		Pool:       pool,
	}
	t.Cleanup(closeIt)
	return f
}
