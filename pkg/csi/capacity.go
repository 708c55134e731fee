package csi

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/holkas-io/holkas/pkg/volume"
)

// GetCapacity says how much could be created now, of the class and on the node
// that are asked for. What a volume of the class cannot have has no capacity.
func (s *ControllerServer) GetCapacity(ctx context.Context, r *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	demands := demands{minimumBytes: volume.MinimumBytes}
	if all := saying(r.GetVolumeCapabilities()); len(all) > 0 {
		var err error
		if demands, err = demandsOf(all); err != nil {
			return nil, err
		}
	}
	class, err := volume.ParseClass(r.GetParameters(), nil)
	if err != nil {
		return nil, err
	}
	if demands.of(class) != nil {
		return &csi.GetCapacityResponse{}, nil
	}
	capacity, err := s.service.Capacity(ctx, class, placeOf(r.GetAccessibleTopology()))
	if err != nil {
		return nil, err
	}
	return &csi.GetCapacityResponse{
		AvailableCapacity: max(capacity.AvailableBytes, 0),
		MaximumVolumeSize: wrapperspb.Int64(max(capacity.MaximumVolumeBytes, 0)),
		MinimumVolumeSize: wrapperspb.Int64(demands.minimumBytes),
	}, nil
}

// saying returns the capabilities that say something. The external-provisioner has
// none to ask for, and sends one of the mode UNKNOWN, since it takes the field for a
// required one.
func saying(all []*csi.VolumeCapability) []*csi.VolumeCapability {
	return slices.DeleteFunc(slices.Clone(all), func(c *csi.VolumeCapability) bool {
		return c.GetAccessMode() != nil && c.GetAccessMode().GetMode() == csi.VolumeCapability_AccessMode_UNKNOWN
	})
}
