package csi

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// serving is a Serve under test.
type serving struct {
	path  string
	stop  context.CancelFunc
	ended chan error
}

// serve starts serving, and waits until it listens.
func serve(t *testing.T, path string, services Services, change ...func(*ServeOptions, context.Context) context.Context) *serving {
	t.Helper()
	if services.Identity == nil {
		services.Identity = NewIdentityServer(IdentityOptions{Version: "1.2.3"})
	}
	ctx, cancel := context.WithCancel(context.Background())
	listening := make(chan struct{})
	o := ServeOptions{Endpoint: "unix://" + path, Services: services, Listening: func() { close(listening) }}
	for _, change := range change {
		ctx = change(&o, ctx)
	}
	s := &serving{path, cancel, make(chan error, 1)}
	go func() { s.ended <- Serve(ctx, o) }()
	select {
	case <-listening:
	case err := <-s.ended:
		t.Fatal(err)
	}
	return s
}

// end stops serving, and sees that it ended well.
func (s *serving) end(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(s.path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func dial(t *testing.T, path string) *grpc.ClientConn {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// connected serves for the time of a test.
func connected(t *testing.T, services Services, change ...func(*ServeOptions, context.Context) context.Context) *grpc.ClientConn {
	t.Helper()
	s := serve(t, filepath.Join(t.TempDir(), "csi.sock"), services, change...)
	conn := dial(t, s.path)
	t.Cleanup(func() {
		conn.Close()
		s.end(t)
	})
	return conn
}

func probe(t *testing.T, conn *grpc.ClientConn) error {
	t.Helper()
	_, err := csi.NewIdentityClient(conn).Probe(t.Context(), &csi.ProbeRequest{})
	return err
}

func TestServeAnswers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deeper", "csi.sock")
	s := serve(t, path, Services{})
	conn := dial(t, path)
	if err := probe(t, conn); err != nil {
		t.Error(err)
	}
	if _, err := csi.NewControllerClient(conn).ListVolumes(t.Context(), &csi.ListVolumesRequest{}); status.Code(err) != codes.Unimplemented {
		t.Errorf("a service that is not served: %v, want unimplemented", err)
	}
	if info, err := os.Lstat(path); err != nil || info.Mode() != fs.ModeSocket|0o600 {
		t.Errorf("socket %v, %v", info.Mode(), err)
	}
	if all, err := os.ReadDir(filepath.Dir(path)); err != nil || len(all) != 1 {
		t.Errorf("beside the socket: %v, %v", all, err)
	}
	conn.Close()
	s.end(t)
}

func TestIdentity(t *testing.T) {
	ready := false
	s := NewIdentityServer(IdentityOptions{Version: "1.2.3", Ready: func() bool { return ready }})
	for range 2 {
		got, err := s.Probe(t.Context(), nil)
		if err != nil || got.Ready.GetValue() != ready {
			t.Errorf("probe %v, %v, want %t", got, err, ready)
		}
		ready = true
	}
	info, err := s.GetPluginInfo(t.Context(), nil)
	if err != nil || info.Name != "csi.holkas.io" || info.VendorVersion != "1.2.3" {
		t.Errorf("info %v, %v", info, err)
	}
	capabilities, err := s.GetPluginCapabilities(t.Context(), nil)
	if err != nil || len(capabilities.Capabilities) != len(pluginServices)+1 || capabilities.Capabilities[len(pluginServices)].GetVolumeExpansion().GetType() != csi.PluginCapability_VolumeExpansion_ONLINE {
		t.Errorf("capabilities %v, %v", capabilities, err)
	}
}

func TestDeadSocketsAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	for _, name := range []string{path, hiddenPath(path)} { // and one that died while it made its socket
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: name, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		l.SetUnlinkOnClose(false)
		l.Close()
	}
	s := serve(t, path, Services{})
	conn := dial(t, path)
	if err := probe(t, conn); err != nil {
		t.Error(err)
	}
	conn.Close()
	s.end(t)
}

func TestWhatIsAliveIsNotReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	s := serve(t, path, Services{})
	conn := dial(t, path)
	err := Serve(t.Context(), ServeOptions{Endpoint: "unix://" + path, Services: Services{Identity: NewIdentityServer(IdentityOptions{})}})
	if !fault.Is(err, fault.InUse) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want in use", err)
	}
	if err := probe(t, conn); err != nil {
		t.Error(err)
	}
	conn.Close()
	s.end(t)
	if err := os.WriteFile(path, []byte("data"), 0o600); err != nil {
		t.Fatal(err)
	}
	err = Serve(t.Context(), ServeOptions{Endpoint: "unix://" + path, Services: Services{Identity: NewIdentityServer(IdentityOptions{})}})
	if !fault.Is(err, fault.InUse) || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("got %v, want in use", err)
	}
	if got, err := os.ReadFile(path); string(got) != "data" {
		t.Errorf("the file became %q, %v", got, err)
	}
}

// TestOneOfManyStarts starts many at once on a dead socket: one serves, and the
// others say so.
func TestOneOfManyStarts(t *testing.T) {
	for range 20 {
		startMany(t)
	}
}

func startMany(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	errs := make(chan error)
	var running sync.WaitGroup
	for range 16 {
		running.Go(func() {
			errs <- Serve(ctx, ServeOptions{Endpoint: "unix://" + path, Services: Services{Identity: NewIdentityServer(IdentityOptions{})}})
		})
	}
	for range 15 { // two that both serve would leave this waiting
		if err := <-errs; !fault.Is(err, fault.InUse) {
			t.Errorf("got %v, want in use", err)
		}
	}
	conn := dial(t, path)
	if err := probe(t, conn); err != nil {
		t.Error(err)
	}
	conn.Close()
	cancel()
	if err := <-errs; err != nil {
		t.Error(err)
	}
	running.Wait()
}

