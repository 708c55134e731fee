package e2e

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// bad is a call that is refused, or that has nothing to do: which code it gets,
// and what its message says.
type bad struct {
	name  string
	call  func(context.Context) error
	code  codes.Code
	words []string
}

// badLab is a site with a volume that is staged and published, one that is not,
// and a snapshot.
type badLab struct {
	*lab.Lab
	mounted *site.Mounted
	plain   *csi.Volume
	cut     *csi.Snapshot
}

// TestBadInput makes every kind of bad call against real processes: each gets
// its code and a message that names the field, and changes nothing.
func TestBadInput(t *testing.T) {
	l := &badLab{Lab: lab.Start(t, lab.Pool(program, volume.XFSPool, 2*lab.GiB))}
	l.mounted = l.Mounted(lab.VolumeRequest("mounted", 16*lab.MiB, site.Filesystem("ext4")))
	l.plain = l.Volume(lab.VolumeRequest("plain", 16*lab.MiB, site.Block()))
	l.cut = l.Lab.Snapshot(l.plain.VolumeId, "snapshot")
	var rows []bad
	for _, more := range [][]bad{l.badSizes(), l.badParameters(), l.badCapabilities(), l.badTokens(), l.badPaths()} {
		rows = append(rows, more...)
	}
	for i, id := range badIDs() {
		rows = append(rows, l.badID(i, id)...)
	}
	before := l.state()
	for _, row := range rows {
		t.Run(row.name, func(t *testing.T) {
			lab.WantCode(t, row.call(t.Context()), row.code, row.words...)
			if after := l.state(); after != before {
				t.Fatalf("it changed something; before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// state is everything that a call could change: what is listed, the records, the
// files of the pool, the mounts and the devices, and what is in kubelet's
// directory.
func (l *badLab) state() string {
	l.T.Helper()
	volumes, err := l.ListVolumes(l.T.Context(), &csi.ListVolumesRequest{})
	lab.Must(l.T, err)
	snapshots, err := l.ListSnapshots(l.T.Context(), &csi.ListSnapshotsRequest{})
	lab.Must(l.T, err)
	var b strings.Builder
	fmt.Fprintln(&b, volumes, snapshots, l.Leftovers())
	lab.Must(l.T, filepath.WalkDir(l.Kubelet, func(path string, e fs.DirEntry, err error) error {
		if err == nil {
			fmt.Fprintln(&b, path, e.Type())
		}
		return err
	}))
	return b.String()
}

func (l *badLab) creates(change func(*csi.CreateVolumeRequest)) func(context.Context) error {
	r := lab.VolumeRequest("bad", 16*lab.MiB, site.Filesystem("ext4"))
	change(r)
	return func(ctx context.Context) error { _, err := l.CreateVolume(ctx, r); return err }
}

func (l *badLab) badSizes() (rows []bad) {
	const limit, required = "capacity_range.limit_bytes", "capacity_range.required_bytes"
	for _, c := range []struct {
		name            string
		required, limit int64
		created, grown  codes.Code // of a new volume, and of one that is to grow
		words           []string
	}{
		{"nothing", 0, 0, codes.InvalidArgument, codes.InvalidArgument, []string{"capacity_range"}},
		{"negative", -1, 0, codes.InvalidArgument, codes.InvalidArgument, []string{required, "-1"}},
		{"negative limit", 0, -4096, codes.InvalidArgument, codes.InvalidArgument, []string{limit, "-4096"}},
		{"limit below required", 64 * lab.MiB, 32 * lab.MiB, codes.InvalidArgument, codes.InvalidArgument, []string{limit}},
		{"odd, and no room to round", 32*lab.MiB + 1, 32*lab.MiB + 1, codes.OutOfRange, codes.OutOfRange, []string{limit, "4096"}},
		{"limit below the least", 1, 4096, codes.OutOfRange, codes.OutOfRange, []string{limit}},
		{"beyond any volume", 1<<62 + 1, 0, codes.OutOfRange, codes.OutOfRange, []string{required}},
		{"beyond capacity", 100 * lab.GiB, 0, codes.ResourceExhausted, codes.ResourceExhausted, []string{"xfs"}},
	} {
		size := &csi.CapacityRange{RequiredBytes: c.required, LimitBytes: c.limit}
		rows = append(rows,
			bad{"create/" + c.name, l.creates(func(r *csi.CreateVolumeRequest) { r.CapacityRange = size }), c.created, c.words},
			bad{"restore/" + c.name, l.creates(func(r *csi.CreateVolumeRequest) {
				r.CapacityRange, r.VolumeContentSource = size, lab.FromSnapshot(l.cut.SnapshotId)
			}), c.created, c.words},
			bad{"expand/" + c.name, func(ctx context.Context) error {
				_, err := l.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: l.plain.VolumeId, CapacityRange: size})
				return err
			}, c.grown, c.words})
	}
	return append(rows, bad{"restore/too small", l.creates(func(r *csi.CreateVolumeRequest) {
		r.CapacityRange, r.VolumeContentSource = &csi.CapacityRange{RequiredBytes: 4 * lab.MiB, LimitBytes: 4 * lab.MiB}, lab.FromSnapshot(l.cut.SnapshotId)
		r.VolumeCapabilities = []*csi.VolumeCapability{site.Block()}
	}), codes.OutOfRange, []string{"capacity_range"}})
}

func (l *badLab) badParameters() (rows []bad) {
	for _, c := range []struct{ key, value string }{
		{"encryption", "luks"}, {"encryption", ""}, {"unknown", "1"}, {"Provisioning", "thin"}, {"backend", "cloud"}, {"cacheSize", "full"}, {"pool", "no/pool"},
		{"poolType", "zfs"}, {"provisioning", "sparse"}, {"maxSnapshotPause", "never"}, {"maxSnapshotPause", "-1s"}, {"csi.storage.k8s.io", "x"},
	} {
		rows = append(rows, bad{"parameter/" + c.key + "=" + c.value, l.creates(func(r *csi.CreateVolumeRequest) {
			// The sidecars' own keys are let pass beside it.
			r.Parameters = map[string]string{c.key: c.value, "csi.storage.k8s.io/pvc/name": "claim", "storage.kubernetes.io/x": "y"}
		}), codes.InvalidArgument, []string{c.key}})
		rows = append(rows, bad{"snapshot parameter/" + c.key + "=" + c.value, func(ctx context.Context) error {
			_, err := l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "bad", SourceVolumeId: l.plain.VolumeId, Parameters: map[string]string{c.key: c.value}})
			return err
		}, codes.InvalidArgument, []string{c.key}})
		rows = append(rows, bad{"mutable/" + c.key + "=" + c.value, func(ctx context.Context) error {
			_, err := l.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: l.plain.VolumeId, MutableParameters: map[string]string{c.key: c.value}})
			return err
		}, codes.InvalidArgument, []string{c.key}})
	}
	return append(rows,
		bad{"a pool that does not exist", l.creates(func(r *csi.CreateVolumeRequest) { r.Parameters["pool"] = "other" }), codes.ResourceExhausted, []string{"pool"}},
		bad{"a pool type that does not exist", l.creates(func(r *csi.CreateVolumeRequest) { r.Parameters["poolType"] = "btrfs" }), codes.ResourceExhausted, []string{"poolType"}},
		bad{"thick to thin", func(ctx context.Context) error {
			_, err := l.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: l.plain.VolumeId, MutableParameters: map[string]string{"provisioning": "thin"}})
			return err
		}, codes.InvalidArgument, []string{"provisioning", "thick"}},
		bad{"no name", l.creates(func(r *csi.CreateVolumeRequest) { r.Name = "" }), codes.InvalidArgument, []string{"name"}},
		bad{"a name with a control character", l.creates(func(r *csi.CreateVolumeRequest) { r.Name = "a\x00b" }), codes.InvalidArgument, []string{"name"}},
		bad{"a long name", l.creates(func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("n", 129) }), codes.InvalidArgument, []string{"name", "128"}},
		bad{"another size under a name", l.creates(func(r *csi.CreateVolumeRequest) { r.Name, r.CapacityRange.RequiredBytes = "plain", 64*lab.MiB }), codes.AlreadyExists, []string{"capacity_range"}},
		bad{"another source under a name", l.creates(func(r *csi.CreateVolumeRequest) {
			r.Name, r.VolumeContentSource = "plain", lab.FromSnapshot(l.cut.SnapshotId)
		}), codes.AlreadyExists, []string{"volume_content_source"}},
	)
}

