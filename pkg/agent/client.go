package agent

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// client is a backend of another process.
type client struct {
	dialer   *Dialer
	node     volume.NodeID
	endpoint Endpoint
	backend  string
}

var _ backend.Backend = (*client)(nil)

// peer is whom a message of the transport is about.
func (c *client) peer() string { return fmt.Sprintf("engine of node %s at %s", c.node, c.endpoint) }

// method is a method of the generated client.
type method[Q, R any] func(agentpb.AgentClient, context.Context, *Q, ...grpc.CallOption) (*R, error)

// invoke does a call with one reply.
func invoke[Q, R any](ctx context.Context, c *client, m method[Q, R], request *Q) (*R, error) {
	link, err := c.dialer.use(c.node, c.endpoint)
	if err != nil {
		return nil, err
	}
	defer c.dialer.release(link)
	if err := fits(request); err != nil {
		return nil, err
	}
	reply, err := m(agentpb.NewAgentClient(link.conn), outgoing(ctx, c.node), request)
	if err != nil {
		return nil, fromStatus(ctx, c.peer(), err)
	}
	return reply, nil
}

// fits refuses what the other side would not read, and would not say so.
func fits(request any) error {
	if m, ok := request.(proto.Message); ok {
		if n := proto.Size(m); n > maxRequestBytes {
			return fault.New(fault.Invalid, "the request has %d bytes: want at most %d", n, maxRequestBytes)
		}
	}
	return nil
}

func (c *client) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.CreateVolume, &agentpb.CreateVolumeRequest{
		Backend: c.backend, Id: string(r.ID), SizeBytes: r.SizeBytes,
		Class: encodeClass(r.Class), Source: encodeSource(r.Source), ReadOnly: r.ReadOnly, Secrets: r.Secrets,
	})
	return c.volume(r.ID, p, err)
}

func (c *client) DeleteVolume(ctx context.Context, id volume.ID) error {
	_, err := invoke(ctx, c, agentpb.AgentClient.DeleteVolume, c.volumeRequest(id))
	return err
}

func (c *client) ExpandVolume(ctx context.Context, id volume.ID, sizeBytes int64) (backend.Volume, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.ExpandVolume, &agentpb.ExpandVolumeRequest{
		Backend: c.backend, Id: string(id), SizeBytes: sizeBytes,
	})
	return c.volume(id, p, err)
}

func (c *client) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) (backend.Volume, error) {
	request := encodeMutable(id, m)
	request.Backend = c.backend
	p, err := invoke(ctx, c, agentpb.AgentClient.ModifyVolume, request)
	return c.volume(id, p, err)
}

func (c *client) RecordFilesystem(ctx context.Context, id volume.ID, f backend.Filesystem) error {
	_, err := invoke(ctx, c, agentpb.AgentClient.RecordFilesystem, &agentpb.RecordFilesystemRequest{
		Backend: c.backend, Id: string(id), Filesystem: encodeFilesystem(f),
	})
	return err
}

func (c *client) Volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.GetVolume, c.volumeRequest(id))
	return c.volume(id, p, err)
}

func (c *client) CreateSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.CreateSnapshot, &agentpb.CreateSnapshotRequest{
		Backend: c.backend, Id: string(r.ID), Volume: string(r.Volume),
		Consistency: string(r.Consistency), Pause: string(r.Pause), Secrets: r.Secrets,
	})
	return c.snapshot(r.ID, p, err)
}

func (c *client) DeleteSnapshot(ctx context.Context, id volume.SnapshotID) error {
	_, err := invoke(ctx, c, agentpb.AgentClient.DeleteSnapshot, &agentpb.SnapshotRequest{Backend: c.backend, Id: string(id)})
	return err
}

func (c *client) Snapshot(ctx context.Context, id volume.SnapshotID) (backend.Snapshot, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.GetSnapshot, &agentpb.SnapshotRequest{Backend: c.backend, Id: string(id)})
	return c.snapshot(id, p, err)
}

func (c *client) Pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	request := &agentpb.PauseRequest{Backend: c.backend, Id: string(id)}
	for _, v := range volumes {
		request.Volumes = append(request.Volumes, string(v))
	}
	_, err := invoke(ctx, c, agentpb.AgentClient.Pause, request)
	return err
}

func (c *client) Resume(ctx context.Context, id backend.PauseID) error {
	_, err := invoke(ctx, c, agentpb.AgentClient.Resume, &agentpb.ResumeRequest{Backend: c.backend, Id: string(id)})
	return err
}

func (c *client) Attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.Attach, &agentpb.AttachRequest{
		Backend: c.backend, Id: string(r.ID), ReadOnly: r.ReadOnly, Shared: r.Shared, Secrets: r.Secrets,
	})
	if err != nil {
		return backend.Device{}, err
	}
	return c.device(p)
}

func (c *client) Detach(ctx context.Context, id volume.ID) error {
	_, err := invoke(ctx, c, agentpb.AgentClient.Detach, c.volumeRequest(id))
	return err
}

func (c *client) Capacity(ctx context.Context, class volume.Class) (backend.Capacity, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.Capacity, &agentpb.CapacityRequest{Backend: c.backend, Class: encodeClass(class)})
	if err != nil {
		return backend.Capacity{}, err
	}
	return backend.Capacity{AvailableBytes: p.GetAvailableBytes(), MaximumVolumeBytes: p.GetMaximumVolumeBytes()}, nil
}

func (c *client) VolumeHealth(ctx context.Context, id volume.ID) ([]backend.Health, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.VolumeHealth, c.volumeRequest(id))
	return c.health(p, err)
}

func (c *client) Health(ctx context.Context) ([]backend.Health, error) {
	p, err := invoke(ctx, c, agentpb.AgentClient.Health, &agentpb.HealthRequest{Backend: c.backend})
	return c.health(p, err)
}

func (c *client) volumeRequest(id volume.ID) *agentpb.VolumeRequest {
	return &agentpb.VolumeRequest{Backend: c.backend, Id: string(id)}
}
