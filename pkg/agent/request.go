package agent

import (
	"context"
	"crypto/rand"

	"google.golang.org/grpc/metadata"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// The headers that go with a call.
const (
	nodeHeader      = "holkas-node"
	requestIDHeader = "holkas-request-id"
)

type requestIDKey struct{}

// WithRequestID gives the calls under a context an id, which the logs of every
// process that they pass through show: 1 to 64 letters, digits, '-', '_' and
// '.'. Any other is not passed on.
func WithRequestID(ctx context.Context, id string) context.Context {
	if !token.MatchString(id) {
		return ctx
	}
	return context.WithValue(ctx, requestIDKey{}, id)
}

// RequestID returns the id of the call that a context belongs to, or nothing.
func RequestID(ctx context.Context) string {
	id, _ := ctx.Value(requestIDKey{}).(string)
	return id
}

// outgoing adds the headers of a call to a node.
func outgoing(ctx context.Context, node volume.NodeID) context.Context {
	ctx = metadata.AppendToOutgoingContext(ctx, nodeHeader, string(node))
	if id := RequestID(ctx); id != "" {
		ctx = metadata.AppendToOutgoingContext(ctx, requestIDHeader, id)
	}
	return ctx
}

// incoming takes the request id of a call, or makes one.
func incoming(ctx context.Context) context.Context {
	if ids := metadata.ValueFromIncomingContext(ctx, requestIDHeader); len(ids) == 1 && token.MatchString(ids[0]) {
		return WithRequestID(ctx, ids[0])
	}
	return WithRequestID(ctx, rand.Text())
}

// meant sees that a call is for this node. An address may have been another
// node's when the caller learned of it; the caller will learn of the new one.
func meant(ctx context.Context, node volume.NodeID) error {
	for _, want := range metadata.ValueFromIncomingContext(ctx, nodeHeader) {
		if want != string(node) {
			return fault.New(fault.Transient, "the call is for node %q, and this is the engine of node %q: its address has changed hands", clip(want), node)
		}
	}
	return nil
}
