package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// volumeOf reads the id of a volume that must exist.
func volumeOf(id string) (volume.ID, error) {
	if err := required(field{"volume_id", id}); err != nil {
		return "", err
	}
	return volume.ParseID(id)
}

// DeleteVolume deletes a volume.
func (s *ControllerServer) DeleteVolume(ctx context.Context, r *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	id, err := volumeOf(r.GetVolumeId())
	if err == nil {
		err = s.service.DeleteVolume(ctx, id)
	}
	if err := deleted(err); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

// ControllerGetVolume tells of one volume.
func (s *ControllerServer) ControllerGetVolume(ctx context.Context, r *csi.ControllerGetVolumeRequest) (*csi.ControllerGetVolumeResponse, error) {
	id, err := volumeOf(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	v, err := s.service.Volume(ctx, id)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeResponse{
		Volume: volumeReply(v),
		Status: &csi.ControllerGetVolumeResponse_VolumeStatus{PublishedNodeIds: publishedNodes(v)},
	}, nil
}

func publishedNodes(v repository.Volume) []string {
	var nodes []string
	for _, p := range v.Publications {
		nodes = append(nodes, string(p.Node))
	}
	return nodes
}

// ControllerExpandVolume grows a volume, attached or not. A filesystem in it is
// grown by the node afterwards.
func (s *ControllerServer) ControllerExpandVolume(ctx context.Context, r *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	if err := required(field{"volume_id", r.GetVolumeId()}); err != nil {
		return nil, err
	}
	if r.GetCapacityRange() == nil {
		return nil, fault.New(fault.Invalid, "capacity_range: none: want one")
	}
	id, err := volumeOf(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	sizes, err := rangeOf(r.GetCapacityRange())
	if err != nil {
		return nil, err
	}
	block := false
	if r.GetVolumeCapability() != nil {
		use, err := useAt(r.GetVolumeCapability())
		if err != nil {
			return nil, err
		}
		block = use.Block
	}
	v, err := s.service.ExpandVolume(ctx, id, sizes)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: v.SizeBytes, NodeExpansionRequired: !block}, nil
}

// ControllerModifyVolume changes what of a volume's class may change.
func (s *ControllerServer) ControllerModifyVolume(ctx context.Context, r *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	if err := required(field{"volume_id", r.GetVolumeId()}); err != nil {
		return nil, err
	}
	if len(r.GetMutableParameters()) == 0 {
		return nil, fault.New(fault.Invalid, "mutable_parameters: none: want one or more of %s", volume.MutableParameters())
	}
	id, err := volumeOf(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	mutable, err := volume.ParseMutable(r.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	if err := s.service.ModifyVolume(ctx, id, mutable); err != nil {
		return nil, err
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}
