package registration

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Defaults of Options.
const (
	DefaultKubeletDir = "/var/lib/kubelet"
	DefaultInterval   = time.Second
)

// apiVersion is that of CSI as the kubelet compares it: the major number counts.
const apiVersion = "1.0.0"

// Options say what to register and where.
type Options struct {
	// Driver is the CSI driver's name.
	Driver string
	// Endpoint is the path of the CSI service's socket as the kubelet sees it:
	// on the host, not in this process's container.
	Endpoint string
	// KubeletDir is the kubelet's directory as this process sees it,
	// DefaultKubeletDir if empty.
	KubeletDir string
	// Interval is how often the socket is looked after, DefaultInterval if zero.
	Interval time.Duration
}

// maxSocketBytes is what the kernel takes as a socket's path.
const maxSocketBytes = 107

// Validate reports every fault of the options at once, as Invalid.
func (o Options) Validate() error {
	var faults []error
	if o.Driver == "" || filepath.Base(o.Driver) != o.Driver || o.Driver[0] == '.' {
		faults = append(faults, fault.New(fault.Invalid, "driver: %q: want a CSI driver name", o.Driver))
	}
	if !filepath.IsAbs(o.Endpoint) || filepath.Clean(o.Endpoint) != o.Endpoint {
		faults = append(faults, fault.New(fault.Invalid, "kubelet endpoint: %q: want the absolute path of the CSI socket on the host", o.Endpoint))
	}
	if o.KubeletDir != "" && !filepath.IsAbs(o.KubeletDir) {
		faults = append(faults, fault.New(fault.Invalid, "kubelet directory: %q: want an absolute path", o.KubeletDir))
	}
	if path := hidden(o.Socket()); len(path) > maxSocketBytes {
		faults = append(faults, fault.New(fault.Invalid, "kubelet directory: %q: the socket's path would have %d bytes: want at most %d", o.KubeletDir, len(path), maxSocketBytes))
	}
	if o.Interval < 0 {
		faults = append(faults, fault.New(fault.Invalid, "interval: %s: want 0 or more", o.Interval))
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

// Socket is the path of the registration socket.
func (o Options) Socket() string {
	dir := o.KubeletDir
	if dir == "" {
		dir = DefaultKubeletDir
	}
	return filepath.Join(dir, "plugins_registry", o.Driver+"-reg.sock")
}

// Run keeps the driver registered until ctx ends, and then returns nil. It
// returns an error if the kubelet refuses the driver, or if the socket cannot be
// made: the process should then exit, and be started again.
func Run(ctx context.Context, o Options) error {
	if err := o.Validate(); err != nil {
		return err
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	s := &service{options: o, refused: make(chan string, 1)}
	server := grpc.NewServer()
	registerapi.RegisterRegistrationServer(server, s)
	k := keeper{path: o.Socket(), server: server, ended: make(chan error, 1)}
	err := k.keep(ctx, o.Interval, s.refused)
	server.GracefulStop()
	k.drop()
	return fault.Wrap(err, "register", o.Driver)
}

// service is what the kubelet calls.
type service struct {
	registerapi.UnimplementedRegistrationServer
	options Options
	refused chan string
}

// GetInfo tells the kubelet who we are.
func (s *service) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type: registerapi.CSIPlugin, Name: s.options.Driver,
		Endpoint: s.options.Endpoint, SupportedVersions: []string{apiVersion},
	}, nil
}

// NotifyRegistrationStatus hears from the kubelet whether it took the driver.
func (s *service) NotifyRegistrationStatus(ctx context.Context, status *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if status.GetPluginRegistered() {
		klog.FromContext(ctx).V(0).Info("Kubelet registered the driver", "driver", s.options.Driver, "endpoint", s.options.Endpoint)
		return &registerapi.RegistrationStatusResponse{}, nil
	}
	select {
	case s.refused <- status.GetError():
	default: // the first refusal is enough
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}

func refusal(said string) error {
	return fault.New(fault.Precondition, "the kubelet refused the driver: %s", said)
}

func hidden(path string) string {
	return filepath.Join(filepath.Dir(path), fmt.Sprintf(".%s.new", filepath.Base(path)))
}
