package agent

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// How soon a dead peer is noticed while calls are under way, and how long a
// connection that cannot be made is left alone. An engine that starts again is
// found within a second.
const (
	pingEvery    = 20 * time.Second
	pingTimeout  = 10 * time.Second
	redialAtMost = time.Second
	dialTimeout  = 5 * time.Second
)

// Dialer calls the engines of nodes. Its zero value works for those on this
// machine's unix sockets. It implements controller.Engines. All methods may be
// called from several goroutines.
type Dialer struct {
	// TLS is needed for TCP; the certificate is a controller's or an operator's.
	TLS TLS
	// Log hears of TLS files that cannot be used.
	Log klog.Logger

	mu         sync.Mutex
	closed     bool
	identities *identities
	links      map[volume.NodeID]*link
	dropped    map[*link]bool // those that calls still use
}

// link is the connection to a node at one address. It is closed when it was
// dropped and no call uses it any more.
type link struct {
	endpoint Endpoint
	conn     *grpc.ClientConn

	calls int // under way; guarded by Dialer.mu
}

// Backend returns a node's backend by name. Invalid if the node's address makes
// no sense, or is TCP and there are no TLS files. No connection is made before
// the first call; it is shared by all calls to that node, and dropped when the
// node's address has changed.
func (d *Dialer) Backend(n repository.Node, name string) (backend.Backend, error) {
	c, err := d.client(n)
	if err != nil {
		return nil, err
	}
	if !word.MatchString(name) {
		return nil, fault.New(fault.Invalid, "backend %q: want the name of a backend", clip(name))
	}
	c.backend = name
	return c, nil
}

// Info asks a node's engine what it is. Transient if another node's engine
// answers.
func (d *Dialer) Info(ctx context.Context, n repository.Node) (Info, error) {
	c, err := d.client(n)
	if err != nil {
		return Info{}, err
	}
	reply, err := invoke(ctx, c, agentpb.AgentClient.Info, &agentpb.InfoRequest{})
	if err != nil {
		return Info{}, err
	}
	return c.info(reply)
}

// Close closes the connections; calls that are under way end as Transient.
func (d *Dialer) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var faults []error
	for node, l := range d.links {
		delete(d.links, node)
		faults = append(faults, l.conn.Close())
	}
	for l := range d.dropped {
		delete(d.dropped, l)
		faults = append(faults, l.conn.Close())
	}
	return errors.Join(faults...)
}

func (d *Dialer) client(n repository.Node) (*client, error) {
	if _, err := volume.ParseNodeID(string(n.ID)); err != nil {
		return nil, err
	}
	endpoint, err := parseAddress(n.Address)
	if err != nil {
		return nil, fault.Wrap(err, "agent address of node", string(n.ID))
	}
	if endpoint.Network != "unix" && d.TLS == (TLS{}) {
		return nil, fault.New(fault.Invalid, "node %s is at %s: TCP needs TLS: want certificate, key and CA files", n.ID, n.Address)
	}
	return &client{dialer: d, node: n.ID, endpoint: endpoint}, nil
}

// use returns the connection to a node for one call.
func (d *Dialer) use(node volume.NodeID, endpoint Endpoint) (*link, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fault.New(fault.Transient, "the dialer is closed: this process is ending")
	}
	l := d.links[node]
	if l != nil && l.endpoint == endpoint {
		l.calls++
		return l, nil
	}
	conn, err := d.dialLocked(node, endpoint)
	if err != nil {
		return nil, err
	}
	if d.links == nil {
		d.links, d.dropped = map[volume.NodeID]*link{}, map[*link]bool{}
	}
	if l != nil {
		d.dropped[l] = true
		d.closeUnusedLocked(l)
	}
	l = &link{endpoint: endpoint, conn: conn, calls: 1}
	d.links[node] = l
	return l, nil
}

func (d *Dialer) release(l *link) {
	d.mu.Lock()
	defer d.mu.Unlock()
	l.calls--
	d.closeUnusedLocked(l)
}

// closeUnusedLocked closes a connection that was dropped with its last call.
func (d *Dialer) closeUnusedLocked(l *link) {
	if d.dropped[l] && l.calls == 0 {
		delete(d.dropped, l)
		_ = l.conn.Close() // nothing is under way on it
	}
}

func (d *Dialer) dialLocked(node volume.NodeID, endpoint Endpoint) (*grpc.ClientConn, error) {
	transport := insecure.NewCredentials()
	if endpoint.Network != "unix" {
		if d.identities == nil {
			i, err := newIdentities(d.TLS, failing(d.Log))
			if err != nil {
				return nil, err
			}
			d.identities = i
		}
		transport = credentials.NewTLS(d.identities.client(node))
	}
	// The target's name is not resolved, balanced or sent through a proxy: the
	// address is dialled as it is.
	conn, err := grpc.NewClient("passthrough:///"+endpoint.Address,
		grpc.WithTransportCredentials(transport),
		grpc.WithAuthority("agent.holkas"),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, endpoint.Network, endpoint.Address)
		}),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: redialAtMost},
			MinConnectTimeout: dialTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: pingEvery, Timeout: pingTimeout}),
		grpc.WithMaxHeaderListSize(maxHeaderBytes),
		grpc.WithStaticStreamWindowSize(windowBytes),
		grpc.WithStaticConnWindowSize(4*windowBytes),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReplyBytes), grpc.MaxCallSendMsgSize(maxRequestBytes)),
	)
	if err != nil {
		return nil, fault.New(fault.Invalid, "node %s at %s: %w", node, endpoint, err)
	}
	return conn, nil
}
