package agent

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/agent/certs"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// DefaultGracePeriod is ServerOptions.GracePeriod if that is zero.
const DefaultGracePeriod = 10 * time.Second

// Bounds of what a peer may ask of the other side.
const (
	maxRequestBytes  = 4 << 20 // as large as a CSI request may be, secrets included
	maxReplyBytes    = 4 << 20
	maxHeaderBytes   = 64 << 10
	maxStreams       = 256 // calls at once over one connection; more wait
	windowBytes      = 256 << 10
	handshakeTimeout = 10 * time.Second
)

// connectionAge is when a connection is renewed, which looks at certificates
// anew.
const connectionAge = time.Hour

// Info is what an engine says of itself.
type Info struct {
	Node       volume.NodeID
	Backends   []string
	Pools      []repository.Pool
	MaxVolumes int64 // that can be attached at once; 0: no limit
	Version    string
}

// ServerOptions say what a server serves.
type ServerOptions struct {
	// Info says what this engine is. Its Node never changes.
	Info func(ctx context.Context) Info
	// Backends are what it has, by their names in classes.
	Backends map[string]backend.Backend
	// TLS is needed for TCP.
	TLS TLS
	// GracePeriod bounds how long calls may go on at the end; 0:
	// DefaultGracePeriod.
	GracePeriod time.Duration
	// Registerer takes the metrics; nil: they are not kept.
	Registerer prometheus.Registerer
}

// Validate reports every fault at once, as Invalid.
func (o ServerOptions) Validate() error {
	var faults []error
	if o.Info == nil {
		faults = append(faults, fault.New(fault.Invalid, "info: none: want a function"))
	}
	if len(o.Backends) == 0 {
		faults = append(faults, fault.New(fault.Invalid, "backends: none: want at least one"))
	}
	for name, b := range o.Backends {
		if !word.MatchString(name) || b == nil {
			faults = append(faults, fault.New(fault.Invalid, "backends[%q]: want a name of a-z, 0-9 and '-', and a backend", name))
		}
	}
	if o.GracePeriod < 0 {
		faults = append(faults, fault.New(fault.Invalid, "grace period: %s: want 0 (%s) or more", o.GracePeriod, DefaultGracePeriod))
	}
	return fault.As(fault.Invalid, errors.Join(append(faults, o.TLS.Validate())...))
}

// Server serves a node's backends.
type Server struct {
	options ServerOptions
	metrics *metrics
}

// NewServer makes a server. Invalid if the options are, or if the registerer has
// such metrics already.
func NewServer(o ServerOptions) (*Server, error) {
	if err := o.Validate(); err != nil {
		return nil, fault.Wrap(err, "agent server", "")
	}
	if o.GracePeriod == 0 {
		o.GracePeriod = DefaultGracePeriod
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fault.Wrap(fault.As(fault.Invalid, err), "agent server", "metrics")
	}
	return &Server{options: o, metrics: m}, nil
}

// Serve answers at all endpoints until ctx ends, and then returns nil when the
// calls that were under way have ended. Those that have not within the grace
// period are canceled, and their callers see the connection end; if they go on
// even then for that long again, that is an error, and they still use the
// backends.
//
// The socket of a dead process is replaced; InUse if a live one answers there.
// Invalid for TCP without TLS files, or with a certificate that is not this
// node's.
func (s *Server) Serve(ctx context.Context, listen ...Endpoint) error {
	if len(listen) == 0 {
		return fault.New(fault.Invalid, "agent endpoints: none: want at least one")
	}
	node, err := volume.ParseNodeID(string(s.options.Info(ctx).Node))
	if err != nil {
		return fault.Wrap(err, "agent server", "")
	}
	identities, err := s.identities(ctx, node, listen)
	if err != nil {
		return err
	}
	listeners, err := listenAll(listen)
	if err != nil {
		return err
	}
	return s.serve(ctx, node, identities, listeners)
}

