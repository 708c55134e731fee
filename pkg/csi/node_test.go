package csi

import (
	"context"
	"reflect"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/volume"
)

// fakeNode notes what it is asked to do.
type fakeNode struct {
	asked  any
	err    error
	usage  node.Usage
	health []backend.Health
}

func (f *fakeNode) ask(what any) error { f.asked = what; return f.err }

func (f *fakeNode) Stage(_ context.Context, r node.StageRequest) error     { return f.ask(r) }
func (f *fakeNode) Publish(_ context.Context, r node.PublishRequest) error { return f.ask(r) }
func (f *fakeNode) Unstage(_ context.Context, id volume.ID, path string) error {
	return f.ask([2]string{string(id), path})
}
func (f *fakeNode) Unpublish(_ context.Context, id volume.ID, path string) error {
	return f.ask([2]string{string(id), path})
}
func (f *fakeNode) Expand(_ context.Context, r node.ExpandRequest) (int64, error) {
	return 4096, f.ask(r)
}
func (f *fakeNode) Stats(_ context.Context, id volume.ID, path string) (node.Usage, error) {
	return f.usage, f.ask([2]string{string(id), path})
}
func (f *fakeNode) VolumeHealth(_ context.Context, r node.HealthRequest) ([]backend.Health, error) {
	return f.health, f.ask(r)
}
func (f *fakeNode) StorageHealth(context.Context) ([]backend.Health, error) { return f.health, f.err }
func (f *fakeNode) Info(context.Context) (node.Info, error) {
	return node.Info{ID: "node-1", MaxVolumes: 9}, f.err
}

type mode = csi.VolumeCapability_AccessMode_Mode

const (
	nodeWriter  = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	nodeReader  = csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY
	nodeSingle  = csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER
	manyReaders = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	nodeShared  = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
)

func mounted(m mode, fs string, flags ...string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: m},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fs, MountFlags: flags}},
	}
}

func raw(m mode) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: m},
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
	}
}

const (
	stagingPath = "/var/lib/kubelet/staging"
	targetPath  = "/var/lib/kubelet/target"
)

func TestNodeTranslates(t *testing.T) {
	id := volume.NewID()
	readOnly := map[string]string{PublishContextReadOnly: "true"}
	block, mount := true, false
	for name, c := range map[string]struct {
		call func(s *NodeServer) (any, error)
		want any
	}{
		"stage for readers on many nodes": {
			func(s *NodeServer) (any, error) {
				return s.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath, VolumeCapability: mounted(manyReaders, "")})
			},
			node.StageRequest{ID: id, StagingPath: stagingPath, Use: node.Use{ReadOnly: true, Shared: true}},
		},
		"stage": {
			func(s *NodeServer) (any, error) {
				return s.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath, VolumeCapability: mounted(nodeWriter, "xfs", "noatime"), Secrets: map[string]string{"a": "b"}})
			},
			node.StageRequest{ID: id, StagingPath: stagingPath, Use: node.Use{Filesystem: volume.XFS, MountFlags: []string{"noatime"}}, Secrets: volume.Secrets{"a": "b"}},
		},
		"stage with no fs_type": {
			func(s *NodeServer) (any, error) {
				return s.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath, VolumeCapability: mounted(nodeSingle, "")})
			},
			node.StageRequest{ID: id, StagingPath: stagingPath, Use: node.Use{Exclusive: true}},
		},
		"stage what is published read-only": {
			func(s *NodeServer) (any, error) {
				return s.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath, VolumeCapability: raw(nodeWriter), PublishContext: readOnly})
			},
			node.StageRequest{ID: id, StagingPath: stagingPath, Use: node.Use{Block: true, ReadOnly: true}},
		},
		"publish": {
			func(s *NodeServer) (any, error) {
				return s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath, TargetPath: targetPath, VolumeCapability: raw(nodeSingle), PublishContext: map[string]string{"another": "x"}})
			},
			node.PublishRequest{ID: id, StagingPath: stagingPath, TargetPath: targetPath, Use: node.Use{Block: true, Exclusive: true}},
		},
		"publish readonly": {
			func(s *NodeServer) (any, error) {
				return s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath, TargetPath: targetPath, VolumeCapability: mounted(nodeWriter, "ext4"), Readonly: true})
			},
			node.PublishRequest{ID: id, StagingPath: stagingPath, TargetPath: targetPath, Use: node.Use{Filesystem: volume.Ext4, ReadOnly: true}},
		},
		"publish to readers": {
			func(s *NodeServer) (any, error) {
				return s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath, TargetPath: targetPath, VolumeCapability: mounted(nodeReader, "")})
			},
			node.PublishRequest{ID: id, StagingPath: stagingPath, TargetPath: targetPath, Use: node.Use{ReadOnly: true}},
		},
		"unstage": {
			func(s *NodeServer) (any, error) {
				return s.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: string(id), StagingTargetPath: stagingPath})
			},
			[2]string{string(id), stagingPath},
		},
		"unpublish": {
			func(s *NodeServer) (any, error) {
				return s.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: string(id), TargetPath: targetPath})
			},
			[2]string{string(id), targetPath},
		},
		"expand": {
			func(s *NodeServer) (any, error) {
				return s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: string(id), VolumePath: targetPath})
			},
			node.ExpandRequest{ID: id, VolumePath: targetPath},
		},
		"expand a block volume": {
			func(s *NodeServer) (any, error) {
				return s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: string(id), VolumePath: targetPath, VolumeCapability: raw(nodeWriter), CapacityRange: &csi.CapacityRange{RequiredBytes: 1, LimitBytes: 2}})
			},
			node.ExpandRequest{ID: id, VolumePath: targetPath, Block: &block, Range: volume.Range{RequiredBytes: 1, LimitBytes: 2}},
		},
		"expand a filesystem": {
			func(s *NodeServer) (any, error) {
				return s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: string(id), VolumePath: targetPath, VolumeCapability: mounted(nodeWriter, "")})
			},
			node.ExpandRequest{ID: id, VolumePath: targetPath, Block: &mount},
		},
		"health": {
			func(s *NodeServer) (any, error) {
				return s.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: string(id), VolumePublishPath: targetPath, StagingTargetPath: stagingPath})
			},
			node.HealthRequest{ID: id, PublishPath: targetPath, StagingPath: stagingPath},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeNode{}
			if _, err := c.call(NewNodeServer(f)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(f.asked, c.want) {
				t.Errorf("asked %#v, want %#v", f.asked, c.want)
			}
			f.err = fault.New(fault.Corrupt, "rot")
			if _, err := c.call(NewNodeServer(f)); !fault.Is(err, fault.Corrupt) {
				t.Errorf("got %v, want the node's error", err)
			}
		})
	}
}