// mode is a capability with an access mode.
func mode(m csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	c := site.Filesystem("ext4")
	c.AccessMode.Mode = m
	return c
}

func (l *badLab) badCapabilities() (rows []bad) {
	for _, c := range []struct {
		name       string
		capability *csi.VolumeCapability
		node       codes.Code // the Node service has a code of its own for what a volume cannot have
		word       string
	}{
		{"none", nil, codes.InvalidArgument, "access_mode"},
		{"no mode", mode(csi.VolumeCapability_AccessMode_UNKNOWN), codes.InvalidArgument, "access_mode"},
		{"unknown mode", mode(99), codes.InvalidArgument, "access_mode"},
		{"many writers", mode(csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER), codes.FailedPrecondition, "access_mode"},
		{"many readers", mode(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY), codes.FailedPrecondition, "access_mode"},
		{"no type", &csi.VolumeCapability{AccessMode: site.Block().AccessMode}, codes.InvalidArgument, "access_type"},
		{"unknown filesystem", site.Filesystem("ntfs"), codes.InvalidArgument, "fs_type"},
		{"path as filesystem", site.Filesystem("../ext4"), codes.InvalidArgument, "fs_type"},
		{"upper case filesystem", site.Filesystem("EXT4"), codes.InvalidArgument, "fs_type"},
	} {
		rows = append(rows,
			bad{"create/" + c.name, l.creates(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = []*csi.VolumeCapability{c.capability} }), codes.InvalidArgument, []string{c.word}},
			bad{"publish/" + c.name, func(ctx context.Context) error {
				_, err := l.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: l.plain.VolumeId, NodeId: string(l.Node), VolumeCapability: c.capability})
				return err
			}, codes.InvalidArgument, []string{c.word}},
			bad{"stage/" + c.name, func(ctx context.Context) error {
				_, err := l.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: l.plain.VolumeId, StagingTargetPath: l.Kubelet, VolumeCapability: c.capability})
				return err
			}, c.node, []string{c.word}})
	}
	flags := site.Filesystem("ext4")
	flags.GetMount().MountFlags = []string{"noatime", "bind"}
	return append(rows,
		bad{"create/no capabilities", l.creates(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = nil }), codes.InvalidArgument, []string{"volume_capabilities"}},
		bad{"create/both types", l.creates(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = append(r.VolumeCapabilities, site.Block()) }), codes.InvalidArgument, []string{"access_type"}},
		bad{"create/mount flags", l.creates(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = []*csi.VolumeCapability{flags} }), codes.InvalidArgument, []string{"mount_flags", "bind"}},
	)
}

