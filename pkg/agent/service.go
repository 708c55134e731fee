package agent

import (
	"context"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// service answers calls: it reads the request, calls the backend, and writes the
// reply. Nothing else.
type service struct {
	agentpb.UnimplementedAgentServer
	options ServerOptions
	node    volume.NodeID
}

// backend finds the backend that a request names.
func (s *service) backend(name string) (backend.Backend, error) {
	b, ok := s.options.Backends[name]
	switch {
	case ok:
		return b, nil
	case !word.MatchString(name):
		return nil, fault.New(fault.Invalid, "backend: %q: want the name of a backend", clip(name))
	}
	return nil, fault.New(fault.Unsupported, "backend: %q: this engine has none of that name", clip(name))
}

// done is the reply of a call that has none. What names nothing is deleted.
func done(err error) (*agentpb.Empty, error) {
	if err != nil {
		return nil, err
	}
	return &agentpb.Empty{}, nil
}

func reply[T, M any](encode func(T) M, value T, err error) (M, error) {
	if err != nil {
		var none M
		return none, err
	}
	return encode(value), nil
}

func (s *service) Info(ctx context.Context, _ *agentpb.InfoRequest) (*agentpb.InfoReply, error) {
	return encodeInfo(s.options.Info(ctx)), nil
}

func (s *service) CreateVolume(ctx context.Context, p *agentpb.CreateVolumeRequest) (*agentpb.Volume, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	r, err := decodeCreateVolume(p)
	if err != nil {
		return nil, err
	}
	v, err := b.CreateVolume(ctx, r)
	return reply(encodeVolume, v, err)
}

func (s *service) DeleteVolume(ctx context.Context, p *agentpb.VolumeRequest) (*agentpb.Empty, error) {
	return s.remove(p, func(b backend.Backend, id volume.ID) error { return b.DeleteVolume(ctx, id) })
}

func (s *service) Detach(ctx context.Context, p *agentpb.VolumeRequest) (*agentpb.Empty, error) {
	return s.remove(p, func(b backend.Backend, id volume.ID) error { return b.Detach(ctx, id) })
}

// remove takes away what a volume is or has; an id that names nothing has none.
func (s *service) remove(p *agentpb.VolumeRequest, remove func(backend.Backend, volume.ID) error) (*agentpb.Empty, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, err := decodeVolume(p)
	switch {
	case fault.Is(err, fault.NotFound):
		return done(nil)
	case err != nil:
		return nil, err
	}
	return done(remove(b, id))
}

func (s *service) ExpandVolume(ctx context.Context, p *agentpb.ExpandVolumeRequest) (*agentpb.Volume, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, sizeBytes, err := decodeExpandVolume(p)
	if err != nil {
		return nil, err
	}
	v, err := b.ExpandVolume(ctx, id, sizeBytes)
	return reply(encodeVolume, v, err)
}

func (s *service) ModifyVolume(ctx context.Context, p *agentpb.ModifyVolumeRequest) (*agentpb.Volume, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, m, err := decodeModifyVolume(p)
	if err != nil {
		return nil, err
	}
	v, err := b.ModifyVolume(ctx, id, m)
	return reply(encodeVolume, v, err)
}

func (s *service) RecordFilesystem(ctx context.Context, p *agentpb.RecordFilesystemRequest) (*agentpb.Empty, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, f, err := decodeRecordFilesystem(p)
	if err != nil {
		return nil, err
	}
	return done(b.RecordFilesystem(ctx, id, f))
}

func (s *service) GetVolume(ctx context.Context, p *agentpb.VolumeRequest) (*agentpb.Volume, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, err := decodeVolume(p)
	if err != nil {
		return nil, err
	}
	v, err := b.Volume(ctx, id)
	return reply(encodeVolume, v, err)
}

func (s *service) Attach(ctx context.Context, p *agentpb.AttachRequest) (*agentpb.Device, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	r, err := decodeAttach(p)
	if err != nil {
		return nil, err
	}
	d, err := b.Attach(ctx, r)
	return reply(encodeDevice, d, err)
}

func (s *service) Capacity(ctx context.Context, p *agentpb.CapacityRequest) (*agentpb.CapacityReply, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	class, err := decodeClass(p.GetClass())
	if err != nil {
		return nil, err
	}
	c, err := b.Capacity(ctx, class)
	return reply(func(c backend.Capacity) *agentpb.CapacityReply {
		return &agentpb.CapacityReply{AvailableBytes: c.AvailableBytes, MaximumVolumeBytes: c.MaximumVolumeBytes}
	}, c, err)
}

func (s *service) VolumeHealth(ctx context.Context, p *agentpb.VolumeRequest) (*agentpb.HealthReply, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, err := decodeVolume(p)
	if err != nil {
		return nil, err
	}
	h, err := b.VolumeHealth(ctx, id)
	return reply(encodeHealth, h, err)
}

func (s *service) Health(ctx context.Context, p *agentpb.HealthRequest) (*agentpb.HealthReply, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	h, err := b.Health(ctx)
	return reply(encodeHealth, h, err)
}
