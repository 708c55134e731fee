package metrics_test

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/metrics"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
)

func TestContract(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Store {
		s, err := metrics.New(memory.New(), prometheus.NewPedanticRegistry())
		if err != nil {
			t.Fatal(err)
		}
		return s
	})
}

// TestCounts has each request be counted by its method and its end.
func TestCounts(t *testing.T) {
	registry := prometheus.NewPedanticRegistry()
	refused := faults.Fault{Before: fault.New(fault.Transient, "%w", objstore.ErrRefused)}
	inner := faults.New(memory.New(), faults.Join(
		faults.On(faults.Put, 2, faults.Fault{Before: faults.ErrThrottled}),
		faults.On(faults.Delete, 2, refused),
		faults.On(faults.List, 2, faults.Fault{Lost: faults.ErrLost}),
	))
	s, err := metrics.New(inner, registry)
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	for range 2 {
		_ = s.Create(ctx, "a", []byte("1234567"))
		_ = s.Put(ctx, "b", []byte("123"))
		_, _ = s.List(ctx, objstore.ListOptions{})
		_, _ = s.Get(ctx, "a")
		_, _ = s.GetRange(ctx, "a", 2, 3)
		_, _ = s.Get(ctx, "absent")
		_ = s.Delete(ctx, "x", "y")
	}
	want := map[string]float64{
		"create ok": 1, "create exists": 1, "put ok": 1, "put slow_down": 1, "get ok": 2, "get not_found": 2, "get_range ok": 2,
		"delete ok": 1, "delete refused": 1, "list ok": 1, "list transient": 1,
		"read": 20, "written": 10,
		"running create": 0, "running put": 0, "running get": 0, "running get_range": 0, "running delete": 0, "running list": 0,
	}
	if got := values(t, registry); !maps.Equal(got, want) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if _, err := metrics.New(inner, registry); !fault.Is(err, fault.Internal) {
		t.Errorf("twice in one registry: got %v, want Internal", err)
	}
}

func values(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	for _, family := range families {
		name := strings.TrimSuffix(strings.TrimPrefix(family.GetName(), "holkas_store_"), "_bytes_total")
		for _, m := range family.GetMetric() {
			switch name {
			case "request_duration_seconds":
				got[fmt.Sprint(m.GetLabel()[0].GetValue(), " ", m.GetLabel()[1].GetValue())] = float64(m.GetHistogram().GetSampleCount())
			case "requests_running":
				got["running "+m.GetLabel()[0].GetValue()] = m.GetGauge().GetValue()
			default:
				got[name] = m.GetCounter().GetValue()
			}
		}
	}
	return got
}
