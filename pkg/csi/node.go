package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Node is what a node does; *node.Node does it.
type Node interface {
	Stage(ctx context.Context, r node.StageRequest) error
	Unstage(ctx context.Context, id volume.ID, stagingPath string) error
	Publish(ctx context.Context, r node.PublishRequest) error
	Unpublish(ctx context.Context, id volume.ID, targetPath string) error
	Expand(ctx context.Context, r node.ExpandRequest) (int64, error)
	Stats(ctx context.Context, id volume.ID, path string) (node.Usage, error)
	VolumeHealth(ctx context.Context, r node.HealthRequest) ([]backend.Health, error)
	StorageHealth(ctx context.Context) ([]backend.Health, error)
	Info(ctx context.Context) (node.Info, error)
}

// NodeServer is the CSI Node service. A field that the specification requires is
// looked for first, then the id (one that Holkas cannot have made is a volume
// that does not exist), then everything else.
type NodeServer struct {
	csi.UnimplementedNodeServer
	node Node
}

// NewNodeServer makes the Node service on top of a node.
func NewNodeServer(n Node) *NodeServer { return &NodeServer{node: n} }

// nodeCapabilities are what the service has. VOLUME_MOUNT_GROUP is not among
// them: neither ext4 nor XFS nor btrfs can be mounted for a group, and the
// kubelet then applies fsGroup itself.
var nodeCapabilities = []csi.NodeServiceCapability_RPC_Type{
	csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
	csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
	csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
	csi.NodeServiceCapability_RPC_GET_STORAGE_HEALTH,
}

// NodeGetCapabilities says what the service has.
func (s *NodeServer) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	reply := &csi.NodeGetCapabilitiesResponse{}
	for _, c := range nodeCapabilities {
		reply.Capabilities = append(reply.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: c}},
		})
	}
	return reply, nil
}

// NodeGetInfo says which node this is.
func (s *NodeServer) NodeGetInfo(ctx context.Context, _ *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	info, err := s.node.Info(ctx)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetInfoResponse{
		NodeId: string(info.ID), MaxVolumesPerNode: info.MaxVolumes,
		AccessibleTopology: &csi.Topology{Segments: map[string]string{TopologyKey: string(info.ID)}},
	}, nil
}

// NodeStageVolume attaches, formats, checks and mounts a volume.
func (s *NodeServer) NodeStageVolume(ctx context.Context, r *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	if err := required(field{"volume_id", r.GetVolumeId()}, field{"staging_target_path", r.GetStagingTargetPath()}); err != nil {
		return nil, err
	}
	use, err := useOf(r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	id, err := volume.ParseID(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if use.ReadOnly, err = publishedReadOnly(r.GetPublishContext(), use.ReadOnly); err != nil {
		return nil, err
	}
	err = s.node.Stage(ctx, node.StageRequest{ID: id, StagingPath: r.GetStagingTargetPath(), Use: use, Secrets: r.GetSecrets()})
	if err != nil {
		return nil, err
	}
	return &csi.NodeStageVolumeResponse{}, nil
}

// NodeUnstageVolume unmounts and detaches a volume.
func (s *NodeServer) NodeUnstageVolume(ctx context.Context, r *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	id, err := volumeAt(r.GetVolumeId(), field{"staging_target_path", r.GetStagingTargetPath()})
	if err != nil {
		return nil, err
	}
	if err := s.node.Unstage(ctx, id, r.GetStagingTargetPath()); err != nil {
		return nil, err
	}
	return &csi.NodeUnstageVolumeResponse{}, nil
}

// NodePublishVolume shows a staged volume at a target path.
func (s *NodeServer) NodePublishVolume(ctx context.Context, r *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	if err := required(field{"volume_id", r.GetVolumeId()}, field{"target_path", r.GetTargetPath()}); err != nil {
		return nil, err
	}
	use, err := useOf(r.GetVolumeCapability())
	if err != nil {
		return nil, err
	}
	id, err := volume.ParseID(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if r.GetStagingTargetPath() == "" {
		return nil, fault.New(fault.Precondition, "staging_target_path: empty: want the path at which the volume is staged")
	}
	if use.ReadOnly, err = publishedReadOnly(r.GetPublishContext(), use.ReadOnly || r.GetReadonly()); err != nil {
		return nil, err
	}
	err = s.node.Publish(ctx, node.PublishRequest{ID: id, StagingPath: r.GetStagingTargetPath(), TargetPath: r.GetTargetPath(), Use: use})
	if err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, nil
}

// NodeUnpublishVolume takes a volume away from a target path.
func (s *NodeServer) NodeUnpublishVolume(ctx context.Context, r *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	id, err := volumeAt(r.GetVolumeId(), field{"target_path", r.GetTargetPath()})
	if err != nil {
		return nil, err
	}
	if err := s.node.Unpublish(ctx, id, r.GetTargetPath()); err != nil {
		return nil, err
	}
	return &csi.NodeUnpublishVolumeResponse{}, nil
}

// NodeExpandVolume grows a volume's filesystem to its device.
func (s *NodeServer) NodeExpandVolume(ctx context.Context, r *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	id, err := volumeAt(r.GetVolumeId(), field{"volume_path", r.GetVolumePath()})
	if err != nil {
		return nil, err
	}
	request := node.ExpandRequest{ID: id, VolumePath: r.GetVolumePath(), Range: volume.Range{
		RequiredBytes: r.GetCapacityRange().GetRequiredBytes(), LimitBytes: r.GetCapacityRange().GetLimitBytes(),
	}}
	if c := r.GetVolumeCapability(); c != nil {
		use, err := useOf(c)
		if err != nil {
			return nil, fault.As(fault.Invalid, err)
		}
		request.Block = &use.Block
	}
	sizeBytes, err := s.node.Expand(ctx, request)
	if err != nil {
		return nil, err
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: sizeBytes}, nil
}
