package agent

import (
	"context"
	"path"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/agent/certs"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// interceptor is what every call goes through, outermost first: log and metrics,
// recovery from panics, who calls, and whom.
type interceptor struct {
	node      volume.NodeID
	authorise bool
	metrics   *metrics
	log       klog.Logger
}

func (i interceptor) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, next grpc.UnaryHandler) (reply any, err error) {
	err = i.call(ctx, info.FullMethod, func(c *call) (err error) {
		c.sees(request)
		reply, err = next(c.ctx, request)
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func (i interceptor) stream(server any, stream grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return i.call(stream.Context(), info.FullMethod, func(c *call) error {
		return next(server, &callStream{stream, c})
	})
}

// call is one call: what it logs to, and the context that the service gets.
type call struct {
	ctx context.Context
	log klog.Logger
}

// sees adds to the log what may be said of the request.
func (c *call) sees(request any) {
	c.log = c.log.WithValues(about(request)...)
	c.ctx = klog.NewContext(c.ctx, c.log)
}

// callStream is a stream whose request is seen when it is received.
type callStream struct {
	grpc.ServerStream
	call *call
}

func (s *callStream) Context() context.Context { return s.call.ctx }

func (s *callStream) RecvMsg(request any) error {
	err := s.ServerStream.RecvMsg(request)
	if err == nil {
		s.call.sees(request)
	}
	return err
}

// call does one call and gives its error a status.
func (i interceptor) call(ctx context.Context, method string, do func(*call) error) error {
	method = path.Base(method)
	ctx = incoming(ctx)
	c := &call{ctx, i.log.WithValues("rpc", method, "requestID", RequestID(ctx))}
	c.sees(nil)
	began := time.Now()
	i.metrics.begin(method)
	err := i.admit(c)
	if err == nil {
		err = recovered(c, do)
	}
	err = toStatus(err)
	took := time.Since(began)
	code := status.Code(err)
	i.metrics.end(method, code.String(), took)
	if err == nil {
		c.log.V(2).Info("Request", "code", code.String(), "took", took)
	} else {
		c.log.V(2).Info("Request", "code", code.String(), "took", took, "err", status.Convert(err).Message())
	}
	return err
}

// recovered turns a panic into an error: one call must not end the others, nor
// the devices that this process may serve.
func recovered(c *call, do func(*call) error) (err error) {
	defer func() {
		if what := recover(); what != nil {
			err = fault.New(fault.Internal, "panic: %v", what)
			c.log.Error(err, "Request panicked", "stack", string(debug.Stack()))
		}
	}()
	return do(c)
}

// admit sees that the caller may call, and that it means this node. What it
// refuses was not done, but another certificate or another address makes it
// possible, and an earlier call may have had that: so it is Transient.
func (i interceptor) admit(c *call) error {
	if i.authorise {
		if err := authorise(c.ctx); err != nil {
			c.log.V(0).Info("Refused a call", "peer", address(c.ctx), "reason", err.Error())
			return err
		}
	}
	return meant(c.ctx, i.node)
}

// authorise applies the naming rule. A connection without a certificate of ours
// cannot get here, and is refused all the same.
func authorise(ctx context.Context) error {
	p, _ := peer.FromContext(ctx)
	if p == nil {
		return fault.New(fault.Transient, "not authorised: no peer")
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return fault.New(fault.Transient, "not authorised: no verified certificate")
	}
	leaf := info.State.VerifiedChains[0][0]
	if !certs.Controller.In(leaf) && !certs.Operator.In(leaf) {
		return fault.New(fault.Transient, "not authorised: the certificate is for %s: want %s or %s", certs.Names(leaf), certs.Controller, certs.Operator)
	}
	return nil
}

func address(ctx context.Context) string {
	if p, ok := peer.FromContext(ctx); ok && p.Addr != nil {
		return p.Addr.String()
	}
	return ""
}

// about picks what of a request the log shows. Nothing else of it is ever
// logged, so that secrets cannot be.
func about(request any) []any {
	var values []any
	add := func(key, value string) {
		if value != "" {
			values = append(values, key, value[:min(len(value), 100)])
		}
	}
	if r, ok := request.(interface{ GetBackend() string }); ok {
		add("backend", r.GetBackend())
	}
	if r, ok := request.(interface{ GetId() string }); ok {
		add("id", r.GetId())
	}
	if r, ok := request.(interface{ GetVolume() string }); ok {
		add("volume", r.GetVolume())
	}
	return values
}