// identities reads the TLS files if an endpoint needs them.
func (s *Server) identities(ctx context.Context, node volume.NodeID, listen []Endpoint) (*identities, error) {
	needed := false
	for _, e := range listen {
		needed = needed || e.Network != "unix"
		if e.Network != "unix" && s.options.TLS == (TLS{}) {
			return nil, fault.New(fault.Invalid, "endpoint %s: TCP needs TLS: want certificate, key and CA files, or a unix socket", e)
		}
	}
	if !needed {
		return nil, nil
	}
	i, err := newIdentities(s.options.TLS, failing(klog.FromContext(ctx)))
	if err != nil {
		return nil, err
	}
	if leaf := i.last.cert.Leaf; !certs.Node(node).In(leaf) {
		return nil, fault.New(fault.Invalid, "TLS certificate %s: is for %s: want %s", s.options.TLS.CertFile, certs.Names(leaf), certs.Node(node))
	}
	return i, nil
}

func failing(log klog.Logger) func(error) {
	return func(err error) { log.Error(err, "Cannot use the TLS files, keeping to what they were") }
}

func listenAll(endpoints []Endpoint) (listeners []net.Listener, err error) {
	for _, e := range endpoints {
		l, err := listen(e)
		if err != nil {
			for _, l := range listeners {
				l.Close()
			}
			return nil, err
		}
		listeners = append(listeners, l)
	}
	return listeners, nil
}

// serve owns the listeners. Each has a gRPC server of its own, since only those
// of TCP look at certificates.
func (s *Server) serve(ctx context.Context, node volume.NodeID, identities *identities, listeners []net.Listener) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	var serving, draining sync.WaitGroup
	var servers []*grpc.Server
	for _, l := range listeners {
		server := s.newServer(ctx, node, identities, l)
		servers = append(servers, server)
		serving.Go(func() {
			if err := server.Serve(l); err != nil {
				end(fault.New(fault.Internal, "serve %s: %w", l.Addr(), err))
			}
		})
		klog.FromContext(ctx).V(0).Info("Agent is listening", "network", l.Addr().Network(), "address", where(l))
	}
	<-ctx.Done()
	results := make([]error, len(servers))
	for i, server := range servers {
		draining.Go(func() { results[i] = drain(server, s.options.GracePeriod) })
	}
	draining.Wait()
	serving.Wait()
	var failed *fault.Error
	if errors.As(context.Cause(ctx), &failed) {
		results = append(results, failed)
	}
	return errors.Join(results...)
}

func where(l net.Listener) string {
	if s, ok := l.(*socket); ok {
		return s.path
	}
	return l.Addr().String()
}

// drain ends a server within twice the grace period.
func drain(server *grpc.Server, grace time.Duration) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		server.GracefulStop()
	}()
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-done:
		return nil
	case <-timer.C:
	}
	go server.Stop() // ends GracefulStop as well, when the handlers have returned
	timer.Reset(grace)
	select {
	case <-done:
		return nil
	case <-timer.C:
		return fault.New(fault.Internal, "calls still run %s after they were canceled", grace)
	}
}

func (s *Server) newServer(ctx context.Context, node volume.NodeID, identities *identities, l net.Listener) *grpc.Server {
	i := interceptor{node: node, metrics: s.metrics, log: klog.FromContext(ctx)}
	_, isSocket := l.(*socket)
	age := connectionAge
	if isSocket {
		age = 0 // there is no certificate to look at anew
	}
	options := []grpc.ServerOption{
		grpc.MaxRecvMsgSize(maxRequestBytes),
		grpc.MaxSendMsgSize(maxReplyBytes),
		grpc.MaxHeaderListSize(maxHeaderBytes),
		grpc.MaxConcurrentStreams(maxStreams),
		grpc.StaticStreamWindowSize(windowBytes),
		grpc.StaticConnWindowSize(4 * windowBytes),
		grpc.ConnectionTimeout(handshakeTimeout),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: pingEvery / 2, PermitWithoutStream: true}),
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: pingEvery, Timeout: pingTimeout, MaxConnectionAge: age}),
	}
	if !isSocket {
		i.authorise = true
		options = append(options, grpc.Creds(credentials.NewTLS(identities.server())))
	}
	options = append(options, grpc.UnaryInterceptor(i.unary), grpc.StreamInterceptor(i.stream))
	server := grpc.NewServer(options...)
	agentpb.RegisterAgentServer(server, &service{options: s.options, node: node})
	return server
}
