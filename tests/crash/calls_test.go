package crash

import (
	"context"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

const size = 16 * lab.MiB

// do is a call that can be repeated; its answer is compared.
type do = func(context.Context) (string, error)

var calls = []call{
	{"CreateVolume", func(l *crashLab, tag string) (do, func()) {
		create := l.creates(lab.VolumeRequest(tag, size, site.Filesystem("ext4")))
		return create, func() { l.deleteNamed(create) }
	}},
	{"CreateVolumeFromSnapshot", func(l *crashLab, tag string) (do, func()) {
		v := l.Volume(lab.VolumeRequest(tag+"-origin", size, site.Filesystem("ext4")))
		s := l.Lab.Snapshot(v.VolumeId, tag)
		r := lab.VolumeRequest(tag, 2*size, site.Filesystem("ext4"))
		r.VolumeContentSource = lab.FromSnapshot(s.SnapshotId)
		create := l.creates(r)
		return create, func() { l.deleteNamed(create); l.deleteSnapshot(s.SnapshotId); l.deleteVolume(v.VolumeId) }
	}},
	{"CloneVolume", func(l *crashLab, tag string) (do, func()) {
		m := l.mounted(tag + "-origin")
		r := lab.VolumeRequest(tag, size, site.Filesystem("ext4"))
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: m.Volume.VolumeId}}}
		create := l.creates(r)
		return create, func() { l.deleteNamed(create); l.checkWritable(m); l.Remove(m) }
	}},
	{"DeleteVolume", func(l *crashLab, tag string) (do, func()) {
		v := l.Volume(lab.VolumeRequest(tag, size, site.Filesystem("ext4")))
		return func(ctx context.Context) (string, error) {
			_, err := l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.VolumeId})
			return "", err
		}, func() {}
	}},
	{"CreateSnapshot", func(l *crashLab, tag string) (do, func()) {
		m := l.mounted(tag)
		create := func(ctx context.Context) (string, error) {
			reply, err := l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: tag, SourceVolumeId: m.Volume.VolumeId})
			return reply.GetSnapshot().String(), err
		}
		return create, func() { l.checkWritable(m); l.deleteSnapshotsOf(m.Volume.VolumeId, 1); l.Remove(m) }
	}},
	{"DeleteSnapshot", func(l *crashLab, tag string) (do, func()) {
		v := l.Volume(lab.VolumeRequest(tag, size, site.Filesystem("ext4")))
		s := l.Lab.Snapshot(v.VolumeId, tag)
		return func(ctx context.Context) (string, error) {
			_, err := l.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
			return "", err
		}, func() { l.deleteVolume(v.VolumeId) }
	}},
	{"CreateVolumeGroupSnapshot", func(l *crashLab, tag string) (do, func()) {
		a, b := l.mounted(tag+"-a"), l.mounted(tag+"-b")
		var group *csi.VolumeGroupSnapshot
		create := func(ctx context.Context) (string, error) {
			reply, err := l.CreateVolumeGroupSnapshot(ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: tag, SourceVolumeIds: []string{a.Volume.VolumeId, b.Volume.VolumeId}})
			group = reply.GetGroupSnapshot()
			return group.String(), err
		}
		return create, func() {
			l.checkWritable(a)
			l.checkWritable(b)
			l.deleteGroup(group)
			l.deleteSnapshotsOf(a.Volume.VolumeId, 0)
			l.Remove(a)
			l.Remove(b)
		}
	}},
	{"DeleteVolumeGroupSnapshot", func(l *crashLab, tag string) (do, func()) {
		v := l.Volume(lab.VolumeRequest(tag, size, site.Filesystem("ext4")))
		reply, err := l.CreateVolumeGroupSnapshot(l.T.Context(), &csi.CreateVolumeGroupSnapshotRequest{Name: tag, SourceVolumeIds: []string{v.VolumeId}})
		lab.Must(l.T, err)
		return func(ctx context.Context) (string, error) {
			_, err := l.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: reply.GroupSnapshot.GroupSnapshotId, SnapshotIds: membersOf(reply.GroupSnapshot)})
			return "", err
		}, func() { l.deleteSnapshotsOf(v.VolumeId, 0); l.deleteVolume(v.VolumeId) }
	}},
	{"ControllerExpandVolume", func(l *crashLab, tag string) (do, func()) {
		v := l.Volume(lab.VolumeRequest(tag, size, site.Filesystem("ext4")))
		return func(ctx context.Context) (string, error) {
			reply, err := l.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: v.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: 2 * size}})
			return reply.String(), err
		}, func() { l.deleteVolume(v.VolumeId) }
	}},
	{"ControllerModifyVolume", func(l *crashLab, tag string) (do, func()) {
		r := lab.VolumeRequest(tag, size, site.Filesystem("ext4"))
		r.Parameters[volume.ParamProvisioning] = string(volume.Thin)
		v := l.Volume(r)
		return func(ctx context.Context) (string, error) {
			_, err := l.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: v.VolumeId, MutableParameters: map[string]string{volume.ParamProvisioning: string(volume.Thick)}})
			return "", err
		}, func() { l.deleteVolume(v.VolumeId) }
	}},
	{"PublishStagePublish", func(l *crashLab, tag string) (do, func()) {
		v := l.Volume(lab.VolumeRequest(tag, size, site.Filesystem("ext4")))
		m := l.At(v, site.Filesystem("ext4"), tag)
		return func(ctx context.Context) (string, error) { return "", l.Mount(ctx, l.Site, m) },
			func() { l.checkWritable(m); l.Remove(m) }
	}},
	{"StageClone", func(l *crashLab, tag string) (do, func()) {
		origin := l.mounted(tag + "-origin")
		s := l.Lab.Snapshot(origin.Volume.VolumeId, tag)
		r := lab.VolumeRequest(tag, 2*size, site.Filesystem("ext4"))
		r.VolumeContentSource = lab.FromSnapshot(s.SnapshotId)
		m := l.At(l.Volume(r), site.Filesystem("ext4"), tag)
		return func(ctx context.Context) (string, error) { return "", l.Mount(ctx, l.Site, m) }, func() {
			if _, err := os.Stat(filepath.Join(m.Target, "written")); err != nil {
				l.T.Fatalf("the clone lacks its origin's file: %v", err)
			}
			l.Remove(m)
			l.deleteSnapshot(s.SnapshotId)
			l.Remove(origin)
		}
	}},
	{"UnpublishUnstageUnpublish", func(l *crashLab, tag string) (do, func()) {
		m := l.mounted(tag)
		return func(ctx context.Context) (string, error) { return "", l.Unmount(ctx, l.Site, m) },
			func() { l.deleteVolume(m.Volume.VolumeId) }
	}},
}

