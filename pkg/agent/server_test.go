package agent

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/metadata"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/textlogger"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestDrain ends a server under three calls: one that ends by itself is waited
// for, one that does not is canceled, and one that goes on even then is told of.
func TestDrain(t *testing.T) {
	for name, c := range map[string]struct {
		grace time.Duration
		call  func(ctx context.Context, release <-chan struct{}) error
		kind  fault.Kind
		fails bool
	}{
		"ends by itself": {time.Minute, func(_ context.Context, release <-chan struct{}) error {
			<-release
			return fault.New(fault.InUse, "done")
		}, fault.InUse, false},
		"heeds the end": {30 * time.Millisecond, func(ctx context.Context, _ <-chan struct{}) error { <-ctx.Done(); return ctx.Err() }, fault.Transient, false},
		"goes on":       {30 * time.Millisecond, func(_ context.Context, release <-chan struct{}) error { <-release; return nil }, fault.Transient, true},
	} {
		entered, release := make(chan struct{}), make(chan struct{})
		n, server := serveUnix(t, t.Context(), ServerOptions{GracePeriod: c.grace}, &fake{
			remove: func(ctx context.Context, _ volume.ID) error { close(entered); return c.call(ctx, release) },
		})
		b := dial(t, n)
		failed := make(chan error, 1)
		go func() { failed <- b.DeleteVolume(t.Context(), volume.NewID()) }()
		<-entered
		server.end()
		eventually(t, name+": the socket is gone", func() bool {
			_, err := os.Lstat(strings.TrimPrefix(n.Address, "unix://"))
			return os.IsNotExist(err)
		})
		if err := b.DeleteVolume(t.Context(), volume.NewID()); !fault.Is(err, fault.Transient) {
			t.Errorf("%s: a call during the end: got %v, want Transient", name, err)
		}
		if !c.fails {
			close(release)
		}
		if err := <-failed; !fault.Is(err, c.kind) {
			t.Errorf("%s: the call: got %v, want %s", name, err, c.kind)
		}
		if err := server.stop(); (err != nil) != c.fails {
			t.Errorf("%s: Serve: got %v", name, err)
		}
		if c.fails {
			close(release)
		}
	}
}

func TestSocket(t *testing.T) {
	path := socketPath(t)
	l, err := listen(Endpoint{"unix", path})
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("got mode %v, %v: want a socket with mode 0600", info.Mode(), err)
	}
	// A successor's socket stays.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, path, nil)
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("what another put there is gone: %v", err)
	}
	// What is no socket is left alone.
	if _, err := listen(Endpoint{"unix", path}); !fault.Is(err, fault.Precondition) {
		t.Errorf("a file in its place: got %v, want Precondition", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	// One that knows nothing of our lock is found all the same.
	foreign, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := listen(Endpoint{"unix", path}); !fault.Is(err, fault.InUse) {
		t.Errorf("another program's: got %v, want InUse", err)
	}
	foreign.Close()
	if _, err := listen(Endpoint{"unix", filepath.Join(path, "x")}); !fault.Is(err, fault.Precondition) {
		t.Errorf("no folder: got %v, want Precondition", err)
	}
}

// TestOneOfMany sees that of servers that start at once one gets the socket.
func TestOneOfMany(t *testing.T) {
	path := socketPath(t)
	for range 20 {
		var all sync.WaitGroup
		won := make(chan net.Listener, 8)
		for range cap(won) {
			all.Go(func() {
				if l, err := listen(Endpoint{"unix", path}); err == nil {
					won <- l
				} else if !fault.Is(err, fault.InUse) {
					t.Errorf("got %v, want InUse", err)
				}
			})
		}
		all.Wait()
		close(won)
		if len(won) != 1 {
			t.Errorf("%d servers have one socket", len(won))
		}
		for l := range won {
			l.Close()
		}
	}
}

func TestServeAtSeveral(t *testing.T) {
	a, b := Endpoint{"unix", socketPath(t)}, Endpoint{"unix", socketPath(t)}
	s := newServer(t, ServerOptions{Backends: map[string]backend.Backend{"local": (&served{}).fake()}})
	if err := s.Serve(t.Context()); !fault.Is(err, fault.Invalid) {
		t.Errorf("nowhere: got %v, want Invalid", err)
	}
	if err := s.Serve(t.Context(), a, a); !fault.Is(err, fault.InUse) {
		t.Errorf("twice at one: got %v, want InUse", err)
	}
	ctx, end := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- s.Serve(ctx, a, b) }()
	for _, e := range []Endpoint{a, b} {
		c := dial(t, repository.Node{ID: testNode, Address: e.String()})
		eventually(t, e.String()+" answers", func() bool { _, err := c.Health(t.Context()); return err == nil })
	}
	end()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestEndpoints(t *testing.T) {
	for s, want := range map[string]Endpoint{
		"unix:///run/holkas/agent.sock": {"unix", "/run/holkas/agent.sock"},
		"tcp://host:9808":               {"tcp", "host:9808"},
		"tcp://[::1]:1":                 {"tcp", "[::1]:1"},
		"tcp://:65535":                  {"tcp", ":65535"},
	} {
		if got, err := ParseEndpoint(s); err != nil || got != want || got.String() != s {
			t.Errorf("%s: got %+v, %v", s, got, err)
		}
	}
	for _, s := range []string{
		"", "unix:", "unix://", "unix:///", "unix://relative", "unix:///a/../b", "unix:///a//b", "unix:///a/", "unix:///\x00", "/a",
		"unix:///" + strings.Repeat("x", 200), "tcp://", "tcp://host", "tcp://host:0", "tcp://host:65536", "tcp://host:http", "tcp://ho st:1",
		"tcp://a/b:1", "http://host:1", "host:1", "tcp://host:1:2",
	} {
		if got, err := ParseEndpoint(s); !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %+v, %v: want Invalid", s, got, err)
		}
	}
	for _, n := range []repository.Node{{ID: testNode}, {ID: testNode, Address: "x"}, {ID: "a b", Address: "unix:///x"}, {Address: "unix:///x"}} {
		if _, err := new(Dialer).Backend(n, "local"); !fault.Is(err, fault.Invalid) {
			t.Errorf("%+v: got %v, want Invalid", n, err)
		}
	}
}

