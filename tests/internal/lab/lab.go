// Package lab is what the tests against real processes share: a site, what to
// call on it, and the check that nothing was left behind.
package lab

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"k8s.io/mount-utils"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Sizes in bytes.
const (
	MiB int64 = 1 << 20
	GiB int64 = 1 << 30
)

// PoolTypes are the kinds of local pool that every test of pools runs on.
var PoolTypes = []volume.PoolType{volume.XFSPool, volume.BtrfsPool}

// Kind is what volumes live in: a local pool of a type, or the repository.
type Kind string

// The kinds.
const (
	XFS    = Kind(volume.XFSPool)
	Btrfs  = Kind(volume.BtrfsPool)
	Object = Kind(volume.BackendObject)
)

// Kinds are what every test of volumes runs on.
var Kinds = []Kind{XFS, Btrfs, Object}

// Options returns site options for volumes of a kind; sizeBytes is the pool's.
func (k Kind) Options(program string, sizeBytes int64) site.Options {
	if k == Object {
		return site.Options{Binary: program, Object: true}
	}
	return Pool(program, volume.PoolType(k), sizeBytes)
}

// Lab is a site under test.
type Lab struct {
	*site.Site
	site.Clients
	T *testing.T
}

// Start starts a site for one test. At its end, whatever the outcome, all of it
// is taken away.
func Start(t *testing.T, o site.Options) *Lab {
	t.Helper()
	s, err := site.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.Logs(os.Stdout, 8000)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close the site: %v", err)
		}
	})
	clients, err := s.Clients(0)
	if err != nil {
		t.Fatal(err)
	}
	return &Lab{Site: s, Clients: clients, T: t}
}

// On starts a site for volumes of a kind: requests that name no backend get it.
func On(t *testing.T, k Kind, program string, sizeBytes int64) *Lab {
	t.Helper()
	l := Start(t, k.Options(program, sizeBytes))
	if k == Object {
		l.ControllerClient = classed{l.ControllerClient}
	}
	return l
}

// classed asks for object volumes where a request does not say which backend.
type classed struct{ csi.ControllerClient }

func (c classed) parameters(given map[string]string) map[string]string {
	p := map[string]string{volume.ParamBackend: volume.BackendObject}
	maps.Copy(p, given)
	delete(p, volume.ParamProvisioning) // of pools only
	return p
}

// CreateVolume calls CreateVolume.
func (c classed) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest, o ...grpc.CallOption) (*csi.CreateVolumeResponse, error) {
	r = proto.Clone(r).(*csi.CreateVolumeRequest)
	r.Parameters = c.parameters(r.Parameters)
	return c.ControllerClient.CreateVolume(ctx, r, o...)
}

// GetCapacity calls GetCapacity.
func (c classed) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest, o ...grpc.CallOption) (*csi.GetCapacityResponse, error) {
	r = proto.Clone(r).(*csi.GetCapacityRequest)
	r.Parameters = c.parameters(r.Parameters)
	return c.ControllerClient.GetCapacity(ctx, r, o...)
}

// Pool returns site options for one pool.
func Pool(program string, pool volume.PoolType, sizeBytes int64) site.Options {
	return site.Options{Binary: program, Pools: []site.PoolOptions{{Name: string(pool), Type: pool, SizeBytes: sizeBytes}}}
}

// VolumeRequest asks for a volume.
func VolumeRequest(name string, sizeBytes int64, c *csi.VolumeCapability) *csi.CreateVolumeRequest {
	return &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: sizeBytes},
		VolumeCapabilities: []*csi.VolumeCapability{c}, Parameters: map[string]string{},
	}
}

// FromSnapshot is a content source.
func FromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

// FromVolume is a content source.
func FromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

// Volume creates a volume.
func (l *Lab) Volume(r *csi.CreateVolumeRequest) *csi.Volume {
	l.T.Helper()
	reply, err := l.CreateVolume(l.T.Context(), r)
	Must(l.T, err)
	return reply.Volume
}

// Mounted creates a volume and mounts it.
func (l *Lab) Mounted(r *csi.CreateVolumeRequest) *site.Mounted {
	l.T.Helper()
	m := l.At(l.Volume(r), r.VolumeCapabilities[0], r.Name)
	Must(l.T, l.Mount(l.T.Context(), l.Site, m))
	return m
}

