package e2e

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/s3"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

const bucket = "site"

// bucketSite is a site of two machines, as far as one can stand for two: engines
// that are reached over TCP at addresses of their own, one controller, and a
// repository in a bucket.
type bucketSite struct {
	server      *s3test.Server
	url         string // of the repository
	certs       string // their directory
	alpha, beta *lab.Lab
	addresses   map[volume.NodeID]string // of the engines
	metrics     string                   // the address of the controller's
}

func startBucketSite(t *testing.T) *bucketSite {
	t.Helper()
	server, err := s3test.Start()
	lab.Must(t, err)
	t.Cleanup(server.Stop)
	lab.Must(t, server.Bucket(bucket))
	s := &bucketSite{server: server, certs: filepath.Join(t.TempDir(), "certs"), addresses: map[volume.NodeID]string{}}
	s.url = s.repository(t, "prefix/of/site")
	out, err := exec.CommandContext(t.Context(), program, "certs", "--dir="+s.certs, "--controller", "--node=alpha", "--node=beta").CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	s.beta = s.node(t, "beta", volume.BtrfsPool, "127.0.0.3")
	s.alpha = s.node(t, "alpha", volume.XFSPool, "127.0.0.2")
	lab.Must(t, s.beta.Controller[0].Stop(t.Context()))
	s.beta.ControllerClient = s.alpha.ControllerClient
	return s
}

// repository returns the URL of a repository; its credentials are in a folder.
func (s *bucketSite) repository(t *testing.T, prefix string) string {
	t.Helper()
	at, err := s.server.URL(bucket+"/"+prefix, t.TempDir())
	lab.Must(t, err)
	return at
}

func (s *bucketSite) tls(name string) []string {
	file := func(name string) string { return filepath.Join(s.certs, name) }
	return []string{"--agent-tls-cert=" + file(name+".crt"), "--agent-tls-key=" + file(name+".key"), "--agent-tls-ca=" + file("ca.crt")}
}

func (s *bucketSite) node(t *testing.T, id volume.NodeID, pool volume.PoolType, ip string) *lab.Lab {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	lab.Must(t, err)
	address := l.Addr().String()
	metrics, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	lab.Must(t, err)
	lab.Must(t, errors.Join(l.Close(), metrics.Close()))
	s.addresses[id], s.metrics = address, metrics.Addr().String()
	o := lab.Pool(program, pool, 2*lab.GiB)
	o.Node, o.Repository = id, s.url
	o.Args = map[string][]string{
		"engine":     append(s.tls("node-"+string(id)), "--agent-endpoint=tcp://"+address, "--agent-address="+address),
		"controller": append(s.tls("controller"), "--metrics-address="+s.metrics),
	}
	return lab.Start(t, o)
}

// store opens the bucket, or what is under a prefix of it.
func (s *bucketSite) store(t *testing.T, repository string) *s3.Store {
	t.Helper()
	o, err := s3.ParseURL(repository)
	lab.Must(t, err)
	store, err := s3.New(o)
	lab.Must(t, err)
	t.Cleanup(store.Close)
	return store
}

func (s *bucketSite) keys(t *testing.T) (keys []string) {
	t.Helper()
	store := s.store(t, s.repository(t, ""))
	for o := (objstore.ListOptions{}); ; {
		page, err := store.List(t.Context(), o)
		lab.Must(t, err)
		for _, object := range page.Objects {
			keys = append(keys, object.Key)
		}
		if o.After = page.Next; o.After == "" {
			return keys
		}
	}
}

