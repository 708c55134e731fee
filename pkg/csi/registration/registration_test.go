package registration

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/holkas-io/holkas/pkg/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// registrar is a Run under test.
type registrar struct {
	options Options
	stop    context.CancelFunc
	ended   chan error
}

func start(t *testing.T, kubeletDir string) *registrar {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &registrar{
		options: Options{Driver: "csi.holkas.io", Endpoint: "/var/lib/kubelet/plugins/csi.holkas.io/csi.sock", KubeletDir: kubeletDir, Interval: 5 * time.Millisecond},
		stop:    cancel, ended: make(chan error, 1),
	}
	go func() { r.ended <- Run(ctx, r.options) }()
	t.Cleanup(cancel)
	return r
}

// kubelet does what the kubelet does with a socket: it asks, then tells.
func kubelet(t *testing.T, socket string, status *registerapi.RegistrationStatus) *registerapi.PluginInfo {
	t.Helper()
	waitFor(t, func() bool { info, err := os.Lstat(socket); return err == nil && info.Mode().Type() == os.ModeSocket })
	connection, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer connection.Close()
	client := registerapi.NewRegistrationClient(connection)
	// No waiting for readiness: a socket that is seen is answered.
	info, err := client.GetInfo(t.Context(), &registerapi.InfoRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.NotifyRegistrationStatus(t.Context(), status); err != nil {
		t.Fatal(err)
	}
	return info
}

func waitFor(t *testing.T, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) { // poll
		if time.Now().After(deadline) {
			t.Fatal("it did not come about in 10 s")
		}
	}
}

var taken = &registerapi.RegistrationStatus{PluginRegistered: true}

func TestRegistersAndLeavesNothing(t *testing.T) {
	r := start(t, t.TempDir())
	info := kubelet(t, r.options.Socket(), taken)
	if info.Type != registerapi.CSIPlugin || info.Name != r.options.Driver || info.Endpoint != r.options.Endpoint || len(info.SupportedVersions) != 1 {
		t.Errorf("info %v", info)
	}
	kubelet(t, r.options.Socket(), taken) // it has restarted, and asks again
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	left, err := os.ReadDir(filepath.Dir(r.options.Socket()))
	if err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestTakesTheKubeletsRefusal(t *testing.T) {
	r := start(t, t.TempDir())
	kubelet(t, r.options.Socket(), &registerapi.RegistrationStatus{Error: "no such topology key"})
	err := <-r.ended
	if !fault.Is(err, fault.Precondition) || !strings.Contains(err.Error(), "no such topology key") {
		t.Errorf("got %v, want the kubelet's words", err)
	}
	if _, err := os.Lstat(r.options.Socket()); !os.IsNotExist(err) {
		t.Errorf("the socket is still there: %v", err)
	}
}

func TestComesBackAfterTheDirectoryWasWiped(t *testing.T) {
	dir := t.TempDir()
	r := start(t, dir)
	for range 3 {
		kubelet(t, r.options.Socket(), taken)
		old, err := os.Lstat(r.options.Socket())
		if err != nil {
			t.Fatal(err)
		}
		if err := os.RemoveAll(filepath.Join(dir, "plugins_registry")); err != nil {
			t.Fatal(err)
		}
		waitFor(t, func() bool {
			now, err := os.Lstat(r.options.Socket())
			return err == nil && now.ModTime() != old.ModTime()
		})
	}
	kubelet(t, r.options.Socket(), taken)
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
}

func TestReplacesAStaleSocketOnly(t *testing.T) {
	dir := t.TempDir()
	socket := Options{Driver: "csi.holkas.io", KubeletDir: dir}.Socket()
	if err := os.MkdirAll(filepath.Dir(socket), 0o750); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{socket, hidden(socket)} {
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		stale.Close()
	}
	r := start(t, dir)
	waitFor(t, func() bool { _, err := os.Lstat(hidden(socket)); return os.IsNotExist(err) })
	kubelet(t, socket, taken)
	r.stop()
	if err := <-r.ended; err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(socket, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := <-start(t, dir).ended; !fault.Is(err, fault.Precondition) {
		t.Errorf("got %v, want a refusal to replace a file", err)
	}
	if body, err := os.ReadFile(socket); err != nil || string(body) != "precious" {
		t.Errorf("the file holds %q, %v", body, err)
	}
}

// A rolling update runs two processes for a moment. The newer one's socket
// stays, also when the older one ends.
func TestTheNewerProcessWins(t *testing.T) {
	dir := t.TempDir()
	older := start(t, dir)
	kubelet(t, older.options.Socket(), taken)
	before, err := os.Lstat(older.options.Socket())
	if err != nil {
		t.Fatal(err)
	}
	newer := start(t, dir)
	waitFor(t, func() bool {
		now, err := os.Lstat(newer.options.Socket())
		return err == nil && !os.SameFile(now, before)
	})
	its, err := os.Lstat(newer.options.Socket())
	if err != nil {
		t.Fatal(err)
	}
	older.stop()
	if err := <-older.ended; err != nil {
		t.Error(err)
	}
	if now, err := os.Lstat(newer.options.Socket()); err != nil || !os.SameFile(now, its) {
		t.Errorf("the newer process's socket is gone: %v", err)
	}
	kubelet(t, newer.options.Socket(), taken)
	newer.stop()
	if err := <-newer.ended; err != nil {
		t.Error(err)
	}
}

func TestOptionsReportAllFaults(t *testing.T) {
	err := Run(t.Context(), Options{Driver: "../x", Endpoint: "csi.sock", KubeletDir: "kubelet" + strings.Repeat("x", 100), Interval: -1})
	for _, want := range []string{"driver:", "kubelet endpoint:", "want an absolute path", "bytes", "interval:"} {
		if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
}