// Snapshot takes a snapshot.
func (l *Lab) Snapshot(volumeID, name string) *csi.Snapshot {
	l.T.Helper()
	reply, err := l.CreateSnapshot(l.T.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: volumeID})
	Must(l.T, err)
	return reply.Snapshot
}

// Remove unmounts and deletes a volume.
func (l *Lab) Remove(m *site.Mounted) {
	l.T.Helper()
	Must(l.T, l.Unmount(l.T.Context(), l.Site, m))
	_, err := l.DeleteVolume(l.T.Context(), &csi.DeleteVolumeRequest{VolumeId: m.Volume.VolumeId})
	Must(l.T, err)
}

// Must ends the test on an error.
func Must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// WantCode fails the test unless err has a gRPC code and a message with all of
// these words.
func WantCode(t testing.TB, err error, code codes.Code, words ...string) {
	t.Helper()
	if status.Code(err) != code {
		t.Fatalf("got %v, want code %s", err, code)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Fatalf("got %q, want %q in the message", err, word)
		}
	}
}

// Eventually waits until check returns nil, for at most two minutes.
func Eventually(t testing.TB, check func() error) {
	t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within two minutes: %v", err)
		}
		time.Sleep(50 * time.Millisecond) // poll
	}
}

// Leftovers lists what volumes and snapshots left behind: loop devices, mounts,
// files of the pools and entries of the catalogue. Records that have ended may
// stay for their grace period, and so may the pools' own tombstones.
func (l *Lab) Leftovers() error {
	var found []string
	devices, err := exec.Command("losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE").Output()
	if err != nil {
		return err
	}
	mounts, err := mount.ParseMountInfo("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, m := range mounts {
		if strings.HasPrefix(m.MountPoint, l.Kubelet+"/") || strings.HasPrefix(m.MountPoint, l.ObjectDir()+"/") {
			found = append(found, "mount "+m.MountPoint)
		}
	}
	pools, err := filepath.Glob(filepath.Join(l.Dir, "pool-*"))
	if err != nil {
		return err
	}
	for _, part := range []string{"journals", "attached", "frozen", "run/keys"} {
		found = append(found, entries(filepath.Join(l.ObjectDir(), part))...)
	}
	for _, pool := range pools {
		for line := range strings.Lines(string(devices)) {
			if strings.Contains(line, pool+"/") {
				found = append(found, "loop device "+line)
			}
		}
		for _, part := range []string{"volumes", "snapshots", "tmp", "trash", "frozen"} {
			found = append(found, entries(filepath.Join(pool, part))...)
		}
	}
	live, err := l.liveRecords()
	if err != nil {
		return err
	}
	if found = append(found, live...); len(found) > 0 {
		return fmt.Errorf("left behind: %s", strings.Join(found, "; "))
	}
	return nil
}

func entries(dir string) (found []string) {
	_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err == nil && path != dir {
			found = append(found, "file "+path)
		}
		return nil
	})
	return found
}

func (l *Lab) liveRecords() (found []string, err error) {
	ctx := context.Background()
	repo, err := l.OpenRepository(ctx)
	if err != nil {
		return nil, err
	}
	for _, names := range []repository.Ledger[repository.Name]{repo.VolumeNames, repo.SnapshotNames, repo.GroupNames} {
		found = append(found, live(ctx, names, func(n repository.Name) (string, bool) { return "name " + n.Name, n.Ended })...)
	}
	found = append(found, live(ctx, repo.Volumes, func(v repository.Volume) (string, bool) {
		return "record of volume " + string(v.ID), v.State == repository.Ended
	})...)
	found = append(found, live(ctx, repo.Snapshots, func(s repository.Snapshot) (string, bool) {
		return "record of snapshot " + string(s.ID), s.State == repository.Ended
	})...)
	return append(found, live(ctx, repo.Groups, func(g repository.Group) (string, bool) {
		return "record of group " + string(g.ID), g.State == repository.Ended
	})...), nil
}

func live[T any](ctx context.Context, l repository.Ledger[T], ended func(T) (string, bool)) (found []string) {
	for after := ""; ; {
		page, next, err := l.List(ctx, after, 100)
		if err != nil {
			return append(found, err.Error())
		}
		for _, r := range page {
			if what, over := ended(r.Value); !over {
				found = append(found, what)
			}
		}
		if after = next; next == "" {
			return found
		}
	}
}
