package main

import (
	"context"
	"sync/atomic"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/agent"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/csi"
)

type controllerOptions struct {
	endpoint       string
	catalogue      catalogue
	intentTimeout  time.Duration
	tls            agent.TLS
	metricsAddress string
	logging        logging
}

func controllerCommand() command {
	var o controllerOptions
	s := &config.Set{Check: func(faulty func(string) bool) []error { return checkTLS(o.tls, faulty) }}
	addEndpoint(s, &o.endpoint)
	o.catalogue.add(s)
	o.catalogue.addCreate(s)
	config.AddOne(s, config.One[time.Duration]{
		Name: "intent-timeout", Usage: "how long a creation that nobody asks for any more is kept before it is undone", Into: &o.intentTimeout,
		Default: "5m", Parse: parseDuration,
	})
	addTLS(s, &o.tls)
	addMetricsAddress(s, &o.metricsAddress)
	o.logging.add(s)
	return command{
		name: "controller", short: "Serve the CSI controller services",
		long: "Serves the CSI services Identity, Controller, GroupController and SnapshotMetadata.\n" +
			"What they must remember is in the repository: several controllers may run on one,\n" +
			"and each may be ended at any moment. While the repository's store is out of reach, calls\n" +
			"are Unavailable.",
		example: "  holkas controller --endpoint=unix:///run/holkas/controller.sock --repository=dir:/var/lib/holkas/repository\n" +
			"  HOLKAS_ENDPOINT=unix:///csi/csi.sock holkas controller --config=/etc/holkas/controller.yaml",
		settings: s,
		run:      func(ctx context.Context, _ streams, _ string) error { return runController(ctx, o) },
	}
}

// runController puts the controller process together and runs it.
func runController(ctx context.Context, o controllerOptions) error {
	ctx = o.logging.start(ctx, "controller")
	registry := newRegistry()
	repositories, err := o.catalogue.opener(registry)
	if err != nil {
		return err
	}
	defer repositories.close()
	engines := &agent.Dialer{TLS: o.tls, Log: klog.FromContext(ctx)}
	defer func() { _ = engines.Close() }() // no call is left
	parts, err := metricsPart(o.metricsAddress, registry)
	if err != nil {
		return err
	}
	service := newLate()
	var ready atomic.Bool
	return runParts(ctx, stopLimit, append(parts,
		part{"repository", func(ctx context.Context) error {
			r, err := repositories.await(ctx, service.failed)
			if err != nil || r == nil {
				return err
			}
			c, err := controller.New(controller.Options{Repository: r, Engines: engines, IntentTimeout: o.intentTimeout})
			if err != nil {
				return err
			}
			service.opened(c)
			c.Run(ctx)
			return nil
		}},
		part{"CSI services", func(ctx context.Context) error {
			return csi.Serve(ctx, csi.ServeOptions{
				Endpoint: o.endpoint,
				Services: csi.Services{
					Identity:         csi.NewIdentityServer(csi.IdentityOptions{Version: thisBuild().release, Ready: ready.Load}),
					Controller:       csi.NewControllerServer(service),
					GroupController:  csi.NewGroupControllerServer(service),
					SnapshotMetadata: csi.NewSnapshotMetadataServer(service),
				},
				Registerer: registry,
				Listening:  func() { ready.Store(true) },
			})
		}})...)
}