// blocked is a call that waits inside the service.
func blocked(t *testing.T, s *serving, entered <-chan struct{}) (conn *grpc.ClientConn, result chan error) {
	t.Helper()
	conn, result = dial(t, s.path), make(chan error, 1)
	go func() {
		_, err := csi.NewControllerClient(conn).DeleteVolume(context.Background(), &csi.DeleteVolumeRequest{VolumeId: string(volume.NewID())})
		result <- err
	}()
	<-entered
	return conn, result
}

func TestRunningCallsFinish(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	f := &fakeService{wait: func(ctx context.Context) {
		close(entered)
		select {
		case <-release:
		case <-ctx.Done():
			t.Error("the call was canceled")
		}
	}}
	s := serve(t, filepath.Join(t.TempDir(), "csi.sock"), Services{Controller: NewControllerServer(f)})
	conn, result := blocked(t, s, entered)
	s.stop()
	for { // the socket goes first, so that nobody finds it any more
		if _, err := os.Lstat(s.path); errors.Is(err, fs.ErrNotExist) {
			break
		}
		time.Sleep(time.Millisecond) // poll
	}
	close(release)
	if err := <-result; err != nil {
		t.Errorf("the running call: %v", err)
	}
	s.end(t)
	conn.Close()
}

func TestTheEndIsBounded(t *testing.T) {
	short := func(o *ServeOptions, ctx context.Context) context.Context {
		o.DrainTimeout = 10 * time.Millisecond
		return ctx
	}
	t.Run("canceled", func(t *testing.T) {
		entered := make(chan struct{})
		f := &fakeService{wait: func(ctx context.Context) { close(entered); <-ctx.Done() }}
		s := serve(t, filepath.Join(t.TempDir(), "csi.sock"), Services{Controller: NewControllerServer(f)}, short)
		conn, result := blocked(t, s, entered)
		s.end(t)
		if err := <-result; status.Code(err) != codes.Unavailable {
			t.Errorf("the running call: %v, want unavailable", err)
		}
		conn.Close()
	})
	t.Run("deaf", func(t *testing.T) {
		entered, release := make(chan struct{}), make(chan struct{})
		f := &fakeService{wait: func(context.Context) { close(entered); <-release }}
		s := serve(t, filepath.Join(t.TempDir(), "csi.sock"), Services{Controller: NewControllerServer(f)}, short)
		conn, result := blocked(t, s, entered)
		s.end(t)
		if err := <-result; status.Code(err) != codes.Unavailable {
			t.Errorf("the running call: %v, want unavailable", err)
		}
		close(release)
		conn.Close()
	})
}

// TestANewerSocketIsLeftAlone: who ends removes its own socket only.
func TestANewerSocketIsLeftAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "csi.sock")
	s := serve(t, path, Services{})
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	newer := serve(t, path, Services{})
	s.stop()
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	conn := dial(t, path)
	if err := probe(t, conn); err != nil {
		t.Error(err)
	}
	conn.Close()
	newer.end(t)
}

func TestServeOptionsAreValidated(t *testing.T) {
	for _, endpoint := range []string{"", "csi.sock", "/run/csi.sock", "unix:/run/csi.sock", "unix://csi.sock", "unix:///", "unix:///a/../b", "unix:///a\x00", "tcp://1.2.3.4:5", "unix:///" + strings.Repeat("x", 200)} {
		err := Serve(t.Context(), ServeOptions{Endpoint: endpoint, DrainTimeout: -1})
		if !fault.Is(err, fault.Invalid) {
			t.Fatalf("%q: got %v, want invalid", endpoint, err)
		}
		for _, part := range []string{"endpoint", "Identity", "DrainTimeout"} {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%q: %v does not name %s", endpoint, err, part)
			}
		}
	}
}

// TestASuccessorIsLeftAlone: a successor takes the place while calls of the old
// process still finish.
func TestASuccessorIsLeftAlone(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	f := &fakeService{wait: func(context.Context) { close(entered); <-release }}
	s := serve(t, filepath.Join(t.TempDir(), "csi.sock"), Services{Controller: NewControllerServer(f)})
	old, result := blocked(t, s, entered)
	link := s.path + ".old"
	if err := os.Link(s.path, link); err != nil {
		t.Fatal(err)
	}
	s.stop()
	for { // until the old listener is closed
		conn, err := net.Dial("unix", link)
		if err != nil {
			break
		}
		conn.Close()
	}
	if err := os.Remove(link); err != nil { // now its inode is free
		t.Fatal(err)
	}
	successor := serve(t, s.path, Services{})
	close(release)
	if err := <-result; err != nil {
		t.Error(err)
	}
	if err := <-s.ended; err != nil {
		t.Error(err)
	}
	conn := dial(t, s.path)
	if err := probe(t, conn); err != nil {
		t.Error(err)
	}
	conn.Close()
	old.Close()
	successor.end(t)
}

// TestSizesAreLimitedOnTheWire: of every call, also of one with a stream.
func TestSizesAreLimitedOnTheWire(t *testing.T) {
	f := &fakeService{}
	conn := connected(t, Services{Controller: NewControllerServer(f), SnapshotMetadata: NewSnapshotMetadataServer(f)})
	over := map[string]string{"key": strings.Repeat("x", 4096)}
	_, err := csi.NewControllerClient(conn).DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: impossible, Secrets: over})
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("got %v, want invalid", err)
	}
	stream, err := csi.NewSnapshotMetadataClient(conn).GetMetadataAllocated(t.Context(), &csi.GetMetadataAllocatedRequest{SnapshotId: impossible, Secrets: over})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("stream: got %v, want invalid", err)
	}
}
