package csi

import (
	"context"
	"maps"
	"slices"

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
	if err := d.of(v.Class); err != nil {
		return err
	}
	if v.Request.ReadOnly && !d.readersAlone {
		return fault.New(fault.Invalid, "volume_capabilities: the volume is for MULTI_NODE_READER_ONLY alone")
	}
	if v.SizeBytes < d.minimumBytes {
		return fault.New(fault.Invalid, "volume_capabilities: the volume has %d bytes, and the filesystem needs %d", v.SizeBytes, d.minimumBytes)
	}
	if err := noContext(r.GetVolumeContext()); err != nil {
		return err
	}
	fixed := r.GetParameters()
	if len(volume.OwnParameters(fixed)) == 0 { // nothing is asked of them
		fixed = v.Class.Parameters()
	}
	asked, err := volume.ParseClass(fixed, r.GetMutableParameters())
	if err != nil {
		return err
	}
	return sameClass(v.Class, asked, r.GetMutableParameters())
}

// sameClass says where a volume's class is not the one that is asked for. What
// may change counts only if it is asked for as such: a volume made "thin" that
// was modified is still of its StorageClass.
func sameClass(has, asked volume.Class, mutable map[string]string) error {
	had, wanted := has.Parameters(), asked.Parameters()
	for _, key := range slices.Sorted(maps.Keys(wanted)) {
		_, asSuch := mutable[key]
		if had[key] != wanted[key] && (asSuch || !volume.IsMutable(key)) {
			return fault.New(fault.Invalid, "parameter %s: the volume has %q, and %q is asked for", key, had[key], wanted[key])
		}
	}
	return nil
}
