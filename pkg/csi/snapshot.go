package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateSnapshot cuts a snapshot of a volume.
func (s *ControllerServer) CreateSnapshot(ctx context.Context, r *csi.CreateSnapshotRequest) (*csi.CreateSnapshotResponse, error) {
	request, err := cutOf(r)
	if err != nil {
		return nil, err
	}
	snapshot, err := s.service.CreateSnapshot(ctx, request)
	if err != nil {
		return nil, err
	}
	return &csi.CreateSnapshotResponse{Snapshot: snapshotReply(s.service, snapshot)}, nil
}

// cutOf reads a request for a snapshot.
func cutOf(r *csi.CreateSnapshotRequest) (request controller.CreateSnapshotRequest, err error) {
	if err := required(field{"name", r.GetName()}, field{"source_volume_id", r.GetSourceVolumeId()}); err != nil {
		return request, err
	}
	if err := checkName(r.GetName()); err != nil {
		return request, err
	}
	id, err := volume.ParseID(r.GetSourceVolumeId())
	if err != nil {
		return request, fault.Wrap(err, "", "source_volume_id")
	}
	consistency, err := volume.ParseConsistency(r.GetParameters())
	if err != nil {
		return request, err
	}
	topology, err := topologyOf(r.GetAccessibilityRequirements())
	return controller.CreateSnapshotRequest{
		Name: r.GetName(), Volume: id, Consistency: consistency, Topology: topology, Secrets: r.GetSecrets(),
	}, err
}

// DeleteSnapshot deletes a snapshot.
func (s *ControllerServer) DeleteSnapshot(ctx context.Context, r *csi.DeleteSnapshotRequest) (*csi.DeleteSnapshotResponse, error) {
	h, err := snapshotOf("snapshot_id", r.GetSnapshotId())
	if err == nil {
		err = s.service.DeleteSnapshot(ctx, h)
	}
	if err := deleted(err); err != nil {
		return nil, err
	}
	return &csi.DeleteSnapshotResponse{}, nil
}

// GetSnapshot tells of one snapshot.
func (s *ControllerServer) GetSnapshot(ctx context.Context, r *csi.GetSnapshotRequest) (*csi.GetSnapshotResponse, error) {
	h, err := snapshotOf("snapshot_id", r.GetSnapshotId())
	if err != nil {
		return nil, err
	}
	snapshot, err := s.service.Snapshot(ctx, h)
	if err == nil {
		err = s.service.CheckKey(ctx, snapshot, r.GetSecrets())
	}
	if err != nil {
		return nil, err
	}
	return &csi.GetSnapshotResponse{Snapshot: snapshotReply(s.service, snapshot)}, nil
}

// snapshotOf reads the id of a snapshot.
func snapshotOf(name, id string) (volume.Handle, error) {
	if err := required(field{name, id}); err != nil {
		return volume.Handle{}, err
	}
	h, err := volume.ParseHandle(id)
	return h, fault.Wrap(err, "", name)
}

// snapshotReply tells of a snapshot as its record has it. Every snapshot that
// there is a record of is complete.
func snapshotReply(s controller.Service, r repository.Snapshot) *csi.Snapshot {
	reply := &csi.Snapshot{
		SnapshotId: s.Handle(r.ID).String(), SourceVolumeId: string(r.Volume), SizeBytes: r.SizeBytes,
		CreationTime: timestamppb.New(r.Cut), ReadyToUse: true, AccessibleTopology: accessible(r.Class, r.Node),
	}
	if r.Group != "" {
		reply.GroupSnapshotId = s.GroupHandle(r.Group).String()
	}
	return reply
}
