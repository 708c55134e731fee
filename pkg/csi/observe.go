package csi

import (
	"context"
	"crypto/rand"
	"path"
	"runtime/debug"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
)

// observer is the interceptor of all calls.
type observer struct {
	logger klog.Logger
	calls  *prometheus.HistogramVec
}

func newObserver(logger klog.Logger, r prometheus.Registerer) (*observer, error) {
	calls, err := newCalls(r)
	return &observer{logger, calls}, err
}

func (o *observer) unary(ctx context.Context, request any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	c := o.begin(info.FullMethod)
	ctx = c.received(ctx, request)
	var reply any
	err := c.guard(func() (err error) {
		if err := checkSizes(request); err != nil {
			return err
		}
		reply, err = handle(ctx, request)
		return err
	})
	return reply, c.end(reply, err)
}

func (o *observer) stream(server any, s grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	c := o.begin(info.FullMethod)
	err := c.guard(func() error { return handle(server, &observedStream{ServerStream: s, call: c, ctx: s.Context()}) })
	return c.end(nil, err)
}

// observedStream sees the request of a call whose reply is a stream.
type observedStream struct {
	grpc.ServerStream
	call *call
	ctx  context.Context
}

func (s *observedStream) Context() context.Context { return s.ctx }

func (s *observedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	s.ctx = s.call.received(s.ctx, m)
	return checkSizes(m)
}

// call is one call of one method.
type call struct {
	observer *observer
	method   string
	began    time.Time
	logger   klog.Logger
}

func (o *observer) begin(fullMethod string) *call {
	method := path.Base(fullMethod)
	return &call{o, method, time.Now(), o.logger.WithValues("rpc", method, "requestID", rand.Text()[:10])}
}

// received logs a request, and names it in the logger that the handler gets.
func (c *call) received(ctx context.Context, request any) context.Context {
	if key, id := subject(request); id != "" {
		c.logger = c.logger.WithValues(key, clip(id))
	}
	c.logger.V(2).Info("Request", "request", stripped{request})
	return klog.NewContext(ctx, c.logger)
}

// guard turns a panic into an error. The stack is logged: the caller gets none.
func (c *call) guard(handle func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fault.New(fault.Internal, "panic in %s: see the log of the driver for requestID", c.method)
			c.logger.Error(nil, "Panic", "panic", p, "stack", string(debug.Stack()))
		}
	}()
	return handle()
}

// end logs the outcome, counts it, and gives it its code.
func (c *call) end(reply any, err error) error {
	err = statusOf(err)
	code := status.Code(err)
	elapsed := time.Since(c.began)
	c.observer.calls.WithLabelValues(c.method, code.String()).Observe(elapsed.Seconds())
	switch {
	case code == codes.Internal || code == codes.DataLoss:
		c.logger.Error(err, "Call failed", "code", code, "elapsed", elapsed)
	case err != nil:
		c.logger.V(2).Info("Call failed", "code", code, "err", err, "elapsed", elapsed)
	default:
		c.logger.V(2).Info("Reply", "code", code, "reply", stripped{reply}, "elapsed", elapsed)
	}
	return err
}

// subject finds what a request is about.
func subject(request any) (key, id string) {
	switch r := request.(type) {
	case interface{ GetVolumeId() string }:
		return "volumeID", r.GetVolumeId()
	case interface{ GetSourceVolumeId() string }:
		return "volumeID", r.GetSourceVolumeId()
	case interface{ GetSnapshotId() string }:
		return "snapshotID", r.GetSnapshotId()
	case interface{ GetTargetSnapshotId() string }:
		return "snapshotID", r.GetTargetSnapshotId()
	case interface{ GetGroupSnapshotId() string }:
		return "groupSnapshotID", r.GetGroupSnapshotId()
	case interface{ GetName() string }:
		return "name", r.GetName()
	}
	return "", ""
}

// stripped renders a message without its secrets, and not at length. It costs
// nothing unless it is logged.
type stripped struct{ message any }

func (s stripped) String() string {
	m, ok := s.message.(proto.Message)
	if !ok {
		return ""
	}
	m = proto.Clone(m)
	stripFlags(m.ProtoReflect())
	return clip(protosanitizer.StripSecrets(m).String())
}

// stripFlags takes the mount flags out of a message. The specification says that
// they may be sensitive, but does not mark them as secrets.
func stripFlags(m protoreflect.Message) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Name() == "mount_flags":
			for i := range v.List().Len() {
				v.List().Set(i, protoreflect.ValueOfString("***stripped***"))
			}
		case f.IsMap() || f.Kind() != protoreflect.MessageKind:
		case f.IsList():
			for i := range v.List().Len() {
				stripFlags(v.List().Get(i).Message())
			}
		default:
			stripFlags(v.Message())
		}
		return true
	})
}

// clipBytes bounds what of a request is logged or repeated in a message.
const clipBytes = 4096

func clip(s string) string {
	if len(s) > clipBytes {
		return s[:clipBytes] + "..."
	}
	return s
}