func TestNodeRefuses(t *testing.T) {
	id := string(volume.NewID())
	stage := func(id, path string, c *csi.VolumeCapability, context map[string]string) func(*NodeServer) error {
		return func(s *NodeServer) error {
			_, err := s.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: id, StagingTargetPath: path, VolumeCapability: c, PublishContext: context})
			return err
		}
	}
	publish := func(id, staging, target string, c *csi.VolumeCapability) func(*NodeServer) error {
		return func(s *NodeServer) error {
			_, err := s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: id, StagingTargetPath: staging, TargetPath: target, VolumeCapability: c})
			return err
		}
	}
	good := mounted(nodeWriter, "ext4")
	group := mounted(nodeWriter, "ext4")
	group.GetMount().VolumeMountGroup = "1000"
	const impossible = "../../etc"
	for name, c := range map[string]struct {
		call func(*NodeServer) error
		kind fault.Kind
		part string
	}{
		"stage: no id":           {stage("", stagingPath, good, nil), fault.Invalid, "volume_id"},
		"stage: no path":         {stage(impossible, "", good, nil), fault.Invalid, "staging_target_path"},
		"stage: no capability":   {stage(impossible, stagingPath, nil, nil), fault.Invalid, "volume_capability"},
		"stage: no access mode":  {stage(id, stagingPath, mounted(0, ""), nil), fault.Invalid, "access_mode"},
		"stage: unknown mode":    {stage(id, stagingPath, mounted(99, ""), nil), fault.Invalid, "access_mode"},
		"stage: many nodes":      {stage(id, stagingPath, mounted(nodeShared, ""), nil), fault.Precondition, "SINGLE_NODE"},
		"stage: no access type":  {stage(id, stagingPath, &csi.VolumeCapability{AccessMode: good.AccessMode}, nil), fault.Invalid, "block or mount"},
		"stage: unknown fs":      {stage(id, stagingPath, mounted(nodeWriter, "ntfs"), nil), fault.Invalid, "fs_type"},
		"stage: mount group":     {stage(id, stagingPath, group, nil), fault.Invalid, "volume_mount_group"},
		"stage: impossible id":   {stage(impossible, "relative", good, nil), fault.NotFound, "no such id"},
		"stage: context":         {stage(id, stagingPath, good, map[string]string{PublishContextReadOnly: "maybe"}), fault.Invalid, "publish_context"},
		"publish: no id":         {publish("", stagingPath, targetPath, good), fault.Invalid, "volume_id"},
		"publish: no path":       {publish(impossible, stagingPath, "", good), fault.Invalid, "target_path"},
		"publish: no capability": {publish(impossible, stagingPath, targetPath, nil), fault.Invalid, "volume_capability"},
		"publish: not staged":    {publish(id, "", targetPath, good), fault.Precondition, "staging_target_path"},
		"publish: impossible id": {publish(impossible, "", targetPath, good), fault.NotFound, "no such id"},
		"unstage: no id": {func(s *NodeServer) error {
			_, err := s.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{StagingTargetPath: stagingPath})
			return err
		}, fault.Invalid, "volume_id"},
		"unstage: no path": {func(s *NodeServer) error {
			_, err := s.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: impossible})
			return err
		}, fault.Invalid, "staging_target_path"},
		"unstage: impossible id": {func(s *NodeServer) error {
			_, err := s.NodeUnstageVolume(t.Context(), &csi.NodeUnstageVolumeRequest{VolumeId: impossible, StagingTargetPath: "x"})
			return err
		}, fault.NotFound, "no such id"},
		"unpublish: no path": {func(s *NodeServer) error {
			_, err := s.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: impossible})
			return err
		}, fault.Invalid, "target_path"},
		"unpublish: impossible id": {func(s *NodeServer) error {
			_, err := s.NodeUnpublishVolume(t.Context(), &csi.NodeUnpublishVolumeRequest{VolumeId: impossible, TargetPath: "x"})
			return err
		}, fault.NotFound, "no such id"},
		"expand: no path": {func(s *NodeServer) error {
			_, err := s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: id, VolumeCapability: good})
			return err
		}, fault.Invalid, "volume_path"},
		"expand: many nodes": {func(s *NodeServer) error {
			_, err := s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: id, VolumePath: targetPath, VolumeCapability: mounted(nodeShared, "")})
			return err
		}, fault.Invalid, "SINGLE_NODE"},
		"stats: impossible id": {func(s *NodeServer) error {
			_, err := s.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: impossible, VolumePath: "some/path"})
			return err
		}, fault.NotFound, "no such id"},
		"health: no id": {func(s *NodeServer) error {
			_, err := s.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{})
			return err
		}, fault.Invalid, "volume_id"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeNode{}
			err := c.call(NewNodeServer(f))
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), c.kind, c.part)
			}
			if f.asked != nil {
				t.Errorf("the node was asked %#v", f.asked)
			}
		})
	}
}

