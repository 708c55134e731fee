package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// ValidateVolumeCapabilities confirms that a volume has all that is asked for, or
// says what it does not have.
func (s *ControllerServer) ValidateVolumeCapabilities(ctx context.Context, r *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if err := required(field{"volume_id", r.GetVolumeId()}); err != nil {
		return nil, err
	}
	demands, err := demandsOf(r.GetVolumeCapabilities())
	if err != nil {
		return nil, err
	}
	id, err := volumeOf(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	v, err := s.service.Volume(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := satisfies(v, demands, r); err != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: err.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext: r.GetVolumeContext(), VolumeCapabilities: r.GetVolumeCapabilities(),
		Parameters: r.GetParameters(), MutableParameters: r.GetMutableParameters(),
	}}, nil
}

// satisfies says what a volume does not have of what is asked for.
func satisfies(v repository.Volume, d demands, r *csi.ValidateVolumeCapabilitiesRequest) error {
	if d.unsupported != nil {
		return d.unsupported
	}
	if v.SizeBytes < d.minimumBytes {
		return fault.New(fault.Invalid, "volume_capabilities: the volume has %d bytes, and the filesystem needs %d", v.SizeBytes, d.minimumBytes)
	}
	if err := noContext(r.GetVolumeContext()); err != nil {
		return err
	}
	asked, err := volume.ParseClass(r.GetParameters(), r.GetMutableParameters())
	if err != nil {
		return err
	}
	return sameClass(v.Class, asked, r.GetMutableParameters())
}

// sameClass says where a volume's class is not the one that is asked for. What
// may change counts only if it is asked for as such: a volume made "thin" that
// was modified is still of its StorageClass.
func sameClass(has, asked volume.Class, mutable map[string]string) error {
	differs := func(name, has, asked string) error {
		return fault.New(fault.Invalid, "parameter %s: the volume has %q, and %q is asked for", name, has, asked)
	}
	switch {
	case has.Backend != asked.Backend:
		return differs(volume.ParamBackend, has.Backend, asked.Backend)
	case asked.Pool != "" && has.Pool != asked.Pool:
		return differs(volume.ParamPool, has.Pool, asked.Pool)
	case asked.PoolType != volume.AnyPool && has.PoolType != asked.PoolType:
		return differs(volume.ParamPoolType, string(has.PoolType), string(asked.PoolType))
	}
	if _, ok := mutable[volume.ParamProvisioning]; ok && has.Provisioning != asked.Provisioning {
		return differs(volume.ParamProvisioning, string(has.Provisioning), string(asked.Provisioning))
	}
	if _, ok := mutable[volume.ParamMaxSnapshotPause]; ok && has.MaxSnapshotPause != asked.MaxSnapshotPause {
		return differs(volume.ParamMaxSnapshotPause, has.MaxSnapshotPause.String(), asked.MaxSnapshotPause.String())
	}
	return nil
}
