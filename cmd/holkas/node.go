package main

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/agent"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/csi"
	"github.com/holkas-io/holkas/pkg/csi/registration"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

type nodeOptions struct {
	node            volume.NodeID
	endpoint        string
	agentEndpoint   string
	kubeletDir      string
	kubeletEndpoint string
	metricsAddress  string
	logging         logging
}

func nodeCommand() command {
	var o nodeOptions
	s := &config.Set{}
	addNodeID(s, &o.node)
	addEndpoint(s, &o.endpoint)
	config.AddOne(s, config.One[string]{
		Name: "agent-endpoint", Usage: "the `unix://` socket of this node's engine", Into: &o.agentEndpoint,
		Parse: parseUnix, Required: "the socket of this node's engine: unix:///an/absolute/path",
	})
	config.AddOne(s, config.One[string]{
		Name: "kubelet-dir", Usage: "the kubelet's `directory`, as this process sees it: every path of a request must lie below it",
		Into: &o.kubeletDir, Default: node.DefaultKubeletDir, Parse: parsePath,
	})
	config.AddOne(s, config.One[string]{
		Name: "kubelet-endpoint", Usage: "the `path` of the CSI socket on the host: registers the driver with the kubelet, if given",
		Into: &o.kubeletEndpoint, Parse: parsePath,
	})
	addMetricsAddress(s, &o.metricsAddress)
	o.logging.add(s)
	return command{
		name: "node", short: "Serve the CSI node service",
		long: "Serves the CSI services Identity and Node: formats, checks, mounts, publishes and\n" +
			"grows the volumes that this node's engine has. It keeps nothing of its own, and needs\n" +
			"no repository. With --kubelet-endpoint it registers itself with the kubelet.",
		example: "  holkas node --node-id=node-1 --endpoint=unix:///run/holkas/node.sock --agent-endpoint=unix:///run/holkas/agent.sock\n" +
			"  holkas node --config=/etc/holkas/node.yaml --kubelet-endpoint=/var/lib/kubelet/plugins/" + csi.DriverName + "/csi.sock",
		settings: s,
		run:      func(ctx context.Context, _ streams, _ string) error { return runNode(ctx, o) },
	}
}

// runNode puts the node process together and runs it.
func runNode(ctx context.Context, o nodeOptions) error {
	ctx = o.logging.start(ctx, "node")
	registry := newRegistry()
	engines := &agent.Dialer{Log: klog.FromContext(ctx)}
	defer func() { _ = engines.Close() }() // no call is left
	self := repository.Node{ID: o.node, Address: o.agentEndpoint}
	var backends []backend.Backend
	for _, name := range []string{volume.BackendLocal, volume.BackendObject} {
		b, err := engines.Backend(self, name)
		if err != nil {
			return err
		}
		backends = append(backends, b)
	}
	service, err := node.New(node.Options{
		ID: o.node, Backends: backends, KubeletDir: o.kubeletDir,
		MaxVolumes: func(ctx context.Context) (int64, error) {
			info, err := engines.Info(ctx, self)
			return info.MaxVolumes, err
		},
	})
	if err != nil {
		return err
	}
	parts, err := metricsPart(o.metricsAddress, registry)
	if err != nil {
		return err
	}
	var ready atomic.Bool
	listening := make(chan struct{})
	parts = append(parts, part{"CSI services", func(ctx context.Context) error {
		err := csi.Serve(ctx, csi.ServeOptions{
			Endpoint: o.endpoint,
			Services: csi.Services{
				Identity: csi.NewIdentityServer(csi.IdentityOptions{Version: thisBuild().release, Ready: ready.Load}),
				Node:     csi.NewNodeServer(service),
			},
			Registerer: registry,
			Listening:  func() { ready.Store(true); close(listening) },
		})
		service.Close() // what outlived its call comes to its end
		return err
	}})
	if o.kubeletEndpoint != "" {
		parts = append(parts, part{"registration", func(ctx context.Context) error { return register(ctx, o, service, listening) }})
	}
	return runParts(ctx, stopLimit, parts...)
}

// infoLimit is how long one question for the node's info may take.
const infoLimit = 2 * time.Second

// register makes the driver known to the kubelet, which asks at once for the
// node's info, and refuses a driver for good that has no answer: so not before
// the services listen and the engine answers.
func register(ctx context.Context, o nodeOptions, service *node.Node, listening <-chan struct{}) error {
	select {
	case <-listening:
	case <-ctx.Done():
		return nil
	}
	for {
		limited, cancel := context.WithTimeout(ctx, infoLimit)
		_, err := service.Info(limited)
		cancel()
		switch {
		case err == nil:
			return registration.Run(ctx, registration.Options{
				Driver: csi.DriverName, Endpoint: o.kubeletEndpoint, KubeletDir: o.kubeletDir,
			})
		case ctx.Err() != nil:
			return nil
		case !fault.Is(err, fault.Transient) && !fault.Is(err, fault.Deadline):
			return err
		}
		klog.FromContext(ctx).Error(err, "Engine does not answer: the driver is not registered before it does", "agentEndpoint", o.agentEndpoint)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}
