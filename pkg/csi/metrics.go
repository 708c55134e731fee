package csi

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holkas-io/holkas/pkg/fault"
)

// newCalls makes the histogram of calls by method and code; its _count counts
// them. A registerer that has it already, since the services were served before,
// keeps the one that it has.
func newCalls(r prometheus.Registerer) (*prometheus.HistogramVec, error) {
	calls := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "holkas_csi_call_duration_seconds",
		Help:    "Duration of CSI calls by method and gRPC code.",
		Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
	}, []string{"method", "code"})
	if r == nil {
		return calls, nil
	}
	err := r.Register(calls)
	var twice prometheus.AlreadyRegisteredError
	if errors.As(err, &twice) {
		if had, ok := twice.ExistingCollector.(*prometheus.HistogramVec); ok {
			return had, nil
		}
	}
	return calls, fault.As(fault.Internal, err)
}
