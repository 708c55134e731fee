package local

import (
	"context"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// scattered makes two snapshots of a thin volume with many extents: the second
// has one block of every stride, the first every other one of those.
func scattered(t *testing.T, b *Backend, size int64, extents int) (v *rangesVolume, base, target volume.SnapshotID) {
	t.Helper()
	v = newRangesVolume(t, b, volume.Thin, backend.Source{}, size)
	p, err := b.findVolume(t.Context(), v.id)
	v.must(err)
	f, err := os.OpenFile(p.medium.disk(p.dir), os.O_WRONLY, 0)
	v.must(err)
	defer f.Close()
	stride := size / int64(extents) / rangesBlock * rangesBlock
	block := make([]byte, rangesBlock)
	block[0] = 1
	write := func(from int) {
		for i := from; i < extents; i += 2 {
			v.must(discard1(f.WriteAt(block, int64(i)*stride)))
		}
		v.must(f.Sync())
	}
	write(0)
	base = v.cut()
	write(1)
	return v, base, v.cut()
}

func TestRangesNeedConstantMemory(t *testing.T) {
	extents, pool := 10_000, int64(2<<30)
	if os.Getenv("HOLKAS_SOAK") != "" {
		extents, pool = 1_000_000, 12<<30
	}
	onRangePools(t, pool, func(t *testing.T, b *Backend) {
		_, base, target := scattered(t, b, 100<<30, extents)
		count := func(what string, stream func() (int, error), want int) {
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			began := time.Now()
			got, err := stream()
			took := time.Since(began)
			runtime.ReadMemStats(&after)
			if err != nil || got != want {
				t.Errorf("%s: %d ranges and error %v, want %d", what, got, err, want)
			}
			allocated := after.TotalAlloc - before.TotalAlloc
			t.Logf("%s: %d ranges in %v, %d bytes allocated", what, got, took, allocated)
			if limit := uint64(256<<10) + uint64(extents/checkAfter)*2500; allocated > limit {
				t.Errorf("%s: %d bytes allocated for %d extents, want at most %d", what, allocated, extents, limit)
			}
		}
		count("allocated", func() (n int, err error) {
			for _, err := range b.Allocated(t.Context(), target, 0) {
				if err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		}, extents)
		count("delta", func() (n int, err error) {
			for _, err := range b.Delta(t.Context(), base, target, 0) {
				if err != nil {
					return n, err
				}
				n++
			}
			return n, nil
		}, extents/2)
	})
}

func TestRangesEndWithWhatEndsThem(t *testing.T) {
	onRangePools(t, 2<<30, func(t *testing.T, b *Backend) {
		v, base, target := scattered(t, b, 1<<30, 2000)
		ends := func(what string, kind fault.Kind, end func(cancel func())) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			ranges, last := 0, error(nil)
			for _, err := range b.Delta(ctx, base, target, 0) {
				if last = err; err != nil {
					continue
				}
				if ranges++; ranges == 1 {
					end(cancel)
				}
			}
			if !fault.Is(last, kind) {
				t.Errorf("%s: ended after %d ranges with %v, want kind %q", what, ranges, last, kind)
			}
		}
		ends("cancelled", fault.Canceled, func(cancel func()) { cancel() })
		stopped := 0
		for range b.Allocated(t.Context(), target, 0) {
			stopped++
			break
		}
		if stopped != 1 {
			t.Errorf("%d ranges until the reader stopped, want 1", stopped)
		}
		ends("base deleted", fault.NotFound, func(func()) { v.must(b.DeleteSnapshot(t.Context(), base)) })
		wantRangesFault(t, b.Delta(t.Context(), base, target, 0), fault.NotFound)
		v, base, target = scattered(t, b, 1<<30, checkAfter/4) // less than is looked at at once
		ends("target deleted", fault.NotFound, func(func()) { v.must(b.DeleteSnapshot(t.Context(), target)) })
	})
}

func TestRangesOfADamagedSnapshot(t *testing.T) {
	onRangePools(t, 2<<30, func(t *testing.T, b *Backend) {
		v := newRangesVolume(t, b, volume.Thin, backend.Source{}, 4<<20)
		v.change(10)
		short, missing := v.cut(), v.cut()
		disk := func(id volume.SnapshotID) string {
			p, err := b.findSnapshot(t.Context(), id)
			v.must(err)
			return p.medium.disk(p.dir)
		}
		v.must(os.Truncate(disk(short), 1<<20))
		v.must(os.Remove(disk(missing)))
		wantRangesFault(t, b.Allocated(t.Context(), short, 0), fault.Corrupt)
		wantRangesFault(t, b.Allocated(t.Context(), missing, 0), fault.Corrupt)
		wantRangesFault(t, b.Delta(t.Context(), short, missing, 0), fault.Corrupt)
		wantRangesFault(t, b.Allocated(t.Context(), volume.NewSnapshotID(), 0), fault.NotFound)
		wantRangesFault(t, b.Allocated(t.Context(), "../../etc", 0), fault.NotFound)
	})
}
