package main

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local"
	"github.com/holkas-io/holkas/pkg/volume"
)

// collectLimit bounds how long a look at the pools may take for one scrape.
const collectLimit = 5 * time.Second

var (
	poolSize      = prometheus.NewDesc("holkas_pool_size_bytes", "Size of a pool's filesystem.", []string{"pool", "type"}, nil)
	poolAvailable = prometheus.NewDesc("holkas_pool_available_bytes", "What can still be created in a pool as thick volumes.", []string{"pool", "type"}, nil)
	volumeCount   = prometheus.NewDesc("holkas_volumes", "Volumes in a pool.", []string{"pool"}, nil)
	attachedCount = prometheus.NewDesc("holkas_volumes_attached", "Volumes in a pool that have a device.", []string{"pool"}, nil)
	healthCount   = prometheus.NewDesc("holkas_backend_health", "What is wrong with the pools: how many have this.", []string{"severity", "reason"}, nil)
)

// engineMetrics looks at the pools when it is asked.
type engineMetrics struct {
	ctx     context.Context // of the process, for its log
	backend *local.Backend
	roots   map[string]string // of the pools, by name

	mu sync.Mutex // one look at a time
}

func newEngineMetrics(ctx context.Context, b *local.Backend, pools []local.PoolConfig) *engineMetrics {
	m := &engineMetrics{ctx: ctx, backend: b, roots: map[string]string{}}
	for _, p := range pools {
		m.roots[p.Name] = p.Path + p.MountPath // one of the two is empty
	}
	return m
}

// Describe implements prometheus.Collector.
func (m *engineMetrics) Describe(c chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{poolSize, poolAvailable, volumeCount, attachedCount, healthCount} {
		c <- d
	}
}

// Collect implements prometheus.Collector. What cannot be seen is left out.
func (m *engineMetrics) Collect(c chan<- prometheus.Metric) {
	m.mu.Lock()
	defer m.mu.Unlock()
	ctx, cancel := context.WithTimeout(m.ctx, collectLimit)
	defer cancel()
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		c <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	health, err := m.backend.Health(ctx)
	m.logged(err)
	wrong := map[[2]string]float64{}
	for _, h := range health {
		wrong[[2]string{string(h.Severity), h.Reason}]++
	}
	for labels, n := range wrong {
		gauge(healthCount, n, labels[:]...)
	}
	volumes, attached := m.count(ctx)
	for _, p := range m.backend.Pools(ctx) {
		capacity, err := m.backend.Capacity(ctx, volume.Class{Backend: volume.BackendLocal, Pool: p.Name, Provisioning: volume.Thick})
		if m.logged(err) {
			continue
		}
		gauge(poolAvailable, float64(capacity.AvailableBytes), p.Name, string(p.Type))
		var st unix.Statfs_t
		if unix.Statfs(m.roots[p.Name], &st) == nil {
			gauge(poolSize, float64(st.Blocks)*float64(st.Bsize), p.Name, string(p.Type))
		}
		gauge(volumeCount, volumes[p.Name], p.Name)
		gauge(attachedCount, attached[p.Name], p.Name)
	}
}

func (m *engineMetrics) count(ctx context.Context) (volumes, attached map[string]float64) {
	volumes, attached = map[string]float64{}, map[string]float64{}
	for v, err := range m.backend.Volumes(ctx) {
		if m.logged(err) {
			continue
		}
		volumes[v.Pool]++
		if v.Device != "" {
			attached[v.Pool]++
		}
	}
	return volumes, attached
}

func (m *engineMetrics) logged(err error) bool {
	if err != nil {
		klog.FromContext(m.ctx).V(2).Info("Metrics are incomplete", "err", err)
	}
	return err != nil
}

// pauseMeter measures the pauses of the snapshots that a backend makes.
type pauseMeter struct {
	backend.Backend
	measured, predicted prometheus.Observer
	last                prometheus.Gauge
}

func measurePauses(backends map[string]backend.Backend, r prometheus.Registerer) map[string]backend.Backend {
	buckets := prometheus.ExponentialBuckets(0.0005, 2, 14) // to 4 s
	of := []string{"backend"}
	measured := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holkas_snapshot_pause_seconds", Help: "How long snapshots blocked the writers of their volumes.", Buckets: buckets}, of)
	predicted := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "holkas_snapshot_predicted_pause_seconds", Help: "How long snapshots were expected to block the writers of their volumes; 0 where it does not depend on what was written.", Buckets: buckets}, of)
	last := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "holkas_snapshot_last_pause_seconds", Help: "How long the last snapshot blocked the writers of its volume."}, of)
	r.MustRegister(measured, predicted, last)
	metered := map[string]backend.Backend{}
	for name, b := range backends {
		metered[name] = pauseMeter{b, measured.WithLabelValues(name), predicted.WithLabelValues(name), last.WithLabelValues(name)}
	}
	return metered
}

// CreateSnapshot makes a snapshot and notes its pause. A repetition is noted
// again: it returns what the first one measured.
func (m pauseMeter) CreateSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	s, err := m.Backend.CreateSnapshot(ctx, r)
	if err == nil {
		m.measured.Observe(s.Pause.Seconds())
		m.predicted.Observe(s.PredictedPause.Seconds())
		m.last.Set(s.Pause.Seconds())
	}
	return s, err
}
