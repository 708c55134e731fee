package main

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/demo/site"
)

// freeAddress returns an address of this machine at which nobody listens.
func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer l.Close()
	return l.Addr().String()
}

func create(c site.Clients, t *testing.T, name string) error {
	_, err := c.CreateVolume(t.Context(), &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: 16 * mib}, VolumeCapabilities: []*csi.VolumeCapability{site.Block()},
	})
	return err
}

// TestTCP has a controller reach an engine over TCP with the certificates that
// the program makes, and not without them or with another node's.
func TestTCP(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "certs")
	if code, _, stderr := try(t, "", "certs", "--dir="+dir, "--controller", "--node=demo", "--node=other"); code != exitOK {
		t.Fatal(stderr)
	}
	with := func(name string) []string {
		return []string{"--agent-tls-cert=" + filepath.Join(dir, name+".crt"), "--agent-tls-key=" + filepath.Join(dir, name+".key"), "--agent-tls-ca=" + filepath.Join(dir, "ca.crt")}
	}
	address := freeAddress(t)
	s := prepare(t, map[string][]string{
		"engine": append(with("node-demo"), "--agent-endpoint=tcp://"+address, "--agent-address="+address),
	})
	start(t, s.Engine, s.NodePlugin)
	s.Controller[0].AddArgs(with("controller")...)
	start(t, s.Controller[0])
	clients, err := s.Clients(0)
	must(t, err)
	eventually(t, "a volume is created over TCP", func() bool { return create(clients, t, "a") == nil })

	must(t, s.Controller[0].Stop(t.Context()))
	s.Controller[0].AddArgs(with("node-other")...)
	start(t, s.Controller[0])
	clients, err = s.Clients(0)
	must(t, err)
	if err := create(clients, t, "b"); err == nil {
		t.Error("an engine obeyed a node's certificate: want a controller's only")
	}
}

// TestMetrics reads what each process says of itself.
func TestMetrics(t *testing.T) {
	addresses := map[string]string{"engine": freeAddress(t), "node": freeAddress(t), "controller": freeAddress(t)}
	args := map[string][]string{}
	for process, address := range addresses {
		args[process] = []string{"--metrics-address=" + address}
	}
	s := prepare(t, args)
	start(t, s.Processes()...)
	clients, err := s.Clients(0)
	must(t, err)
	eventually(t, "a volume is created", func() bool { return create(clients, t, "a") == nil })
	v, err := clients.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	must(t, err)
	_, err = clients.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "s", SourceVolumeId: v.Entries[0].Volume.VolumeId})
	must(t, err)
	for process, want := range map[string][]string{
		"engine": {
			`holkas_pool_available_bytes{pool="pool",type="xfs"} `, `holkas_pool_size_bytes{pool="pool",type="xfs"} `, `holkas_volumes{pool="pool"} 1`,
			`holkas_volumes_attached{pool="pool"} 0`, `holkas_snapshot_pause_seconds_count{backend="local"} 1`, `holkas_snapshot_last_pause_seconds{backend="local"} `, `holkas_snapshot_predicted_pause_seconds_count{backend="local"} 1`,
		},
		"controller": {`holkas_csi_call_duration_seconds_count{code="OK",method="CreateVolume"} 1`},
		"node":       {`holkas_csi_call_duration_seconds_count{code="OK",method="Probe"} 1`},
	} {
		got := scrape(t, "http://"+addresses[process]+"/metrics")
		for _, line := range append(want, `holkas_build_info{goversion="go`, "go_goroutines ", "process_open_fds ") {
			if !strings.Contains(got, "\n"+line) {
				t.Errorf("%s: want %s in\n%s", process, line, got)
			}
		}
		if got := scrape(t, "http://"+addresses[process]+"/healthz"); got != "ok\n" {
			t.Errorf("%s: health %q: want ok", process, got)
		}
	}
}

func scrape(t *testing.T, url string) string {
	t.Helper()
	reply, err := (&http.Client{Timeout: 10 * time.Second}).Get(url)
	must(t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	must(t, err)
	if reply.StatusCode != http.StatusOK {
		t.Fatal(fmt.Errorf("%s: %s: %s", url, reply.Status, body))
	}
	return string(body)
}

// TestStoreAway sees that a controller is ready and says Unavailable while its
// repository's store is away.
func TestStoreAway(t *testing.T) {
	s := prepare(t, nil)
	start(t, s.Processes()...)
	clients, err := s.Clients(0)
	must(t, err)
	eventually(t, "a volume is created", func() bool { return create(clients, t, "a") == nil })
	hidden := s.Repository + "-away"
	must(t, os.Rename(s.Repository, hidden))
	if err := create(clients, t, "b"); status.Code(err) != codes.Unavailable {
		t.Errorf("got %v: want Unavailable", err)
	}
	conn, err := s.Controller[0].Conn()
	must(t, err)
	if p, err := csi.NewIdentityClient(conn).Probe(t.Context(), &csi.ProbeRequest{}); err != nil || !p.Ready.GetValue() {
		t.Errorf("probe: %v, %v: want ready", p, err)
	}
	must(t, os.Rename(hidden, s.Repository))
	must(t, create(clients, t, "b"))
}
