package agent

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics has the calls by method and code. Both labels are of fixed sets: a
// method that does not exist never gets this far.
type metrics struct {
	duration *prometheus.HistogramVec
	running  *prometheus.GaugeVec
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "holkas_agent_request_duration_seconds",
			Help:    "How long the engine took for a call of the internal API, by method and gRPC code.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"method", "code"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holkas_agent_requests_running",
			Help: "Calls of the internal API that are under way, by method.",
		}, []string{"method"}),
	}
	if r == nil {
		return m, nil
	}
	if err := r.Register(m.duration); err != nil {
		return nil, err
	}
	if err := r.Register(m.running); err != nil {
		r.Unregister(m.duration)
		return nil, err
	}
	return m, nil
}

func (m *metrics) begin(method string) { m.running.WithLabelValues(method).Inc() }

func (m *metrics) end(method, code string, took time.Duration) {
	m.running.WithLabelValues(method).Dec()
	m.duration.WithLabelValues(method, code).Observe(took.Seconds())
}
