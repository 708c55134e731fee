package agent

import (
	"context"
	"iter"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		os.Exit(child(path))
	}
	goleak.VerifyTestMain(m)
}

// fake is a backend of which a test says what it does. What it does not say
// panics.
type fake struct {
	backend.Backend
	create         func(context.Context, backend.CreateVolumeRequest) (backend.Volume, error)
	remove         func(context.Context, volume.ID) error
	expand         func(context.Context, volume.ID, int64) (backend.Volume, error)
	modify         func(context.Context, volume.ID, volume.Mutable) (backend.Volume, error)
	record         func(context.Context, volume.ID, backend.Filesystem) error
	get            func(context.Context, volume.ID) (backend.Volume, error)
	list           func(context.Context) iter.Seq2[backend.Volume, error]
	cut            func(context.Context, backend.CreateSnapshotRequest) (backend.Snapshot, error)
	removeSnapshot func(context.Context, volume.SnapshotID) error
	getSnapshot    func(context.Context, volume.SnapshotID) (backend.Snapshot, error)
	pause          func(context.Context, backend.PauseID, []volume.ID) error
	resume         func(context.Context, backend.PauseID) error
	attach         func(context.Context, backend.AttachRequest) (backend.Device, error)
	detach         func(context.Context, volume.ID) error
	allocated      func(context.Context, volume.SnapshotID, int64) iter.Seq2[backend.Extent, error]
	delta          func(context.Context, volume.SnapshotID, volume.SnapshotID, int64) iter.Seq2[backend.Extent, error]
	capacity       func(context.Context, volume.Class) (backend.Capacity, error)
	volumeHealth   func(context.Context, volume.ID) ([]backend.Health, error)
	health         func(context.Context) ([]backend.Health, error)
}

func (f *fake) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	return f.create(ctx, r)
}
func (f *fake) DeleteVolume(ctx context.Context, id volume.ID) error { return f.remove(ctx, id) }
func (f *fake) ExpandVolume(ctx context.Context, id volume.ID, sizeBytes int64) (backend.Volume, error) {
	return f.expand(ctx, id, sizeBytes)
}
func (f *fake) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) (backend.Volume, error) {
	return f.modify(ctx, id, m)
}
func (f *fake) RecordFilesystem(ctx context.Context, id volume.ID, fs backend.Filesystem) error {
	return f.record(ctx, id, fs)
}
func (f *fake) Volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	return f.get(ctx, id)
}
func (f *fake) Volumes(ctx context.Context) iter.Seq2[backend.Volume, error] { return f.list(ctx) }
func (f *fake) CreateSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	return f.cut(ctx, r)
}
func (f *fake) DeleteSnapshot(ctx context.Context, id volume.SnapshotID) error {
	return f.removeSnapshot(ctx, id)
}
func (f *fake) Snapshot(ctx context.Context, id volume.SnapshotID) (backend.Snapshot, error) {
	return f.getSnapshot(ctx, id)
}
func (f *fake) Pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	return f.pause(ctx, id, volumes)
}
func (f *fake) Resume(ctx context.Context, id backend.PauseID) error { return f.resume(ctx, id) }
func (f *fake) Attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	return f.attach(ctx, r)
}
func (f *fake) Detach(ctx context.Context, id volume.ID) error { return f.detach(ctx, id) }
func (f *fake) Allocated(ctx context.Context, id volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return f.allocated(ctx, id, offset)
}
func (f *fake) Delta(ctx context.Context, base, target volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return f.delta(ctx, base, target, offset)
}
func (f *fake) Capacity(ctx context.Context, class volume.Class) (backend.Capacity, error) {
	return f.capacity(ctx, class)
}
func (f *fake) VolumeHealth(ctx context.Context, id volume.ID) ([]backend.Health, error) {
	return f.volumeHealth(ctx, id)
}
func (f *fake) Health(ctx context.Context) ([]backend.Health, error) { return f.health(ctx) }

const testNode volume.NodeID = "Node_1.a"

func testInfo(context.Context) Info { return Info{Node: testNode} }

// running is a server of a test.
type running struct {
	end  context.CancelFunc
	done chan error
}

// stop ends the server and returns what Serve said.
func (r *running) stop() error {
	r.end()
	err, ok := <-r.done
	if !ok {
		return nil
	}
	close(r.done)
	return err
}

func start(t testing.TB, ctx context.Context, s *Server, identities *identities, l net.Listener) *running {
	t.Helper()
	ctx, end := context.WithCancel(ctx)
	r := &running{end, make(chan error, 1)}
	go func() { r.done <- s.serve(ctx, testNode, identities, []net.Listener{l}) }()
	t.Cleanup(func() {
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func newServer(t testing.TB, o ServerOptions) *Server {
	t.Helper()
	if o.Info == nil {
		o.Info = testInfo
	}
	s, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// socketPath is short enough, whatever the test is called.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "agent-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// serveUnix serves a backend and returns where.
func serveUnix(t testing.TB, ctx context.Context, o ServerOptions, b backend.Backend) (repository.Node, *running) {
	t.Helper()
	path := socketPath(t)
	l, err := listen(Endpoint{"unix", path})
	if err != nil {
		t.Fatal(err)
	}
	o.Backends = map[string]backend.Backend{"local": b}
	return repository.Node{ID: testNode, Address: "unix://" + path}, start(t, ctx, newServer(t, o), nil, l)
}

// dial gives a backend of a node through a dialer that the test closes.
func dial(t testing.TB, n repository.Node) backend.Backend {
	t.Helper()
	return dialWith(t, &Dialer{}, n)
}

func dialWith(t testing.TB, d *Dialer, n repository.Node) backend.Backend {
	t.Helper()
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	b, err := d.Backend(n, "local")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// through serves a backend and gives it back as a client sees it.
func through(t testing.TB, b backend.Backend) backend.Backend {
	t.Helper()
	n, _ := serveUnix(t, t.Context(), ServerOptions{}, b)
	return dial(t, n)
}

// eventually waits for what other goroutines bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) { // poll
		if time.Now().After(deadline) {
			t.Fatalf("%s: did not happen", what)
		}
	}
}
