package site

import (
	"context"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
)

// Clients are the CSI clients of a site.
type Clients struct {
	csi.ControllerClient
	csi.GroupControllerClient
	csi.SnapshotMetadataClient
	csi.NodeClient
}

// Clients returns clients of the n-th controller and of the node.
func (s *Site) Clients(n int) (Clients, error) {
	controller, err := s.Controller[n].Conn()
	if err != nil {
		return Clients{}, err
	}
	node, err := s.NodePlugin.Conn()
	if err != nil {
		return Clients{}, err
	}
	return newClients(controller, node), nil
}

func newClients(controller, node grpc.ClientConnInterface) Clients {
	return Clients{
		csi.NewControllerClient(controller), csi.NewGroupControllerClient(controller),
		csi.NewSnapshotMetadataClient(controller), csi.NewNodeClient(node),
	}
}

// Mounted is a volume that is staged and published on the node.
type Mounted struct {
	Volume     *csi.Volume
	Capability *csi.VolumeCapability
	Staging    string
	Target     string
	ReadOnly   bool // how Mount publishes it
	context    map[string]string
}

// Filesystem is the capability of a mounted volume with one writing node.
func Filesystem(fsType string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: fsType}},
	}
}

// Block is the capability of a raw block volume with one writing node.
func Block() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
		AccessType: &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}},
	}
}

// At returns where a volume is staged and published under a name.
func (s *Site) At(v *csi.Volume, c *csi.VolumeCapability, name string) *Mounted {
	return &Mounted{
		Volume: v, Capability: c,
		Staging: filepath.Join(s.Kubelet, "staging", v.VolumeId),
		Target:  filepath.Join(s.Kubelet, "pods", name),
	}
}

// Mount publishes a volume to the node, stages it and publishes it at its
// target, as a container orchestrator does.
func (c Clients) Mount(ctx context.Context, s *Site, m *Mounted) error {
	published, err := c.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{
		VolumeId: m.Volume.VolumeId, NodeId: string(s.Node), VolumeCapability: m.Capability, VolumeContext: m.Volume.VolumeContext,
		Readonly: m.ReadOnly,
	})
	if err != nil {
		return err
	}
	m.context = published.PublishContext
	if err := c.Stage(ctx, m); err != nil {
		return err
	}
	return c.PublishAt(ctx, m)
}

// Stage calls NodeStageVolume. The staging path is made, as kubelet does.
func (c Clients) Stage(ctx context.Context, m *Mounted) error {
	if err := makeDirs(m.Staging, filepath.Dir(m.Target)); err != nil {
		return err
	}
	_, err := c.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{
		VolumeId: m.Volume.VolumeId, PublishContext: m.context, StagingTargetPath: m.Staging,
		VolumeCapability: m.Capability, VolumeContext: m.Volume.VolumeContext,
	})
	return err
}

// PublishAt calls NodePublishVolume.
func (c Clients) PublishAt(ctx context.Context, m *Mounted) error {
	_, err := c.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{
		VolumeId: m.Volume.VolumeId, PublishContext: m.context, StagingTargetPath: m.Staging, TargetPath: m.Target,
		VolumeCapability: m.Capability, VolumeContext: m.Volume.VolumeContext, Readonly: m.ReadOnly,
	})
	return err
}

// Unmount undoes Mount. Each step is idempotent.
func (c Clients) Unmount(ctx context.Context, s *Site, m *Mounted) error {
	if _, err := c.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: m.Volume.VolumeId, TargetPath: m.Target}); err != nil {
		return err
	}
	if _, err := c.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: m.Volume.VolumeId, StagingTargetPath: m.Staging}); err != nil {
		return err
	}
	_, err := c.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: m.Volume.VolumeId, NodeId: string(s.Node)})
	return err
}
