package agent

import (
	"context"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/fault"
)

func (s *service) CreateSnapshot(ctx context.Context, p *agentpb.CreateSnapshotRequest) (*agentpb.Snapshot, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	r, err := decodeCreateSnapshot(p)
	if err != nil {
		return nil, err
	}
	v, err := b.CreateSnapshot(ctx, r)
	return reply(encodeSnapshot, v, err)
}

func (s *service) DeleteSnapshot(ctx context.Context, p *agentpb.SnapshotRequest) (*agentpb.Empty, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, err := decodeSnapshot(p)
	switch {
	case fault.Is(err, fault.NotFound):
		return done(nil)
	case err != nil:
		return nil, err
	}
	return done(b.DeleteSnapshot(ctx, id))
}

func (s *service) GetSnapshot(ctx context.Context, p *agentpb.SnapshotRequest) (*agentpb.Snapshot, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, err := decodeSnapshot(p)
	if err != nil {
		return nil, err
	}
	v, err := b.Snapshot(ctx, id)
	return reply(encodeSnapshot, v, err)
}

func (s *service) Pause(ctx context.Context, p *agentpb.PauseRequest) (*agentpb.Empty, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, volumes, err := decodePause(p)
	if err != nil {
		return nil, err
	}
	return done(b.Pause(ctx, id, volumes))
}

func (s *service) Resume(ctx context.Context, p *agentpb.ResumeRequest) (*agentpb.Empty, error) {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return nil, err
	}
	id, err := decodeResume(p)
	if err != nil {
		return nil, err
	}
	return done(b.Resume(ctx, id))
}