func (l *badLab) badTokens() (rows []bad) {
	for i, token := range []string{"nonsense", "v1.", "../x", "\x00", strings.Repeat("t", 10000), "v-" + strings.Repeat("a", 25) + "b"} {
		rows = append(rows,
			bad{fmt.Sprint("ListVolumes/token ", i), func(ctx context.Context) error {
				_, err := l.ListVolumes(ctx, &csi.ListVolumesRequest{StartingToken: token})
				return err
			}, codes.Aborted, []string{"starting_token"}},
			bad{fmt.Sprint("ListSnapshots/token ", i), func(ctx context.Context) error {
				_, err := l.ListSnapshots(ctx, &csi.ListSnapshotsRequest{StartingToken: token})
				return err
			}, codes.Aborted, []string{"starting_token"}},
			bad{fmt.Sprint("ListVolumeHealth/token ", i), func(ctx context.Context) error {
				_, err := l.ControllerListVolumeHealth(ctx, &csi.ControllerListVolumeHealthRequest{StartingToken: token})
				return err
			}, codes.Aborted, []string{"starting_token"}})
	}
	return append(rows,
		bad{"ListVolumes/entries", func(ctx context.Context) error {
			_, err := l.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: -1})
			return err
		}, codes.InvalidArgument, []string{"max_entries", "-1"}},
		bad{"ListSnapshots/entries", func(ctx context.Context) error {
			_, err := l.ListSnapshots(ctx, &csi.ListSnapshotsRequest{MaxEntries: -1})
			return err
		}, codes.InvalidArgument, []string{"max_entries", "-1"}})
}