// TestAnotherNode sees that a call does not reach the engine of another node that
// has the address now.
func TestAnotherNode(t *testing.T) {
	var s served
	n, _ := serveUnix(t, t.Context(), ServerOptions{}, s.fake())
	n.ID = "other"
	_, err := dial(t, n).Health(t.Context())
	if !fault.Is(err, fault.Transient) || !strings.Contains(err.Error(), `"other"`) || s.calls.Load() != 0 {
		t.Errorf("got %v after %d calls, want Transient and none", err, s.calls.Load())
	}
}

// TestNewAddress moves a node while a call runs at its old address: the call ends
// well, the next goes to the new one, and the old connection goes with the last
// call that used it.
func TestNewAddress(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	old, _ := serveUnix(t, t.Context(), ServerOptions{}, &fake{
		remove: func(context.Context, volume.ID) error { close(entered); <-release; return nil },
	})
	var s served
	now, _ := serveUnix(t, t.Context(), ServerOptions{}, s.fake())
	d := &Dialer{}
	atOld := dialWith(t, d, old)
	done := make(chan error, 1)
	go func() { done <- atOld.DeleteVolume(t.Context(), volume.NewID()) }()
	<-entered
	d.mu.Lock()
	was := d.links[testNode]
	d.mu.Unlock()
	atNew, err := d.Backend(now, "local")
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := atNew.Health(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if got := was.conn.GetState().String(); got != "READY" {
		t.Errorf("the old connection is %s while a call runs on it", got)
	}
	close(release)
	if err := <-done; err != nil {
		t.Errorf("the call at the old address: %v", err)
	}
	if got := was.conn.GetState().String(); got != "SHUTDOWN" {
		t.Errorf("the old connection is %s, want SHUTDOWN", got)
	}
	d.mu.Lock()
	kept := len(d.links)
	d.mu.Unlock()
	if kept != 1 {
		t.Errorf("%d connections are kept, want 1", kept)
	}
}

// TestClosedDialer closes a dialer under a call to where the node was, and one to
// where it is.
func TestClosedDialer(t *testing.T) {
	entered := make(chan struct{}, 2)
	slow := &fake{remove: func(ctx context.Context, _ volume.ID) error {
		entered <- struct{}{}
		<-ctx.Done()
		return ctx.Err()
	}}
	old, _ := serveUnix(t, t.Context(), ServerOptions{}, slow)
	now, _ := serveUnix(t, t.Context(), ServerOptions{}, slow)
	d := &Dialer{}
	failed := make(chan error, 2)
	for _, n := range []repository.Node{old, now} {
		b := dialWith(t, d, n)
		go func() { failed <- b.DeleteVolume(t.Context(), volume.NewID()) }()
		<-entered
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-failed; !fault.Is(err, fault.Transient) {
			t.Errorf("a call under way: got %v, want Transient", err)
		}
	}
	b, err := d.Backend(now, "local")
	if err != nil {
		t.Fatal(err)
	}
	if err := b.DeleteVolume(t.Context(), volume.NewID()); !fault.Is(err, fault.Transient) {
		t.Errorf("a call after it: got %v, want Transient", err)
	}
}

// log is where a test's server logs to.
type log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *log) context(ctx context.Context) context.Context {
	return klog.NewContext(ctx, textlogger.NewLogger(textlogger.NewConfig(textlogger.Verbosity(10), textlogger.Output(l))))
}

