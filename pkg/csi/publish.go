package csi

import (
	"context"
	"slices"
	"strconv"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// PublishContextReadOnly is the key of the publish context under which the
// controller tells the node, as "true" or "false", whether a volume is published
// to it read-only.
const PublishContextReadOnly = "readOnly"

// ControllerPublishVolume records that a node uses a volume.
func (s *ControllerServer) ControllerPublishVolume(ctx context.Context, r *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	request, err := publicationOf(r)
	if err != nil {
		return nil, err
	}
	v, err := s.service.Publish(ctx, request)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(v.Publications, func(p repository.Publication) bool { return p.Node == request.Node })
	if i < 0 {
		return nil, fault.New(fault.Busy, "volume %s: its publication to node %q was taken back meanwhile: try again", v.ID, request.Node)
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: map[string]string{
		PublishContextReadOnly: strconv.FormatBool(v.Publications[i].ReadOnly),
	}}, nil
}

// publicationOf reads a request to publish a volume. A mode for readers is a
// publication for reading, whatever readonly says.
func publicationOf(r *csi.ControllerPublishVolumeRequest) (request controller.PublishRequest, err error) {
	if err := required(field{"volume_id", r.GetVolumeId()}, field{"node_id", r.GetNodeId()}); err != nil {
		return request, err
	}
	use, err := useAt(r.GetVolumeCapability())
	if err != nil {
		return request, err
	}
	id, err := volumeOf(r.GetVolumeId())
	if err != nil {
		return request, err
	}
	node, err := volume.ParseNodeID(r.GetNodeId())
	if err != nil {
		return request, fault.As(fault.NotFound, fault.Wrap(err, "", "node_id"))
	}
	return controller.PublishRequest{Volume: id, Publication: repository.Publication{
		Node: node, ReadOnly: use.ReadOnly || r.GetReadonly(),
		AccessMode: r.GetVolumeCapability().GetAccessMode().GetMode().String(),
	}}, noContext(r.GetVolumeContext())
}

// ControllerUnpublishVolume records that a node, or every node, uses a volume no
// more. A volume or a node that does not exist is a success: nothing is
// published there.
func (s *ControllerServer) ControllerUnpublishVolume(ctx context.Context, r *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	id, err := volumeOf(r.GetVolumeId())
	var node volume.NodeID
	if err == nil && r.GetNodeId() != "" {
		node, err = volume.ParseNodeID(r.GetNodeId())
		err = fault.As(fault.NotFound, err)
	}
	if err == nil {
		err = s.service.Unpublish(ctx, id, node)
	}
	if err := deleted(err); err != nil {
		return nil, err
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

// publishedReadOnly reports whether a volume is to be read-only at a node: it
// is if the request says so, or if the controller published it so.
func publishedReadOnly(publishContext map[string]string, asked bool) (bool, error) {
	value, ok := publishContext[PublishContextReadOnly]
	if !ok {
		return asked, nil
	}
	published, err := strconv.ParseBool(value)
	if err != nil || value != strconv.FormatBool(published) {
		return false, fault.New(fault.Invalid, `publish_context.%s: %q: want "true" or "false", as ControllerPublishVolume gave it`, PublishContextReadOnly, clip(value))
	}
	return asked || published, nil
}
