package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	spi "github.com/holkas-io/holkas/pkg/csi"
	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// twoNodes starts a site of two nodes, alpha and beta, on one repository.
func twoNodes(t *testing.T) (alpha, beta *lab.Lab) {
	o := lab.Pool(program, volume.XFSPool, 2*lab.GiB)
	o.Node = "alpha"
	alpha = lab.Start(t, o)
	o = lab.Pool(program, volume.BtrfsPool, 2*lab.GiB)
	o.Node, o.Repository = "beta", alpha.Site.Repository
	return alpha, lab.Start(t, o)
}

// on restricts a request to a node.
func on(node string, r *csi.CreateVolumeRequest) *csi.CreateVolumeRequest {
	r.AccessibilityRequirements = &csi.TopologyRequirement{
		Requisite: []*csi.Topology{{Segments: map[string]string{spi.TopologyKey: node}}},
	}
	return r
}

// home is the node that a volume can be used on.
func home(t *testing.T, v *csi.Volume) string {
	t.Helper()
	if len(v.AccessibleTopology) != 1 {
		t.Fatalf("volume %s is accessible from %v, want one node", v.VolumeId, v.AccessibleTopology)
	}
	return v.AccessibleTopology[0].Segments[spi.TopologyKey]
}

// TestNodes: volumes and their clones stay on the node that has their data, and
// every refusal says which one that is.
func TestNodes(t *testing.T) {
	alpha, beta := twoNodes(t)
	ctx := t.Context()
	v := alpha.Volume(on("beta", lab.VolumeRequest("on-beta", 64*lab.MiB, site.Filesystem("ext4"))))
	if got := home(t, v); got != "beta" {
		t.Fatalf("volume is on %q, want beta", got)
	}
	publish := func(l *lab.Lab) error {
		_, err := alpha.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.VolumeId, NodeId: string(l.Node), VolumeCapability: site.Filesystem("ext4")})
		return err
	}
	lab.WantCode(t, publish(alpha), codes.FailedPrecondition, "beta")
	m := beta.At(v, site.Filesystem("ext4"), "on-beta")
	lab.Must(t, beta.Mount(ctx, beta.Site, m)) // through beta's controller: it is one site
	lab.WantCode(t, publish(alpha), codes.FailedPrecondition, "beta")
	lab.Must(t, os.WriteFile(filepath.Join(m.Target, "file"), []byte("content"), 0o600))

	s := alpha.Snapshot(v.VolumeId, "of-beta")
	r := lab.VolumeRequest("clone", 64*lab.MiB, site.Filesystem("ext4"))
	r.VolumeContentSource = lab.FromSnapshot(s.SnapshotId)
	clone := alpha.Volume(r)
	if got := home(t, clone); got != "beta" {
		t.Errorf("the clone is on %q, want beta", got)
	}
	elsewhere := on("alpha", lab.VolumeRequest("clone-elsewhere", 64*lab.MiB, site.Filesystem("ext4")))
	elsewhere.VolumeContentSource = lab.FromSnapshot(s.SnapshotId)
	_, err := alpha.CreateVolume(ctx, elsewhere)
	lab.WantCode(t, err, codes.ResourceExhausted, "beta")
	_, err = alpha.CreateVolume(ctx, on("gamma", lab.VolumeRequest("nowhere", 64*lab.MiB, site.Filesystem("ext4"))))
	lab.WantCode(t, err, codes.ResourceExhausted)

	capacityOn := func(node string) int64 {
		reply, err := alpha.GetCapacity(ctx, &csi.GetCapacityRequest{AccessibleTopology: &csi.Topology{Segments: map[string]string{spi.TopologyKey: node}}})
		lab.Must(t, err)
		return reply.AvailableCapacity
	}
	all, err := alpha.GetCapacity(ctx, &csi.GetCapacityRequest{})
	lab.Must(t, err)
	if a, b := capacityOn("alpha"), capacityOn("beta"); a == 0 || b == 0 || all.AvailableCapacity < max(a, b) {
		t.Errorf("capacities: alpha %d, beta %d, all %d", a, b, all.AvailableCapacity)
	}
	if c := capacityOn("gamma"); c != 0 {
		t.Errorf("a node that does not exist has capacity %d", c)
	}
	lab.Must(t, beta.Unmount(ctx, beta.Site, m))
	removeAll(t, alpha, []string{s.SnapshotId}, v.VolumeId, clone.VolumeId)
	lab.Must(t, alpha.Leftovers())
	lab.Must(t, beta.Leftovers())
}

func removeAll(t *testing.T, l *lab.Lab, snapshots []string, volumes ...string) {
	t.Helper()
	for _, id := range snapshots {
		_, err := l.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: id})
		lab.Must(t, err)
	}
	for _, id := range volumes {
		_, err := l.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
		lab.Must(t, err)
	}
}

