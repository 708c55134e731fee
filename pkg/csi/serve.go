package csi

import (
	"context"
	"errors"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/reflection"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
)

var (
	_ csi.IdentityServer         = (*IdentityServer)(nil)
	_ csi.ControllerServer       = (*ControllerServer)(nil)
	_ csi.GroupControllerServer  = (*GroupControllerServer)(nil)
	_ csi.SnapshotMetadataServer = (*SnapshotMetadataServer)(nil)
	_ csi.NodeServer             = (*NodeServer)(nil)
)

// Services are what is served. A nil one is not, and answers Unimplemented.
type Services struct {
	Identity         csi.IdentityServer
	Controller       csi.ControllerServer
	GroupController  csi.GroupControllerServer
	SnapshotMetadata csi.SnapshotMetadataServer
	Node             csi.NodeServer
}

func (s Services) register(r grpc.ServiceRegistrar) {
	if s.Identity != nil {
		csi.RegisterIdentityServer(r, s.Identity)
	}
	if s.Controller != nil {
		csi.RegisterControllerServer(r, s.Controller)
	}
	if s.GroupController != nil {
		csi.RegisterGroupControllerServer(r, s.GroupController)
	}
	if s.SnapshotMetadata != nil {
		csi.RegisterSnapshotMetadataServer(r, s.SnapshotMetadata)
	}
	if s.Node != nil {
		csi.RegisterNodeServer(r, s.Node)
	}
}

// DefaultDrainTimeout is how long calls that run when serving ends are waited
// for: less than the 30 s that Kubernetes leaves a pod.
const DefaultDrainTimeout = 20 * time.Second

// ServeOptions of Serve.
type ServeOptions struct {
	// Endpoint is where to serve: "unix:///path".
	Endpoint string
	Services Services
	// Registerer gets the metrics; nil: there are none.
	Registerer prometheus.Registerer
	// Listening, if not nil, is called once, when the socket is in its place
	// and answered.
	Listening func()
	// DrainTimeout is how long the end waits for running calls before it
	// cancels them; 0: DefaultDrainTimeout.
	DrainTimeout time.Duration
}

// Validate reports every fault of the options at once, as Invalid.
func (o ServeOptions) Validate() error {
	var faults []error
	if _, err := socketPath(o.Endpoint); err != nil {
		faults = append(faults, err)
	}
	if o.Services.Identity == nil {
		faults = append(faults, fault.New(fault.Invalid, "Services.Identity: none: want one"))
	}
	if o.DrainTimeout < 0 {
		faults = append(faults, fault.New(fault.Invalid, "DrainTimeout: %s: want 0 or more", o.DrainTimeout))
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

// Serve serves CSI on a unix socket until ctx ends. Then it takes the socket
// away, lets running calls finish for DrainTimeout at most, and returns nil.
// Calls do not end with ctx. InUse if another process serves the endpoint; a
// socket that a dead one left is replaced.
func Serve(ctx context.Context, o ServeOptions) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = DefaultDrainTimeout
	}
	path, _ := socketPath(o.Endpoint)
	observer, err := newObserver(klog.FromContext(ctx), o.Registerer)
	if err != nil {
		return fault.Wrap(err, "serve", o.Endpoint)
	}
	server := grpc.NewServer(grpc.ChainUnaryInterceptor(observer.unary), grpc.ChainStreamInterceptor(observer.stream))
	o.Services.register(server)
	reflection.Register(server) // so that any gRPC client can call it by hand
	l, err := listen(ctx, path)
	if err != nil {
		return fault.Wrap(err, "serve", o.Endpoint)
	}
	return fault.Wrap(run(ctx, server, l, o), "serve", o.Endpoint)
}

// run serves until ctx ends or the listener fails, and waits for what it began.
func run(ctx context.Context, server *grpc.Server, l *socket, o ServeOptions) error {
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	if o.Listening != nil {
		o.Listening()
	}
	select {
	case err := <-ended:
		server.Stop()
		return fault.As(fault.Internal, err)
	case <-ctx.Done():
	}
	l.remove()
	drain(ctx, server, o)
	if err := <-ended; !errors.Is(err, grpc.ErrServerStopped) { // it may not even have begun
		return fault.As(fault.Internal, err)
	}
	return nil
}

// cancelTimeout is how long calls that were canceled may take to notice it. One
// that never does ends with the process.
const cancelTimeout = 2 * time.Second

// drain lets running calls finish, and cancels those that take too long.
func drain(ctx context.Context, server *grpc.Server, o ServeOptions) {
	drained := make(chan struct{})
	go func() { server.GracefulStop(); close(drained) }()
	select {
	case <-drained:
		return
	case <-time.After(o.DrainTimeout):
	}
	logger := klog.FromContext(ctx)
	logger.V(0).Info("Calls did not finish in time, canceling them", "endpoint", o.Endpoint, "drainTimeout", o.DrainTimeout)
	server.Stop()
	select {
	case <-drained:
	case <-time.After(cancelTimeout):
		logger.Error(nil, "Calls run on after they were canceled", "endpoint", o.Endpoint)
	}
}