// TestRepositoryInABucket has two engines on machines of their own serve one site
// whose repository is in a bucket: every call on both, the store away under all
// processes, an engine with another node's certificate, and nothing left behind.
func TestRepositoryInABucket(t *testing.T) {
	s := startBucketSite(t)
	nodes := []*lab.Lab{s.alpha, s.beta}
	var mounted []*site.Mounted
	for _, l := range nodes {
		mounted = append(mounted, s.lifeOf(t, l))
	}
	s.counted(t)
	s.storeAway(t, mounted)
	s.foreignCertificate(t)
	for i, l := range nodes {
		lab.Must(t, l.Unmount(t.Context(), l.Site, mounted[i]))
		removeAll(t, l, nil, mounted[i].Volume.VolumeId)
	}
	s.retired(t)
	lab.Must(t, s.alpha.Leftovers())
	lab.Must(t, s.beta.Leftovers())
	record := regexp.MustCompile(`^prefix/of/site/(holkas\.json|names/(volumes|snapshots)/[0-9a-f]{64}/\d{10}|(volumes|snapshots)/[a-z0-9-]+/records/\d{10}|nodes/(alpha|beta)/\d{10})$`)
	keys := s.keys(t)
	for _, key := range keys {
		if !record.MatchString(key) {
			t.Errorf("the bucket holds %s: want records only", key)
		}
	}
	if !slices.Contains(keys, "prefix/of/site/holkas.json") {
		t.Errorf("the bucket holds %d objects, and no repository", len(keys))
	}
}

// lifeOf takes a volume of a node through its calls, its snapshot and its clone
// too, and leaves it mounted.
func (s *bucketSite) lifeOf(t *testing.T, l *lab.Lab) *site.Mounted {
	t.Helper()
	ctx := t.Context()
	node := string(l.Node)
	m := l.Mounted(on(node, lab.VolumeRequest("of-"+node, 64*lab.MiB, site.Filesystem("ext4"))))
	file := "file"
	lab.Must(t, os.WriteFile(filepath.Join(m.Target, file), []byte("of "+node), 0o600))
	snapshot := l.Snapshot(m.Volume.VolumeId, "snapshot-of-"+node)
	lab.Must(t, os.WriteFile(filepath.Join(m.Target, file), []byte("later"), 0o600))
	r := lab.VolumeRequest("clone-of-"+node, 64*lab.MiB, site.Filesystem("ext4"))
	r.VolumeContentSource = lab.FromSnapshot(snapshot.SnapshotId)
	clone := l.Mounted(r)
	if got := home(t, clone.Volume); got != node {
		t.Errorf("the clone is on %q, want %q", got, node)
	}
	if body, err := os.ReadFile(filepath.Join(clone.Target, file)); err != nil || string(body) != "of "+node {
		t.Errorf("the clone has %q, %v: want what the snapshot had", body, err)
	}
	l.Remove(clone)
	removeAll(t, l, []string{snapshot.SnapshotId})
	_, err := l.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: snapshot.SnapshotId})
	lab.Must(t, err)
	return m
}

// counted sees that the controller counts its requests to the store.
func (s *bucketSite) counted(t *testing.T) {
	t.Helper()
	reply, err := http.Get("http://" + s.metrics + "/metrics")
	lab.Must(t, err)
	defer reply.Body.Close()
	body, err := io.ReadAll(reply.Body)
	lab.Must(t, err)
	for _, want := range []string{`{op="create",result="ok"}`, `{op="get",result="not_found"}`} {
		if !strings.Contains(string(body), "holkas_store_request_duration_seconds_count"+want) {
			t.Errorf("want %s in the metrics:\n%s", want, body)
		}
	}
}

// storeAway kills the store: what needs it is Unavailable, of controllers too that
// start meanwhile, and staging goes on, on engines too that start meanwhile.
func (s *bucketSite) storeAway(t *testing.T, mounted []*site.Mounted) {
	t.Helper()
	ctx := t.Context()
	create := func() error {
		_, err := s.alpha.CreateVolume(ctx, on("beta", lab.VolumeRequest("while-away", 64*lab.MiB, site.Filesystem("ext4"))))
		return err
	}
	s.server.Kill()
	lab.WantCode(t, create(), codes.Unavailable, "connection refused")
	controller := s.alpha.Controller[0]
	controller.Kill()
	lab.Must(t, controller.Start(ctx)) // it is ready
	lab.WantCode(t, create(), codes.Unavailable, "the repository is not open", "connection refused")
	for i, l := range []*lab.Lab{s.alpha, s.beta} {
		for _, p := range []*site.Process{l.Engine, l.NodePlugin} {
			p.Kill()
			lab.Must(t, p.Start(ctx))
		}
		restage(l, mounted[i])
		if body, err := os.ReadFile(filepath.Join(mounted[i].Target, "file")); err != nil || string(body) != "later" {
			t.Errorf("node %s: read %q, %v", l.Node, body, err)
		}
	}
	lab.Must(t, s.server.Restart())
	lab.Eventually(t, create)
	s.remove(t, "while-away")
}

