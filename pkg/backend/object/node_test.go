package object

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// node is a machine with an engine, on a repository that others may share.
type node struct {
	testing.TB
	*Backend
	store   objstore.Store
	dir     string
	options Options
	front   *fuse.Server
	engine  *engine.Engine
}

// class is what most volumes of these tests are of.
func class() volume.Class {
	c := volume.Class{Backend: volume.BackendObject, UploadDelay: volume.MinUploadDelay}
	return c.WithDefaults()
}

func newNode(t testing.TB, store objstore.Store, name volume.NodeID) *node {
	t.Helper()
	n := &node{TB: t, store: store, dir: backendtest.Dir(t)}
	run, err := os.MkdirTemp("/dev/shm", "holkas-object-") // in memory, so that keys are kept
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(run) })
	n.options = Options{
		Home: func(ctx context.Context) (Home, error) {
			r, err := repository.Open(ctx, store, repository.Options{})
			return Home{r, store}, err
		},
		Node: name, Dir: n.dir, RuntimeDir: run, JournalBytes: 16 << 20, MaxVolumes: 5, PauseLimit: 3 * time.Second,
		CollectAfter: time.Hour, Lease: 2 * time.Second,
	}
	n.open()
	t.Cleanup(n.close)
	return n
}

func (n *node) open() {
	n.Helper()
	front, err := fuse.Open(context.Background(), fuse.Options{Dir: filepath.Join(n.options.RuntimeDir, "devices")})
	must(n, err)
	n.front = front
	o := n.options
	o.Devices = front
	o.Engine, err = engine.New(engine.Options{MemoryBytes: engine.MinMemory, Uploads: 2})
	must(n, err)
	n.Backend, err = Open(context.Background(), o)
	must(n, err)
	n.engine = o.Engine
}

// close ends the processes of the node; the devices stay.
func (n *node) close() {
	n.Helper()
	if n.Backend == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	must(n, n.Backend.Close(ctx))
	must(n, n.engine.Close())
	n.Backend = nil
}

func (n *node) reopen() {
	n.Helper()
	n.close()
	n.open()
}