func (l *badLab) badPaths() (rows []bad) {
	outside, link, below := filepath.Join(l.Dir, "outside"), filepath.Join(l.Kubelet, "link"), filepath.Join(l.Kubelet, "linked")
	lab.Must(l.T, os.Mkdir(outside, 0o755))
	lab.Must(l.T, os.Symlink(filepath.Join(l.Dir, "nowhere"), link))
	lab.Must(l.T, os.Symlink(outside, below))
	id := l.mounted.Volume.VolumeId
	for _, path := range []string{
		"relative", outside, "/", "/etc", l.Kubelet, l.Kubelet + "/../outside", l.Kubelet + "/a/./b", l.Kubelet + "//x",
		l.Kubelet + "/x/", l.Kubelet + "-other/x", link, below + "/x", l.Kubelet + "/a\nb", l.Kubelet + "/" + strings.Repeat("p", 300), "/" + strings.Repeat("p/", 3000),
	} {
		name := path[:min(len(path), 60)]
		target := []string{"target_path"}
		rows = append(rows,
			bad{"publish at " + name, func(ctx context.Context) error {
				m := *l.mounted
				_, err := l.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: m.Staging, TargetPath: path, VolumeCapability: m.Capability})
				return err
			}, codes.InvalidArgument, target},
			bad{"unpublish at " + name, func(ctx context.Context) error {
				_, err := l.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: id, TargetPath: path})
				return err
			}, codes.InvalidArgument, target},
			bad{"stage at " + name, func(ctx context.Context) error {
				_, err := l.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: l.plain.VolumeId, StagingTargetPath: path, VolumeCapability: site.Block()})
				return err
			}, codes.InvalidArgument, []string{"staging_target_path"}},
			bad{"unstage at " + name, func(ctx context.Context) error {
				_, err := l.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: id, StagingTargetPath: path})
				return err
			}, codes.InvalidArgument, []string{"staging_target_path"}},
			// Where the specification knows NotFound alone.
			bad{"stats at " + name, func(ctx context.Context) error {
				_, err := l.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: path})
				return err
			}, codes.NotFound, []string{"volume_path"}})
	}
	return rows
}

// badIDs are ids that Holkas cannot have made, and last one that it could.
func badIDs() []string {
	return []string{
		"x", "..", "../../etc/passwd", "/", "a/b", "v-", "a\x00b", "a\nb", "\u202e", strings.Repeat("x", 129), strings.Repeat("y", 100_000),
		"V-" + strings.Repeat("A", 26), string(volume.NewID()) + "/..", string(volume.NewID()),
	}
}