// remove deletes a volume by the name that it was created with.
func (s *bucketSite) remove(t *testing.T, name string) {
	t.Helper()
	v := s.alpha.Volume(on("beta", lab.VolumeRequest(name, 64*lab.MiB, site.Filesystem("ext4"))))
	removeAll(t, s.alpha, nil, v.VolumeId)
}

// foreignCertificate has somebody answer at beta's address with alpha's
// certificate: the controller does not take it for beta's engine. Nor does an
// engine start with one that is not its own.
func (s *bucketSite) foreignCertificate(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	create := func() error {
		_, err := s.alpha.CreateVolume(ctx, on("beta", lab.VolumeRequest("on-a-stranger", 64*lab.MiB, site.Filesystem("ext4"))))
		return err
	}
	lab.Must(t, s.beta.Engine.Stop(ctx))
	certificate, err := tls.LoadX509KeyPair(filepath.Join(s.certs, "node-alpha.crt"), filepath.Join(s.certs, "node-alpha.key"))
	lab.Must(t, err)
	stranger, err := tls.Listen("tcp", s.addresses["beta"], &tls.Config{Certificates: []tls.Certificate{certificate}, NextProtos: []string{"h2"}})
	lab.Must(t, err)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for conn, err := stranger.Accept(); err == nil; conn, err = stranger.Accept() {
			_ = conn.(*tls.Conn).Handshake() // as far as the other side goes
			_ = conn.Close()
		}
	}()
	lab.Eventually(t, func() error {
		err := create()
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "want holkas://agent/node/beta") {
			return fmt.Errorf("got %w: want Unavailable, and whose certificate it wants", err)
		}
		return nil
	})
	lab.Must(t, stranger.Close())
	<-ended

	s.beta.Engine.AddArgs(s.tls("node-alpha")...)
	lab.Must(t, s.beta.Engine.Spawn())
	<-s.beta.Engine.Exited()
	if log := string(s.beta.Engine.Log(2000)); s.beta.Engine.ExitCode() != 1 || !strings.Contains(log, "want holkas://agent/node/beta") {
		t.Errorf("an engine with another's certificate ended with %d:\n%s", s.beta.Engine.ExitCode(), log)
	}
	s.beta.Engine.AddArgs(s.tls("node-beta")...)
	lab.Must(t, s.beta.Engine.Start(ctx))
	lab.Eventually(t, create)
	s.remove(t, "on-a-stranger")
}

// retired has the operator retire a node, by a repository in a bucket, and none
// where there is no repository.
func (s *bucketSite) retired(t *testing.T) {
	t.Helper()
	retire := func(repository string) (string, error) {
		out, err := exec.CommandContext(t.Context(), program, "retire", "beta", "--yes", "--repository="+repository).CombinedOutput()
		return string(out), err
	}
	empty := s.repository(t, "elsewhere")
	if out, err := retire(empty); err == nil || !strings.Contains(out, "the store is empty") {
		t.Errorf("retire in an empty store: %v, %s", err, out)
	}
	if out, err := retire(s.url); err != nil {
		t.Errorf("retire: %v, %s", err, out)
	}
	_, err := s.alpha.CreateVolume(t.Context(), on("beta", lab.VolumeRequest("on-retired", 64*lab.MiB, site.Filesystem("ext4"))))
	lab.WantCode(t, err, codes.ResourceExhausted, "retired")
}
