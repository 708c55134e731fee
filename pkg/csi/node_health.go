package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/volume"
)

// NodeGetVolumeStats says how much of a volume is in use.
func (s *NodeServer) NodeGetVolumeStats(ctx context.Context, r *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	id, err := volumeAt(r.GetVolumeId(), field{"volume_path", r.GetVolumePath()})
	if err != nil {
		return nil, err
	}
	usage, err := s.node.Stats(ctx, id, r.GetVolumePath())
	if err != nil {
		return nil, err
	}
	reply := &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{usageOf(csi.VolumeUsage_BYTES, usage.Bytes)}}
	if usage.Inodes.Total > 0 {
		reply.Usage = append(reply.Usage, usageOf(csi.VolumeUsage_INODES, usage.Inodes))
	}
	return reply, nil
}

func usageOf(unit csi.VolumeUsage_Unit, a node.Amount) *csi.VolumeUsage {
	return &csi.VolumeUsage{Unit: unit, Total: max(a.Total, 0), Used: max(a.Used, 0), Available: max(a.Available, 0)}
}

// NodeGetVolumeHealth says what is wrong with a volume as this node sees it.
func (s *NodeServer) NodeGetVolumeHealth(ctx context.Context, r *csi.NodeGetVolumeHealthRequest) (*csi.NodeGetVolumeHealthResponse, error) {
	if err := required(field{"volume_id", r.GetVolumeId()}); err != nil {
		return nil, err
	}
	id, err := volume.ParseID(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	health, err := s.node.VolumeHealth(ctx, node.HealthRequest{ID: id, PublishPath: r.GetVolumePublishPath(), StagingPath: r.GetStagingTargetPath()})
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeHealthResponse{VolumeHealth: volumeHealth(id, health)}, nil
}

// NodeGetStorageHealth says what is wrong with the storage of this node.
func (s *NodeServer) NodeGetStorageHealth(ctx context.Context, _ *csi.NodeGetStorageHealthRequest) (*csi.NodeGetStorageHealthResponse, error) {
	health, err := s.node.StorageHealth(ctx)
	if err != nil {
		return nil, err
	}
	reply := &csi.NodeGetStorageHealthResponse{}
	for _, h := range distinct(health, storageSeverity) {
		reply.BackendHealth = append(reply.BackendHealth, &csi.NodeGetStorageHealthResponse_StorageBackendHealth{
			Status: storageSeverity(h.Severity), Reason: h.Reason, Message: h.Message,
		})
	}
	return reply, nil
}

func storageSeverity(s backend.Severity) csi.StorageHealthErrorType {
	if s == backend.Degraded {
		return csi.StorageHealthErrorType_STORAGE_DEGRADED
	}
	return csi.StorageHealthErrorType_STORAGE_UNREACHABLE
}

// volumeAt checks that an id and a path are given, and reads the id.
func volumeAt(id string, path field) (volume.ID, error) {
	if err := required(field{"volume_id", id}, path); err != nil {
		return "", err
	}
	return volume.ParseID(id)
}
