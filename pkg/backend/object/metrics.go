package object

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/volume"
)

// metric is one number of a volume that is open here.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
	of   func(s engine.State, now time.Time) float64
}

func describe(name, help string, kind prometheus.ValueType, of func(s engine.State, now time.Time) float64) metric {
	return metric{prometheus.NewDesc("holkas_object_"+name, help, []string{"volume"}, nil), kind, of}
}

func counter(name, help string, of func(s engine.Stats) uint64) metric {
	return describe(name, help, prometheus.CounterValue, func(s engine.State, _ time.Time) float64 { return float64(of(s.Stats)) })
}

func gauge(name, help string, of func(s engine.State) int64) metric {
	return describe(name, help, prometheus.GaugeValue, func(s engine.State, _ time.Time) float64 { return float64(of(s)) })
}

var metrics = []metric{
	counter("reads_total", "Reads by the volume's users.", func(s engine.Stats) uint64 { return s.Reads }),
	counter("read_bytes_total", "Bytes that the volume's users read.", func(s engine.Stats) uint64 { return s.ReadBytes }),
	counter("writes_total", "Writes by the volume's users.", func(s engine.Stats) uint64 { return s.Writes }),
	counter("written_bytes_total", "Bytes that the volume's users wrote.", func(s engine.Stats) uint64 { return s.WriteBytes }),
	counter("zeroed_bytes_total", "Bytes that were discarded or written as zeros.", func(s engine.Stats) uint64 { return s.ZeroBytes }),
	counter("flushes_total", "Flushes by the volume's users.", func(s engine.Stats) uint64 { return s.Flushes }),
	counter("journal_bytes_total", "Bytes that were written to the journal.", func(s engine.Stats) uint64 { return s.JournalBytes }),
	counter("segments_total", "Segments that were uploaded.", func(s engine.Stats) uint64 { return s.Segments }),
	counter("segment_bytes_total", "Bytes of the segments that were uploaded.", func(s engine.Stats) uint64 { return s.SegmentBytes }),
	counter("checkpoints_total", "Checkpoints that were published.", func(s engine.Stats) uint64 { return s.Checkpoints }),
	counter("collected_objects_total", "Objects of the log that were deleted since nothing needs them.", func(s engine.Stats) uint64 { return s.Collected }),
	counter("cold_reads_total", "Reads of ranges that were not in the cache.", func(s engine.Stats) uint64 { return s.Image.Cold }),
	counter("cold_read_bytes_total", "Bytes that were read from the repository.", func(s engine.Stats) uint64 { return s.Image.ColdBytes }),
	counter("cache_hits_total", "Reads of ranges that were in the cache.", func(s engine.Stats) uint64 { return s.Image.Hits }),
	counter("bad_reads_total", "Replies of the repository that did not verify, and were asked for again.", func(s engine.Stats) uint64 { return s.Image.Bad }),
	counter("cleaned_segments_total", "Segments that were emptied since little of them lived.", func(s engine.Stats) uint64 { return s.Cleaned }),
	counter("moved_bytes_total", "Bytes of segments that were written for that.", func(s engine.Stats) uint64 { return s.MoveBytes }),
	gauge("live_blocks", "Blocks of the log's segments that are part of the volume.", func(s engine.State) int64 { return int64(s.Stats.LiveBlocks) }),
	gauge("stored_blocks", "Blocks of the log's segments.", func(s engine.State) int64 { return int64(s.Stats.StoredBlocks) }),
	gauge("size_bytes", "Size of the volume.", func(s engine.State) int64 { return s.Size }),
	gauge("backlog_bytes", "Bytes of the journal that are not in the repository yet: what the loss of this node would cost.", func(s engine.State) int64 { return s.Backlog }),
	gauge("journal_used_bytes", "Bytes of the journal that are in use.", func(s engine.State) int64 { return s.JournalUsed }),
	gauge("journal_size_bytes", "Size of the journal.", func(s engine.State) int64 { return s.JournalSize }),
	gauge("memory_bytes", "Memory of the extent table and what is newer.", func(s engine.State) int64 { return s.MemoryBytes }),
	describe("recovery_point_seconds", "Age of the oldest write that is not in the repository yet; 0 if there is none.", prometheus.GaugeValue, func(s engine.State, now time.Time) float64 {
		if s.Oldest.IsZero() {
			return 0
		}
		return max(now.Sub(s.Oldest).Seconds(), 0)
	}),
	describe("store_failing", "1 while the repository does not do what is asked of it.", prometheus.GaugeValue, func(s engine.State, _ time.Time) float64 {
		if s.StoreErr != nil {
			return 1
		}
		return 0
	}),
}

// Metrics returns a collector of what the volumes that are open here do.
func (b *Backend) Metrics() prometheus.Collector { return collector{b} }

type collector struct{ b *Backend }

// Describe implements prometheus.Collector.
func (collector) Describe(c chan<- *prometheus.Desc) {
	for _, m := range metrics {
		c <- m.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(into chan<- prometheus.Metric) {
	now := c.b.options.Now()
	for id, v := range c.b.open() {
		s := v.State()
		for _, m := range metrics {
			into <- prometheus.MustNewConstMetric(m.desc, m.kind, m.of(s, now), string(id))
		}
	}
}

// open returns the volumes that are open for writing here.
func (b *Backend) open() map[volume.ID]*engine.Volume {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[volume.ID]*engine.Volume, len(b.mu.lives))
	for id, l := range b.mu.lives {
		if l.v != nil {
			all[id] = l.v
		}
	}
	return all
}