func (l *crashLab) creates(r *csi.CreateVolumeRequest) do {
	return func(ctx context.Context) (string, error) {
		reply, err := l.CreateVolume(ctx, r)
		return reply.GetVolume().String(), err
	}
}

// deleteNamed deletes the volume that a create makes, which it finds by
// repeating the create.
func (l *crashLab) deleteNamed(create do) {
	l.T.Helper()
	if _, err := create(l.T.Context()); err != nil {
		l.T.Fatal(err)
	}
	list, err := l.ListVolumes(l.T.Context(), &csi.ListVolumesRequest{})
	lab.Must(l.T, err)
	text, err := create(l.T.Context())
	lab.Must(l.T, err)
	found := false
	for _, e := range list.Entries {
		if e.Volume.String() == text {
			l.deleteVolume(e.Volume.VolumeId)
			found = true
		}
	}
	if !found {
		l.T.Fatalf("%s is not listed", text)
	}
}

// mounted returns a mounted volume with a file in it.
func (l *crashLab) mounted(tag string) *site.Mounted {
	l.T.Helper()
	m := l.Mounted(lab.VolumeRequest(tag, size, site.Filesystem("ext4")))
	l.checkWritable(m)
	return m
}

// checkWritable writes and syncs a file: it would hang on a frozen filesystem.
func (l *crashLab) checkWritable(m *site.Mounted) {
	l.T.Helper()
	f, err := os.Create(filepath.Join(m.Target, "written"))
	lab.Must(l.T, err)
	defer f.Close()
	_, err = f.WriteString("written")
	lab.Must(l.T, err)
	lab.Must(l.T, f.Sync())
}

func (l *crashLab) deleteVolume(id string) {
	l.T.Helper()
	_, err := l.DeleteVolume(l.T.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
	lab.Must(l.T, err)
}

func (l *crashLab) deleteSnapshot(id string) {
	l.T.Helper()
	_, err := l.DeleteSnapshot(l.T.Context(), &csi.DeleteSnapshotRequest{SnapshotId: id})
	lab.Must(l.T, err)
}

func membersOf(g *csi.VolumeGroupSnapshot) (ids []string) {
	for _, s := range g.GetSnapshots() {
		ids = append(ids, s.SnapshotId)
	}
	return ids
}

func (l *crashLab) deleteGroup(g *csi.VolumeGroupSnapshot) {
	l.T.Helper()
	_, err := l.DeleteVolumeGroupSnapshot(l.T.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: g.GetGroupSnapshotId(), SnapshotIds: membersOf(g)})
	lab.Must(l.T, err)
}

// deleteSnapshotsOf deletes a volume's snapshots, of which there must be n.
func (l *crashLab) deleteSnapshotsOf(id string, n int) {
	l.T.Helper()
	list, err := l.ListSnapshots(l.T.Context(), &csi.ListSnapshotsRequest{SourceVolumeId: id})
	lab.Must(l.T, err)
	if len(list.Entries) != n {
		l.T.Fatalf("volume %s has %d snapshots, want %d: %v", id, len(list.Entries), n, list.Entries)
	}
	for _, e := range list.Entries {
		l.deleteSnapshot(e.Snapshot.SnapshotId)
	}
}
