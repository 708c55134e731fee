package agent

import (
	"context"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/backend/local"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestConformance holds the client to the contract of what it stands for: local
// pools behind a server at a unix socket. A restart is one of the server and of
// the backend; the client goes on.
func TestConformance(t *testing.T) {
	for _, c := range []struct {
		pool         volume.PoolType
		provisioning volume.Provisioning
	}{{volume.XFSPool, volume.Thick}, {volume.BtrfsPool, volume.Thin}} {
		t.Run(string(c.pool), func(t *testing.T) {
			t.Parallel()
			backendtest.Run(t, func(t *testing.T) backendtest.Fixture {
				e := &localEngine{
					t: t,
					options: local.Options{
						Pools:      []local.PoolConfig{{Name: "pool", Path: backendtest.Pool(t, c.pool, 2<<30)}},
						Attacher:   &loop.Attacher{},
						StateDir:   backendtest.Dir(t),
						PauseLimit: 2 * time.Second,
						MaxVolumes: 5,
					},
					endpoint: Endpoint{"unix", socketPath(t)},
				}
				e.client = dial(t, repository.Node{ID: testNode, Address: e.endpoint.String()})
				t.Cleanup(e.stop)
				return backendtest.Fixture{
					Backend:    e.reopen(t),
					Class:      volume.Class{Backend: "local", Provisioning: c.provisioning, PoolType: c.pool, MaxSnapshotPause: 10 * time.Second},
					Reopen:     e.reopen,
					PauseLimit: e.options.PauseLimit,
					MaxVolumes: e.options.MaxVolumes,
					Pool:       e.options.Pools[0].Path,
				}
			})
		})
	}
}

// localEngine is an engine with local pools that can be started again.
type localEngine struct {
	t        *testing.T
	options  local.Options
	endpoint Endpoint
	client   backend.Backend

	backend *local.Backend
	end     context.CancelFunc
	done    chan error
}

func (e *localEngine) reopen(t *testing.T) backend.Backend {
	t.Helper()
	e.stop()
	b, err := local.Open(t.Context(), e.options)
	if err != nil {
		t.Fatal(err)
	}
	e.backend, e.done = b, make(chan error)
	s := newServer(t, ServerOptions{Backends: map[string]backend.Backend{"local": b}})
	ctx, end := context.WithCancel(context.Background())
	e.end = end
	go func() { e.done <- s.Serve(ctx, e.endpoint) }()
	eventually(t, "the engine answers", func() bool {
		_, err := e.client.Health(t.Context())
		return err == nil
	})
	return e.client
}

func (e *localEngine) stop() {
	if e.backend == nil {
		return
	}
	e.end()
	if err := <-e.done; err != nil {
		e.t.Error(err)
	}
	if err := e.backend.Close(context.Background()); err != nil {
		e.t.Error(err)
	}
	e.backend = nil
}
