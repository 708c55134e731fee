package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// CreateVolume makes a volume, blank or from a source.
func (s *ControllerServer) CreateVolume(ctx context.Context, r *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	request, err := creationOf(r)
	if err != nil {
		return nil, err
	}
	v, err := s.service.CreateVolume(ctx, request)
	if err != nil {
		return nil, err
	}
	if v.SizeBytes < request.MinimumBytes {
		return nil, fault.New(fault.Exists, "volume_capabilities: the name exists with %d bytes, and a filesystem is asked for that needs %d: want another filesystem, or another name", v.SizeBytes, request.MinimumBytes)
	}
	return &csi.CreateVolumeResponse{Volume: volumeReply(v)}, nil
}

// creationOf reads a request for a volume.
func creationOf(r *csi.CreateVolumeRequest) (request controller.CreateVolumeRequest, err error) {
	if err := checkName(r.GetName()); err != nil {
		return request, err
	}
	demands, err := demandsOf(r.GetVolumeCapabilities())
	if err != nil {
		return request, err
	}
	if demands.unsupported != nil {
		return request, demands.unsupported
	}
	request = controller.CreateVolumeRequest{
		Name: r.GetName(), MinimumBytes: demands.minimumBytes, Block: demands.block, Secrets: r.GetSecrets(),
		Request: repository.Request{
			Parameters: volume.OwnParameters(r.GetParameters()), Mutable: r.GetMutableParameters(),
		},
	}
	if request.Class, err = volume.ParseClass(r.GetParameters(), r.GetMutableParameters()); err != nil {
		return request, err
	}
	if err := demands.of(request.Class); err != nil {
		return request, err
	}
	if err := keyed(request.Class, r.GetSecrets()); err != nil {
		return request, err
	}
	if request.Request.Range, err = rangeOf(r.GetCapacityRange()); err != nil {
		return request, err
	}
	if request.Topology, err = topologyOf(r.GetAccessibilityRequirements()); err != nil {
		return request, err
	}
	if request.Request.Source, err = sourceOf(r.GetVolumeContentSource()); err != nil {
		return request, err
	}
	request.Request.ReadOnly = demands.readersAlone
	if request.Request.ReadOnly && request.Request.Source == (repository.Source{}) {
		return request, fault.New(fault.Invalid, "volume_content_source: none, and with MULTI_NODE_READER_ONLY alone nobody could ever write to the volume: want a source, or a SINGLE_NODE mode as well")
	}
	return request, nil
}

// keyed sees that the key of an encrypted volume is among the secrets, as Invalid.
// Whether it is the right one, its backend says.
func keyed(class volume.Class, secrets map[string]string) error {
	if class.Encryption == volume.AES256GCM && secrets[volume.SecretEncryptionKey] == "" {
		return fault.New(fault.Invalid, "secrets.%s: none, and %s is %q: want the key from the Secret that csi.storage.k8s.io/provisioner-secret-name names", volume.SecretEncryptionKey, volume.ParamEncryption, class.Encryption)
	}
	return nil
}

// sourceOf reads what a volume is to be made from. Invalid if it says nothing,
// NotFound if its id is not one of ours.
func sourceOf(source *csi.VolumeContentSource) (repository.Source, error) {
	switch from := source.GetType().(type) {
	case *csi.VolumeContentSource_Snapshot:
		id := from.Snapshot.GetSnapshotId()
		if err := required(field{"volume_content_source.snapshot.snapshot_id", id}); err != nil {
			return repository.Source{}, err
		}
		h, err := volume.ParseHandle(id)
		if err != nil {
			return repository.Source{}, fault.Wrap(err, "", "volume_content_source.snapshot.snapshot_id")
		}
		return repository.Source{Snapshot: h.String()}, nil
	case *csi.VolumeContentSource_Volume:
		id := from.Volume.GetVolumeId()
		if err := required(field{"volume_content_source.volume.volume_id", id}); err != nil {
			return repository.Source{}, err
		}
		v, err := volume.ParseID(id)
		if err != nil {
			return repository.Source{}, fault.Wrap(err, "", "volume_content_source.volume.volume_id")
		}
		return repository.Source{Volume: v}, nil
	}
	if source != nil {
		return repository.Source{}, fault.New(fault.Invalid, "volume_content_source.type: none, or one that is not known: want snapshot or volume")
	}
	return repository.Source{}, nil
}

// volumeReply tells of a volume as its record has it.
func volumeReply(v repository.Volume) *csi.Volume {
	return &csi.Volume{
		VolumeId: string(v.ID), CapacityBytes: v.SizeBytes,
		ContentSource: sourceReply(v.Request.Source), AccessibleTopology: accessible(v.Class, v.Node),
	}
}

func sourceReply(s repository.Source) *csi.VolumeContentSource {
	switch {
	case s.Snapshot != "":
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.Snapshot},
		}}
	case s.Volume != "":
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
			Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: string(s.Volume)},
		}}
	}
	return nil
}
