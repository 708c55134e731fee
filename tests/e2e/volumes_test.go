package e2e

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// TestFilesystemVolumes takes a volume of each filesystem through what a user
// does with it: written, grown while mounted, snapshotted, restored larger,
// cloned, and the clones mounted beside their origin.
func TestFilesystemVolumes(t *testing.T) {
	onEach(t, 8*lab.GiB, func(l *lab.Lab, _ lab.Kind) {
		for _, fs := range []string{"ext4", "xfs", "btrfs"} {
			filesystemVolume(l, fs)
		}
		lab.Must(l.T, l.Leftovers())
	})
}

func filesystemVolume(l *lab.Lab, fs string) {
	const size = 512 * lab.MiB
	t, capability := l.T, site.Filesystem(fs)
	origin := l.Mounted(lab.VolumeRequest(fs, size, capability))
	content := bytes.Repeat([]byte(fs+" "), 1<<18)
	write(t, origin, "before", content)

	before := totalBytes(l, origin)
	expand(l, origin, 2*size)
	if after := totalBytes(l, origin); after < before+size*8/10 {
		t.Errorf("%s: grown from %d to %d bytes, want about %d more", fs, before, after, size)
	}
	s := l.Snapshot(origin.Volume.VolumeId, fs+"-snapshot")
	write(t, origin, "after", content)
	restored := l.Mounted(from(lab.FromSnapshot(s.SnapshotId), lab.VolumeRequest(fs+"-restored", 4*size, capability)))
	wantContent(t, restored, "before", content)
	wantNone(t, restored, "after")
	if total := totalBytes(l, restored); total < 4*size*8/10 {
		t.Errorf("%s: restored into %d bytes, its filesystem has %d", fs, 4*size, total)
	}
	clone := l.Mounted(from(lab.FromVolume(origin.Volume.VolumeId), lab.VolumeRequest(fs+"-clone", 2*size, capability)))
	wantContent(t, clone, "after", content)
	write(t, clone, "before", []byte("the clone's own"))
	wantContent(t, origin, "before", content)
	smaller := from(lab.FromSnapshot(s.SnapshotId), lab.VolumeRequest(fs+"-smaller", size, capability))
	smaller.CapacityRange.LimitBytes = size
	_, err := l.CreateVolume(t.Context(), smaller)
	lab.WantCode(t, err, codes.OutOfRange)
	for _, m := range []*site.Mounted{restored, clone, origin} {
		wantHealthy(l, m)
		l.Remove(m)
	}
	removeAll(t, l, []string{s.SnapshotId})
}

// TestBlockVolumes: a raw device grows while it is open, its clones have its
// bytes and not each other's, and a read-only publication cannot be written.
func TestBlockVolumes(t *testing.T) {
	onEach(t, 4*lab.GiB, func(l *lab.Lab, _ lab.Kind) {
		const size = 64 * lab.MiB
		origin := l.Mounted(lab.VolumeRequest("raw", size, site.Block()))
		f, err := os.OpenFile(origin.Target, os.O_RDWR, 0)
		lab.Must(l.T, err)
		defer f.Close()
		_, err = f.WriteAt([]byte("origin"), size-4096)
		lab.Must(l.T, err)
		lab.Must(l.T, f.Sync())
		expand(l, origin, 2*size)
		if end, err := f.Seek(0, 2); err != nil || end != 2*size {
			l.T.Errorf("the open device has %d bytes, %v; want %d", end, err, 2*size)
		}
		if total := totalBytes(l, origin); total != 2*size {
			l.T.Errorf("stats say %d bytes, want %d", total, 2*size)
		}
		s := l.Snapshot(origin.Volume.VolumeId, "raw")
		_, err = f.WriteAt([]byte("later!"), size-4096)
		lab.Must(l.T, err)
		lab.Must(l.T, f.Close())

		clone := l.Mounted(from(lab.FromSnapshot(s.SnapshotId), lab.VolumeRequest("raw-clone", 2*size, site.Block())))
		body := make([]byte, 6)
		g, err := os.Open(clone.Target)
		lab.Must(l.T, err)
		_, err = g.ReadAt(body, size-4096)
		g.Close()
		if err != nil || string(body) != "origin" {
			l.T.Errorf("the clone holds %q, %v", body, err)
		}
		l.Remove(clone)
		l.Remove(origin)
		removeAll(l.T, l, []string{s.SnapshotId})
		lab.Must(l.T, l.Leftovers())
	})
}