// TestSecretsStaySecret sends secrets with every request that can have them, at
// the highest verbosity, through success, fault, panic and refusal.
func TestSecretsStaySecret(t *testing.T) {
	const secret = "hunter2-s3cret"
	secrets := volume.Secrets{"passphrase": secret, secret: "x"}
	var l log
	n, server := serveUnix(t, l.context(t.Context()), ServerOptions{Registerer: prometheus.NewRegistry()}, &fake{
		create: func(_ context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
			if r.Secrets["passphrase"] != secret {
				t.Error("the secret did not arrive")
			}
			return backend.Volume{}, fault.New(fault.Exhausted, "cannot do %+v", r)
		},
		cut: func(_ context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
			panic(fmt.Sprintf("%#v %s %v", r, r.Secrets, r))
		},
		attach: func(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
			klog.FromContext(ctx).Info("Attached by the backend", "request", r)
			return anyDevice, nil
		},
	})
	b := dial(t, n)
	ctx := WithRequestID(t.Context(), "request-77")
	id := volume.NewID()
	_, e1 := b.CreateVolume(ctx, backend.CreateVolumeRequest{ID: id, SizeBytes: 1 << 20, Secrets: secrets})
	_, e2 := b.CreateVolume(ctx, backend.CreateVolumeRequest{ID: id, SizeBytes: 1, Secrets: secrets})
	_, e3 := b.CreateSnapshot(ctx, backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: id, Consistency: volume.CrashConsistent, Secrets: secrets})
	_, e4 := b.Attach(ctx, backend.AttachRequest{ID: id, Secrets: secrets})
	_, e5 := b.Attach(ctx, backend.AttachRequest{ID: id, Secrets: volume.Secrets{secret: strings.Repeat(secret, 1<<20)}})
	if err := server.stop(); err != nil {
		t.Error(err)
	}
	for i, want := range []fault.Kind{fault.Exhausted, fault.Invalid, fault.Internal, 0, fault.Invalid} {
		err := []error{e1, e2, e3, e4, e5}[i]
		if i == 3 && err != nil || i != 3 && !fault.Is(err, want) {
			t.Errorf("call %d: got %v", i+1, err)
		}
		if err != nil && strings.Contains(err.Error(), secret) {
			t.Errorf("call %d: the error tells the secret: %v", i+1, err)
		}
	}
	said := l.String()
	if strings.Contains(said, secret) {
		t.Errorf("the log tells the secret:\n%s", said)
	}
	for _, want := range []string{"CreateVolume", "CreateSnapshot", "Attach", string(id), "request-77", "ResourceExhausted", "Request panicked", "Attached by the backend"} {
		if !strings.Contains(said, want) {
			t.Errorf("the log lacks %q:\n%s", want, said)
		}
	}
}

// TestRequestIDs sees that an id arrives, that a call without one gets one, and
// that one which would spoil a log does not pass.
func TestRequestIDs(t *testing.T) {
	var got string
	b := through(t, &fake{remove: func(ctx context.Context, _ volume.ID) error { got = RequestID(ctx); return nil }})
	call := func(ctx context.Context) {
		if err := b.DeleteVolume(ctx, volume.NewID()); err != nil {
			t.Fatal(err)
		}
	}
	if call(WithRequestID(t.Context(), "r-1")); got != "r-1" {
		t.Errorf("got %q, want r-1", got)
	}
	for _, bad := range []string{"", "a b", "a\nb", strings.Repeat("x", 65)} {
		if call(WithRequestID(t.Context(), bad)); got == bad || len(got) < 20 {
			t.Errorf("%q: got %q, want a new one", bad, got)
		}
	}
	if call(metadata.AppendToOutgoingContext(t.Context(), requestIDHeader, "a b")); len(got) < 20 {
		t.Errorf("got %q, want a new one", got)
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	n, server := serveUnix(t, t.Context(), ServerOptions{Registerer: registry}, &fake{
		remove: func(context.Context, volume.ID) error { return fault.New(fault.InUse, "in use") },
		health: func(context.Context) ([]backend.Health, error) { return nil, nil },
	})
	b := dial(t, n)
	for range 3 {
		_ = b.DeleteVolume(t.Context(), volume.NewID())
	}
	if _, err := b.Health(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := server.stop(); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			key := f.GetName()
			for _, l := range m.GetLabel() {
				key += " " + l.GetValue()
			}
			got[key] = m.GetHistogram().GetSampleCount() + uint64(m.GetGauge().GetValue())
		}
	}
	for key, want := range map[string]uint64{
		"holkas_agent_request_duration_seconds FailedPrecondition DeleteVolume": 3,
		"holkas_agent_request_duration_seconds OK Health":                       1,
		"holkas_agent_requests_running DeleteVolume":                            0,
	} {
		if n, ok := got[key]; !ok || n != want {
			t.Errorf("%s: got %d, want %d, of %v", key, n, want, got)
		}
	}
	if _, err := NewServer(ServerOptions{Info: testInfo, Backends: map[string]backend.Backend{"local": &fake{}}, Registerer: registry}); !fault.Is(err, fault.Invalid) {
		t.Errorf("metrics twice: got %v, want Invalid", err)
	}
}