// badID makes every call for an id that does not exist: OK where something is
// taken away, NotFound elsewhere. The id is looked at before the path.
func (l *badLab) badID(i int, id string) (rows []bad) {
	row := func(call string, code codes.Code, do func(context.Context) error) {
		rows = append(rows, bad{fmt.Sprintf("%s/id %d", call, i), do, code, nil})
	}
	block, handle := site.Block(), id
	if _, err := volume.ParseID(id); err == nil {
		handle = string(volume.NewRepositoryID()) + "/" + string(volume.NewSnapshotID())
	}
	row("DeleteVolume", codes.OK, func(ctx context.Context) error {
		_, err := l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	})
	row("Unpublish", codes.OK, func(ctx context.Context) error {
		_, err := l.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: string(l.Node)})
		return err
	})
	row("DeleteSnapshot", codes.OK, func(ctx context.Context) error {
		_, err := l.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: handle})
		return err
	})
	row("DeleteGroup", codes.OK, func(ctx context.Context) error {
		_, err := l.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: handle, SnapshotIds: []string{handle}})
		return err
	})
	row("ListSnapshots", codes.OK, func(ctx context.Context) error {
		for _, r := range []*csi.ListSnapshotsRequest{{SnapshotId: handle}, {SourceVolumeId: id}} {
			list, err := l.ListSnapshots(ctx, r)
			if err == nil && len(list.Entries) > 0 {
				err = fmt.Errorf("%q has snapshots %v", r, list.Entries)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	row("GetVolume", codes.NotFound, func(ctx context.Context) error {
		_, err := l.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: id})
		return err
	})
	row("Publish", codes.NotFound, func(ctx context.Context) error {
		_, err := l.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: string(l.Node), VolumeCapability: block})
		return err
	})
	row("Publish to node", codes.NotFound, func(ctx context.Context) error {
		_, err := l.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: l.plain.VolumeId, NodeId: id, VolumeCapability: block})
		return err
	})
	row("Validate", codes.NotFound, func(ctx context.Context) error {
		_, err := l.ValidateVolumeCapabilities(ctx, &csi.ValidateVolumeCapabilitiesRequest{VolumeId: id, VolumeCapabilities: []*csi.VolumeCapability{block}})
		return err
	})
	row("Expand", codes.NotFound, func(ctx context.Context) error {
		_, err := l.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: &csi.CapacityRange{RequiredBytes: lab.GiB}})
		return err
	})
	row("Modify", codes.NotFound, func(ctx context.Context) error {
		_, err := l.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: map[string]string{volume.ParamMaxSnapshotPause: "1s"}})
		return err
	})
	row("Health", codes.NotFound, func(ctx context.Context) error {
		_, err := l.ControllerGetVolumeHealth(ctx, &csi.ControllerGetVolumeHealthRequest{VolumeId: id})
		return err
	})
	row("CreateSnapshot", codes.NotFound, func(ctx context.Context) error {
		_, err := l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "bad", SourceVolumeId: id})
		return err
	})
	row("GetSnapshot", codes.NotFound, func(ctx context.Context) error {
		_, err := l.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: handle})
		return err
	})
	row("Restore", codes.NotFound, l.creates(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = lab.FromSnapshot(handle) }))
	row("Clone", codes.NotFound, l.creates(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = lab.FromVolume(id) }))
	row("CreateGroup", codes.NotFound, func(ctx context.Context) error {
		_, err := l.CreateVolumeGroupSnapshot(ctx, &csi.CreateVolumeGroupSnapshotRequest{Name: "bad", SourceVolumeIds: []string{l.plain.VolumeId, id}})
		return err
	})
	row("GetGroup", codes.NotFound, func(ctx context.Context) error {
		_, err := l.GetVolumeGroupSnapshot(ctx, &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: handle, SnapshotIds: []string{l.cut.SnapshotId}})
		return err
	})
	row("Allocated", codes.NotFound, func(ctx context.Context) error {
		stream, err := l.GetMetadataAllocated(ctx, &csi.GetMetadataAllocatedRequest{SnapshotId: handle})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	})
	row("Delta", codes.NotFound, func(ctx context.Context) error {
		stream, err := l.GetMetadataDelta(ctx, &csi.GetMetadataDeltaRequest{BaseSnapshotId: l.cut.SnapshotId, TargetSnapshotId: handle})
		if err == nil {
			_, err = stream.Recv()
		}
		return err
	})
	// A path outside of the kubelet's directory, which is not looked at.
	row("NodeStage", codes.NotFound, func(ctx context.Context) error {
		_, err := l.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: l.staging(id), VolumeCapability: block})
		return err
	})
	row("NodePublish", codes.NotFound, func(ctx context.Context) error {
		_, err := l.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: l.staging(id), TargetPath: l.staging(id), VolumeCapability: block})
		return err
	})
	row("NodeExpand", codes.NotFound, func(ctx context.Context) error {
		_, err := l.NodeExpandVolume(ctx, &csi.NodeExpandVolumeRequest{VolumeId: id, VolumePath: l.staging(id)})
		return err
	})
	row("NodeStats", codes.NotFound, func(ctx context.Context) error {
		_, err := l.NodeGetVolumeStats(ctx, &csi.NodeGetVolumeStatsRequest{VolumeId: id, VolumePath: l.staging(id)})
		return err
	})
	row("NodeHealth", codes.NotFound, func(ctx context.Context) error {
		_, err := l.NodeGetVolumeHealth(ctx, &csi.NodeGetVolumeHealthRequest{VolumeId: id, VolumePublishPath: l.staging(id)})
		return err
	})
	return rows
}

// staging is a path for a volume that does not exist. That of an id which cannot
// be is outside of the kubelet's directory, and is not looked at.
func (l *badLab) staging(id string) string {
	if _, err := volume.ParseID(id); err != nil {
		return "/etc"
	}
	return l.Kubelet + "/pods"
}

// TestNoID: an id that is required and empty is said to be missing.
func TestNoID(t *testing.T) {
	l := lab.Start(t, lab.Pool(program, volume.XFSPool, lab.GiB))
	ctx := t.Context()
	_, err := l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{})
	lab.WantCode(t, err, codes.InvalidArgument, "volume_id")
	_, err = l.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{})
	lab.WantCode(t, err, codes.InvalidArgument, "volume_id")
	_, err = l.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{})
	lab.WantCode(t, err, codes.InvalidArgument, "snapshot_id")
	_, err = l.GetSnapshot(ctx, &csi.GetSnapshotRequest{})
	lab.WantCode(t, err, codes.InvalidArgument, "snapshot_id")
	_, err = l.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{})
	lab.WantCode(t, err, codes.InvalidArgument, "group_snapshot_id")
	_, err = l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "x"})
	lab.WantCode(t, err, codes.InvalidArgument, "source_volume_id")
	_, err = l.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{StagingTargetPath: l.Kubelet + "/x"})
	lab.WantCode(t, err, codes.InvalidArgument, "volume_id")
	_, err = l.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: "x"})
	lab.WantCode(t, err, codes.InvalidArgument, "target_path")
}
