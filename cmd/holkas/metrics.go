package main

import (
	"context"
	"errors"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"k8s.io/klog/v2"
)

// newRegistry returns a registry with what every process says of itself.
func newRegistry() *prometheus.Registry {
	r, v := prometheus.NewRegistry(), thisBuild()
	info := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "holkas_build_info", Help: "What the program was made from; always 1.",
		ConstLabels: prometheus.Labels{"version": v.release, "revision": v.revision, "goversion": v.compiler},
	})
	info.Set(1)
	r.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return r
}

// metricsPart serves /metrics and /healthz. It gives none for an empty address.
// The address is taken at once, so that one that is in use is said at the start.
func metricsPart(address string, r *prometheus.Registry) ([]part, error) {
	if address == "" {
		return nil, nil
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(r, promhttp.HandlerOpts{Registry: r}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	return []part{{"metrics", func(ctx context.Context) error {
		klog.FromContext(ctx).V(0).Info("Serving metrics", "address", listener.Addr().String())
		stop := context.AfterFunc(ctx, func() {
			bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
			defer cancel()
			if server.Shutdown(bounded) != nil {
				_ = server.Close() // a scrape that hangs is cut off
			}
		})
		defer stop()
		if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	}}}, nil
}
