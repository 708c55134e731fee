// Package metrics is a store around a store that counts and times requests, for
// Prometheus:
//
//	holkas_store_request_duration_seconds{op,result}   every request, by how it ended
//	holkas_store_requests_running{op}                  those under way
//	holkas_store_read_bytes_total                      bytes of bodies that came
//	holkas_store_written_bytes_total                   bytes of bodies that were stored
//
// The op is get, get_range, put, create, delete or list; the result is ok, the
// error's kind ("not_found"), or of Transient errors slow_down and refused too. Put under package
// retry, it counts what the store sees, retries included.
package metrics

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Store counts and times requests.
type Store struct {
	inner         objstore.Store
	duration      *prometheus.HistogramVec
	running       *prometheus.GaugeVec
	read, written prometheus.Counter
}

var _ objstore.Store = (*Store)(nil)

// New returns a store around inner whose metrics are in a registry. Of two stores
// in one registry the second is an error: wrap the registerer with a label.
func New(inner objstore.Store, r prometheus.Registerer) (*Store, error) {
	s := &Store{
		inner: inner,
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "holkas_store_request_duration_seconds",
			Help:    "How long requests to the object store took, by how they ended.",
			Buckets: prometheus.ExponentialBuckets(0.0005, 2, 17), // 0.5 ms to 33 s
		}, []string{"op", "result"}),
		running: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "holkas_store_requests_running", Help: "Requests to the object store under way.",
		}, []string{"op"}),
		read:    prometheus.NewCounter(prometheus.CounterOpts{Name: "holkas_store_read_bytes_total", Help: "Bytes of objects that were read."}),
		written: prometheus.NewCounter(prometheus.CounterOpts{Name: "holkas_store_written_bytes_total", Help: "Bytes of objects that were stored."}),
	}
	for _, c := range []prometheus.Collector{s.duration, s.running, s.read, s.written} {
		if err := r.Register(c); err != nil {
			return nil, fault.As(fault.Internal, err)
		}
	}
	return s, nil
}

// observe runs a request.
func (s *Store) observe(op string, request func() error) error {
	running := s.running.WithLabelValues(op)
	running.Inc()
	defer running.Dec()
	began := time.Now()
	err := request()
	s.duration.WithLabelValues(op, result(err)).Observe(time.Since(began).Seconds())
	return err
}

func result(err error) string {
	switch {
	case err == nil:
		return "ok"
	case errors.Is(err, objstore.ErrSlowDown):
		return "slow_down"
	case errors.Is(err, objstore.ErrRefused):
		return "refused"
	}
	return strings.ReplaceAll(fault.KindOf(err).String(), " ", "_")
}

// Get returns an object whole.
func (s *Store) Get(ctx context.Context, key string) (body []byte, err error) {
	err = s.observe("get", func() error { body, err = s.inner.Get(ctx, key); return err })
	s.read.Add(float64(len(body)))
	return body, err
}

// GetRange returns a part of an object.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (body []byte, err error) {
	err = s.observe("get_range", func() error { body, err = s.inner.GetRange(ctx, key, offset, length); return err })
	s.read.Add(float64(len(body)))
	return body, err
}

// Put stores an object, replacing one that is there.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	err := s.observe("put", func() error { return s.inner.Put(ctx, key, body) })
	s.wrote(body, err)
	return err
}

// Create stores an object if there is none.
func (s *Store) Create(ctx context.Context, key string, body []byte) error {
	err := s.observe("create", func() error { return s.inner.Create(ctx, key, body) })
	s.wrote(body, err)
	return err
}

func (s *Store) wrote(body []byte, err error) {
	if err == nil {
		s.written.Add(float64(len(body)))
	}
}

// Delete removes objects.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	return s.observe("delete", func() error { return s.inner.Delete(ctx, keys...) })
}

// List returns a page of the objects.
func (s *Store) List(ctx context.Context, o objstore.ListOptions) (page objstore.Page, err error) {
	err = s.observe("list", func() error { page, err = s.inner.List(ctx, o); return err })
	return page, err
}
