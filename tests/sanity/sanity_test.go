// Package sanity runs csi-sanity over sockets against real processes on real
// loop devices: for each pool type and each access type a site of its own, for a
// repository in a bucket, and for object volumes.
package sanity

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/build"
)

const mib = 1 << 20

// notRun are the cases that may be skipped or pending, with the reason. A case
// that joins them unseen fails the test, as does one that leaves them.
var notRun = map[string]string{
	// csi-sanity itself marks it pending (XIt); tests/e2e has one of our own.
	"pagination should detect volumes added between pages and accept tokens when the last volume from a page is deleted": "pending",
}

// ids generates ids that Holkas could have made, so that what is tested is a
// thing that does not exist, not one that cannot.
type ids struct{}

func (ids) GenerateUniqueValidVolumeID() string { return string(volume.NewID()) }
func (ids) GenerateInvalidVolumeID() string     { return "not-an-id" }
func (ids) GenerateUniqueValidNodeID() string   { return string(volume.NewID()) }
func (ids) GenerateInvalidNodeID() string       { return "not a node" }

func TestSanity(t *testing.T) {
	program, remove, err := build.Holkas("")
	if err != nil {
		t.Fatal(err)
	}
	defer remove()
	var sites []*site.Site
	defer func() {
		for _, s := range sites {
			if t.Failed() {
				s.Logs(os.Stdout, 20_000)
			}
			if err := s.Close(context.Background()); err != nil {
				t.Error(err)
			}
		}
	}()
	for _, of := range []struct {
		name       string
		pool       volume.PoolType // none: object volumes
		repository string          // empty: in a directory
		accesses   []string
	}{
		{"xfs pool", volume.XFSPool, "", []string{"mount", "block"}},
		{"btrfs pool", volume.BtrfsPool, "", []string{"mount", "block"}},
		{"repository in a bucket", volume.XFSPool, bucket(t), []string{"mount"}},
		{"object volumes", "", "", []string{"block"}},
		{"object volumes in a bucket", "", bucket(t), []string{"mount"}},
	} {
		o := site.Options{Binary: program, Repository: of.repository, Args: map[string][]string{"engine": {"--max-volumes=8"}}}
		if o.Object = of.pool == ""; !o.Object {
			o.Pools = []site.PoolOptions{{Name: string(of.pool), Type: of.pool, SizeBytes: 4096 * mib}}
		}
		s, err := site.Start(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		sites = append(sites, s)
		for _, access := range of.accesses {
			ginkgo.Describe(of.name+", "+access, func() { register(s, access, o.Object) })
		}
	}
	gomega.RegisterFailHandler(ginkgo.Fail)
	ginkgo.ReportAfterSuite("what was not run", func(r ginkgo.Report) { checkNotRun(t, r) })
	ginkgo.RunSpecs(t, "CSI sanity")
}

// bucket starts a store and returns the URL of a repository in it.
func bucket(t *testing.T) string {
	t.Helper()
	server, err := s3test.Start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Stop)
	if err := server.Bucket("sanity"); err != nil {
		t.Fatal(err)
	}
	url, err := server.URL("sanity/prefix", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return url
}

// measured makes the case of a snapshot's topology fair: csi-sanity compares a
// topology that it has sent before with one that it received, field by field of
// the Go structs, and a struct that was sent remembers its encoded size.
func measured(ctx context.Context, method string, request, reply any, conn *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
	err := invoke(ctx, method, request, reply, conn, opts...)
	if r, ok := reply.(*csi.CreateSnapshotResponse); ok && err == nil {
		_ = proto.Size(r)
	}
	return err
}

func register(s *site.Site, access string, object bool) {
	config := sanity.NewTestConfig()
	config.Address = "unix://" + filepath.Join(s.Dir, "node.sock")
	config.ControllerAddress = "unix://" + filepath.Join(s.Dir, "controller0.sock")
	config.TargetPath = filepath.Join(s.Kubelet, "target")
	config.StagingPath = filepath.Join(s.Kubelet, "staging")
	config.TestVolumeAccessType = access
	config.TestVolumeSize = 32 * mib
	config.TestVolumeExpandSize = 64 * mib
	config.TestNodeVolumeAttachLimit = true
	config.TestVolumeParameters = map[string]string{volume.ParamProvisioning: string(volume.Thin)}
	config.TestVolumeMutableParameters = map[string]string{
		volume.ParamMaxSnapshotPause: "2s", volume.ParamProvisioning: string(volume.Thick),
	}
	if object {
		config.TestVolumeParameters = map[string]string{volume.ParamBackend: volume.BackendObject}
		config.TestVolumeMutableParameters = map[string]string{volume.ParamUploadDelay: "1s", volume.ParamDurability: "object"}
	}
	config.TestSnapshotParameters = map[string]string{volume.ParamConsistency: string(volume.FilesystemConsistent)}
	config.IDGen = ids{}
	config.ControllerDialOptions = append(config.ControllerDialOptions, grpc.WithUnaryInterceptor(measured))
	sanity.GinkgoTest(&config)
}

// checkNotRun holds the skipped and pending cases against the list, and counts
// what ran: a suite that runs nothing must not pass.
func checkNotRun(t *testing.T, r ginkgo.Report) {
	passed := 0
	seen := map[string]bool{}
	for _, spec := range r.SpecReports {
		if spec.LeafNodeType != types.NodeTypeIt {
			continue
		}
		switch spec.State {
		case types.SpecStatePassed:
			passed++
		case types.SpecStateSkipped, types.SpecStatePending:
			seen[spec.LeafNodeText] = true
			if _, ok := notRun[spec.LeafNodeText]; !ok {
				t.Errorf("not run, and not on the list: %s: %s", strings.Join(append(slices.Clone(spec.ContainerHierarchyTexts), spec.LeafNodeText), " / "), spec.Failure.Message)
			}
		}
	}
	for name := range notRun {
		if !seen[name] {
			t.Errorf("on the list of what is not run, but it ran or is gone: %s", name)
		}
	}
	t.Logf("csi-sanity: %d cases passed, %d kinds of case on the list of those not run", passed, len(seen))
	if passed < 5*80 {
		t.Errorf("only %d cases ran", passed)
	}
}
