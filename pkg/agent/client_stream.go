package agent

import (
	"context"
	"errors"
	"io"
	"iter"

	"google.golang.org/grpc"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

// receive does a call and gives the messages of its stream to each, until that
// returns false or an error. It takes the next message when each has done with
// the one before, so that the engine waits for whoever reads. The call has ended
// when it returns, and nil means that the stream was whole or was not wanted any
// more.
func receive[Q, R any](ctx context.Context, c *client, m func(agentpb.AgentClient, context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[R], error), request *Q, each func(*R) (bool, error)) error {
	link, err := c.dialer.use(c.node, c.endpoint)
	if err != nil {
		return err
	}
	defer c.dialer.release(link)
	called, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := m(agentpb.NewAgentClient(link.conn), outgoing(called, c.node), request)
	for err == nil {
		var message *R
		message, err = stream.Recv()
		if err != nil {
			break
		}
		if more, err := each(message); err != nil || !more {
			return err
		}
	}
	if errors.Is(err, io.EOF) { // status OK
		return nil
	}
	return fromStatus(ctx, c.peer(), err)
}

func (c *client) Volumes(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return func(yield func(backend.Volume, error) bool) {
		var last volume.ID
		request := &agentpb.ListVolumesRequest{Backend: c.backend}
		err := receive(ctx, c, agentpb.AgentClient.ListVolumes, request, func(p *agentpb.Volumes) (bool, error) {
			for _, one := range p.GetVolumes() {
				var k check
				v := k.wholeVolume(one)
				k.that(v.ID > last, "id", one.GetId(), "one above "+string(last))
				if err := c.sense(&k); err != nil {
					return false, err
				}
				if !yield(v, nil) {
					return false, nil
				}
				last = v.ID
			}
			return true, nil
		})
		if err != nil {
			yield(backend.Volume{}, err)
		}
	}
}

func (c *client) Allocated(ctx context.Context, id volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	request := &agentpb.AllocatedRequest{Backend: c.backend, Snapshot: string(id), Offset: offset}
	return extents(ctx, c, agentpb.AgentClient.Allocated, request, offset)
}

func (c *client) Delta(ctx context.Context, base, target volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	request := &agentpb.DeltaRequest{Backend: c.backend, Base: string(base), Target: string(target), Offset: offset}
	return extents(ctx, c, agentpb.AgentClient.Delta, request, offset)
}

// extents yields ranges, each behind the one before: whoever copies a volume by
// them must not miss one.
func extents[Q any](ctx context.Context, c *client, m func(agentpb.AgentClient, context.Context, *Q, ...grpc.CallOption) (grpc.ServerStreamingClient[agentpb.Extents], error), request *Q, offset int64) iter.Seq2[backend.Extent, error] {
	return func(yield func(backend.Extent, error) bool) {
		end := offset
		err := receive(ctx, c, m, request, func(p *agentpb.Extents) (bool, error) {
			for _, one := range p.GetExtents() {
				var k check
				e := backend.Extent{Offset: one.GetOffset(), Length: one.GetLength()}
				k.that(e.Offset >= end && e.Length > 0 && e.Offset+e.Length > e.Offset, "extent", e, "ascending ranges")
				if err := c.sense(&k); err != nil {
					return false, err
				}
				if !yield(e, nil) {
					return false, nil
				}
				end = e.Offset + e.Length
			}
			return true, nil
		})
		if err != nil {
			yield(backend.Extent{}, err)
		}
	}
}
