package agent

import (
	"iter"

	"google.golang.org/grpc"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
)

// What one message of a stream holds at most.
const (
	volumesPerMessage = 128
	extentsPerMessage = 512
)

func (s *service) ListVolumes(p *agentpb.ListVolumesRequest, stream grpc.ServerStreamingServer[agentpb.Volumes]) error {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return err
	}
	return send(b.Volumes(stream.Context()), volumesPerMessage, encodeVolume, func(batch []*agentpb.Volume) error {
		return stream.Send(&agentpb.Volumes{Volumes: batch})
	})
}

func (s *service) Allocated(p *agentpb.AllocatedRequest, stream grpc.ServerStreamingServer[agentpb.Extents]) error {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return err
	}
	id, offset, err := decodeAllocated(p)
	if err != nil {
		return err
	}
	return sendExtents(b.Allocated(stream.Context(), id, offset), stream)
}

func (s *service) Delta(p *agentpb.DeltaRequest, stream grpc.ServerStreamingServer[agentpb.Extents]) error {
	b, err := s.backend(p.GetBackend())
	if err != nil {
		return err
	}
	base, target, offset, err := decodeDelta(p)
	if err != nil {
		return err
	}
	return sendExtents(b.Delta(stream.Context(), base, target, offset), stream)
}

func sendExtents(extents iter.Seq2[backend.Extent, error], stream grpc.ServerStreamingServer[agentpb.Extents]) error {
	return send(extents, extentsPerMessage, encodeExtent, func(batch []*agentpb.Extent) error {
		return stream.Send(&agentpb.Extents{Extents: batch})
	})
}

// send sends what an iterator yields, in messages of size entries. It waits for
// the receiver, and ends the iterator when that is gone. What was yielded before
// an error is sent before it.
func send[T, M any](entries iter.Seq2[T, error], size int, encode func(T) M, send func([]M) error) error {
	var batch []M
	flush := func() error {
		if len(batch) == 0 {
			return nil
		}
		err := send(batch)
		batch = nil // the message is the stream's now
		if err != nil {
			return fault.New(fault.Canceled, "the caller is gone: %w", err)
		}
		return nil
	}
	for entry, err := range entries {
		if err != nil {
			if gone := flush(); gone != nil {
				return gone
			}
			return err
		}
		batch = append(batch, encode(entry))
		if len(batch) == size {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	return flush()
}