// TestReadOnlyPublication: a volume that is published to read cannot be
// written, as a filesystem or as a device.
func TestReadOnlyPublication(t *testing.T) {
	onEach(t, 4*lab.GiB, func(l *lab.Lab, _ lab.Kind) {
		ctx := l.T.Context()
		for _, capability := range []*csi.VolumeCapability{site.Filesystem("ext4"), site.Block()} {
			m := l.Mounted(lab.VolumeRequest("volume", 64*lab.MiB, capability))
			lab.Must(l.T, l.Unmount(ctx, l.Site, m))
			m.ReadOnly = true
			lab.Must(l.T, l.Mount(ctx, l.Site, m))
			path := m.Target
			if capability.GetMount() != nil {
				path = filepath.Join(path, "file")
			}
			if f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE, 0o600); err == nil { // a device opens, and refuses the write
				_, err := f.WriteAt([]byte("x"), 0)
				if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
					l.T.Errorf("%s was written", path)
				}
			}
			l.Remove(m)
		}
		lab.Must(l.T, l.Leftovers())
	})
}

func from(source *csi.VolumeContentSource, r *csi.CreateVolumeRequest) *csi.CreateVolumeRequest {
	r.VolumeContentSource = source
	return r
}

// expand grows a mounted volume, as the resizer and the kubelet do. A kernel
// grows a mounted ext4 only for CAP_SYS_RESOURCE; where the tests lack that, the
// answer says what to do instead, and doing it works.
func expand(l *lab.Lab, m *site.Mounted, sizeBytes int64) {
	l.T.Helper()
	want := &csi.CapacityRange{RequiredBytes: sizeBytes}
	reply, err := l.ControllerExpandVolume(l.T.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: m.Volume.VolumeId, CapacityRange: want, VolumeCapability: m.Capability})
	lab.Must(l.T, err)
	if block := m.Capability.GetBlock() != nil; reply.NodeExpansionRequired == block || reply.CapacityBytes < sizeBytes {
		l.T.Fatalf("expand to %d: got %v", sizeBytes, reply)
	}
	_, err = l.NodeExpandVolume(l.T.Context(), &csi.NodeExpandVolumeRequest{VolumeId: m.Volume.VolumeId, VolumePath: m.Target, StagingTargetPath: m.Staging, CapacityRange: want, VolumeCapability: m.Capability})
	if m.Capability.GetMount().GetFsType() == "ext4" && !hasSysResource(l.T) {
		lab.WantCode(l.T, err, codes.FailedPrecondition, "CAP_SYS_RESOURCE", "stage it again")
		restage(l, m)
		return
	}
	lab.Must(l.T, err)
}

func hasSysResource(t *testing.T) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	lab.Must(t, unix.Capget(&header, &data[0]))
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0
}

func totalBytes(l *lab.Lab, m *site.Mounted) int64 {
	l.T.Helper()
	reply, err := l.NodeGetVolumeStats(l.T.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: m.Volume.VolumeId, VolumePath: m.Target, StagingTargetPath: m.Staging})
	lab.Must(l.T, err)
	for _, u := range reply.Usage {
		if u.Unit == csi.VolumeUsage_BYTES {
			return u.Total
		}
	}
	l.T.Fatalf("no bytes in %v", reply)
	return 0
}

func wantHealthy(l *lab.Lab, m *site.Mounted) {
	l.T.Helper()
	atNode, err := l.NodeGetVolumeHealth(l.T.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: m.Volume.VolumeId, VolumePublishPath: m.Target, StagingTargetPath: m.Staging})
	lab.Must(l.T, err)
	atController, err := l.ControllerGetVolumeHealth(l.T.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: m.Volume.VolumeId})
	lab.Must(l.T, err)
	for _, h := range []*csi.VolumeHealth{atNode.VolumeHealth, atController.VolumeHealth} {
		if len(h.GetHealthStatuses()) > 0 {
			l.T.Errorf("volume %s: %v", m.Volume.VolumeId, h)
		}
	}
}

func write(t *testing.T, m *site.Mounted, name string, content []byte) {
	t.Helper()
	f, err := os.Create(filepath.Join(m.Target, name))
	lab.Must(t, err)
	defer f.Close()
	_, err = f.Write(content)
	lab.Must(t, err)
	lab.Must(t, f.Sync())
}

func wantContent(t *testing.T, m *site.Mounted, name string, content []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(m.Target, name))
	lab.Must(t, err)
	if !bytes.Equal(got, content) {
		t.Errorf("%s in %s differs from what was written", name, m.Target)
	}
}

func wantNone(t *testing.T, m *site.Mounted, name string) {
	t.Helper()
	if _, err := os.Stat(filepath.Join(m.Target, name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s in %s: %v, want none", name, m.Target, err)
	}
}