// TestNodeDownAndRetired: what only a node that is down can do is Unavailable;
// once the operator has retired it, deletions succeed, and are executed if it
// comes back.
func TestNodeDownAndRetired(t *testing.T) {
	alpha, beta := twoNodes(t)
	ctx := t.Context()
	v := alpha.Volume(on("beta", lab.VolumeRequest("on-beta", 64*lab.MiB, site.Filesystem("ext4"))))
	kept := alpha.Volume(on("beta", lab.VolumeRequest("kept", 64*lab.MiB, site.Filesystem("ext4"))))
	s := alpha.Snapshot(v.VolumeId, "of-beta")
	m := beta.At(v, site.Filesystem("ext4"), "on-beta")
	lab.Must(t, beta.Mount(ctx, beta.Site, m))
	lab.Must(t, beta.Unmount(ctx, beta.Site, m))
	_, err := alpha.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: v.VolumeId, NodeId: "beta", VolumeCapability: site.Filesystem("ext4")})
	lab.Must(t, err)

	beta.Engine.Kill()
	_, err = alpha.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
	lab.WantCode(t, err, codes.Unavailable, "beta")
	_, err = alpha.CreateVolume(ctx, on("beta", lab.VolumeRequest("new", 64*lab.MiB, site.Filesystem("ext4"))))
	lab.WantCode(t, err, codes.Unavailable, "beta")
	anywhere := alpha.Volume(lab.VolumeRequest("anywhere", 64*lab.MiB, site.Filesystem("ext4")))
	if got := home(t, anywhere); got != "alpha" {
		t.Errorf("with beta down a volume was placed on %q", got)
	}
	connection, err := alpha.Controller[0].Conn()
	lab.Must(t, err)
	probe, err := csi.NewIdentityClient(connection).Probe(ctx, &csi.ProbeRequest{})
	if lab.Must(t, err); !probe.Ready.Value {
		t.Error("an engine that is down makes the controller not ready")
	}

	retire := func(node string) error {
		return exec.CommandContext(ctx, program, "retire", node, "--repository=dir:"+alpha.Site.Repository, "--yes").Run()
	}
	if err := retire("delta"); err == nil {
		t.Error("a node that does not exist was retired")
	}
	lab.Must(t, retire("beta"))
	_, err = alpha.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: v.VolumeId, NodeId: "beta"})
	lab.Must(t, err)
	removeAll(t, alpha, []string{s.SnapshotId}, v.VolumeId, anywhere.VolumeId)
	_, err = alpha.CreateVolume(ctx, on("beta", lab.VolumeRequest("on-retired", 64*lab.MiB, site.Filesystem("ext4"))))
	lab.WantCode(t, err, codes.ResourceExhausted, "retired")

	lab.Must(t, beta.Engine.Start(ctx))
	lab.Eventually(t, func() error { // it announces itself in its own time
		_, err := alpha.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: kept.VolumeId})
		return err
	})
	lab.Eventually(t, alpha.Leftovers)
	lab.Eventually(t, beta.Leftovers)
}

// TestRepositoryAway: staging, restarting and reading a volume never needs the
// catalogue's store; what needs it is Unavailable, and works again when the
// store is back.
func TestRepositoryAway(t *testing.T) {
	onEachPool(t, 2*lab.GiB, func(l *lab.Lab, _ volume.PoolType) {
		ctx := l.T.Context()
		m := l.Mounted(lab.VolumeRequest("volume", 64*lab.MiB, site.Filesystem("ext4")))
		lab.Must(l.T, os.WriteFile(filepath.Join(m.Target, "file"), []byte("content"), 0o600))
		away := l.Site.Repository + "-away"
		lab.Must(l.T, os.Rename(l.Site.Repository, away))
		back := func() { lab.Must(l.T, os.Rename(away, l.Site.Repository)) }
		defer func() {
			if _, err := os.Stat(away); err == nil {
				back()
			}
		}()

		_, err := l.CreateVolume(ctx, lab.VolumeRequest("another", 64*lab.MiB, site.Filesystem("ext4")))
		lab.WantCode(l.T, err, codes.Unavailable)
		for _, p := range []*site.Process{l.Engine, l.NodePlugin} {
			p.Kill()
			lab.Must(l.T, p.Start(ctx))
		}
		restage(l, m)
		body, err := os.ReadFile(filepath.Join(m.Target, "file"))
		if err != nil || string(body) != "content" {
			l.T.Fatalf("read %q, %v", body, err)
		}
		back()
		lab.Eventually(l.T, func() error {
			_, err := l.CreateVolume(ctx, lab.VolumeRequest("another", 64*lab.MiB, site.Filesystem("ext4")))
			return err
		})
		list, err := l.ListVolumes(ctx, &csi.ListVolumesRequest{})
		lab.Must(l.T, err)
		if len(list.Entries) != 2 {
			l.T.Errorf("%d volumes, want 2", len(list.Entries))
		}
		lab.Must(l.T, l.Unmount(ctx, l.Site, m))
		for _, e := range list.Entries {
			removeAll(l.T, l, nil, e.Volume.VolumeId)
		}
		lab.Must(l.T, l.Leftovers())
	})
}

// restage takes a volume through the node's four calls.
func restage(l *lab.Lab, m *site.Mounted) {
	l.T.Helper()
	ctx := l.T.Context()
	_, err := l.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: m.Volume.VolumeId, TargetPath: m.Target})
	lab.Must(l.T, err)
	_, err = l.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: m.Volume.VolumeId, StagingTargetPath: m.Staging})
	lab.Must(l.T, err)
	lab.Must(l.T, l.Stage(ctx, m))
	lab.Must(l.T, l.PublishAt(ctx, m))
}

// TestDataPathOutlivesControlPath writes to a volume while every process is
// killed and started again: no write fails, and none waits for a process.
func TestDataPathOutlivesControlPath(t *testing.T) {
	onEachPool(t, 2*lab.GiB, func(l *lab.Lab, _ volume.PoolType) {
		ctx := l.T.Context()
		m := l.Mounted(lab.VolumeRequest("volume", 320*lab.MiB, site.Filesystem("xfs")))
		w := startWriter(l.T, m.Target)
		for _, p := range l.Processes() {
			w.waitFor(l.T, 20)
			p.Kill()
			w.waitFor(l.T, 20) // while it is dead
			lab.Must(l.T, p.Start(ctx))
		}
		w.waitFor(l.T, 20)
		lab.Must(l.T, w.stop())
		l.Remove(m)
		lab.Must(l.T, l.Leftovers())
	})
}