func TestNodeTellsOfItself(t *testing.T) {
	f := &fakeNode{}
	s := NewNodeServer(f)
	info, err := s.NodeGetInfo(t.Context(), nil)
	if err != nil || info.NodeId != "node-1" || info.MaxVolumesPerNode != 9 || info.AccessibleTopology.Segments[TopologyKey] != "node-1" {
		t.Errorf("info %v, %v", info, err)
	}
	capabilities, err := s.NodeGetCapabilities(t.Context(), nil)
	if err != nil || len(capabilities.Capabilities) != len(nodeCapabilities) {
		t.Errorf("capabilities %v, %v", capabilities, err)
	}
	f.health = []backend.Health{
		{Severity: backend.DataLoss, Reason: "Rot", Message: "m"},
		{Severity: backend.Inaccessible, Reason: "Rot", Message: "other"},
		{Severity: backend.Degraded, Reason: "Slow"},
	}
	storage, err := s.NodeGetStorageHealth(t.Context(), nil)
	if err != nil || len(storage.BackendHealth) != 2 || storage.BackendHealth[0].Status != csi.StorageHealthErrorType_STORAGE_UNREACHABLE || storage.BackendHealth[1].Status != csi.StorageHealthErrorType_STORAGE_DEGRADED {
		t.Errorf("storage health %v, %v: want one for each status and reason", storage, err)
	}
	id := volume.NewID()
	health, err := s.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: string(id)})
	if err != nil || health.VolumeHealth.GetVolumeId() != string(id) || len(health.VolumeHealth.HealthStatuses) != 3 || health.VolumeHealth.HealthStatuses[0].Status != csi.VolumeHealthErrorType_DATA_LOSS {
		t.Errorf("volume health %v, %v", health, err)
	}
	f.usage = node.Usage{Block: true, Bytes: node.Amount{Total: 5}}
	stats, err := s.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: string(id), VolumePath: targetPath})
	if err != nil || len(stats.Usage) != 1 || stats.Usage[0].Total != 5 || stats.Usage[0].Unit != csi.VolumeUsage_BYTES {
		t.Errorf("stats %v, %v", stats, err)
	}
	f.usage = node.Usage{Bytes: node.Amount{Total: 5, Used: 2, Available: 3}, Inodes: node.Amount{Total: 7, Used: 3, Available: 4}}
	stats, err = s.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: string(id), VolumePath: targetPath})
	if err != nil || len(stats.Usage) != 2 || stats.Usage[1].Unit != csi.VolumeUsage_INODES || stats.Usage[1].Used != 3 {
		t.Errorf("stats %v, %v", stats, err)
	}
}
