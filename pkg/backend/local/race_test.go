package local

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// all runs a call several times at once and returns what each gave.
func all[T any](n int, call func() (T, error)) (values []T, errs []error) {
	values, errs = make([]T, n), make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { values[i], errs[i] = call() })
	}
	wg.Wait()
	return values, errs
}

// TestDuplicatesInFlight: the same call, eight times at once, happens once and
// gives one reply.
func TestDuplicatesInFlight(t *testing.T) {
	t.Parallel()
	eachPool(t, 512*mib, func(h *house) {
		same := func(name string, call func() (string, error)) {
			h.Helper()
			replies, errs := all(8, call)
			for i := range replies {
				if errs[i] != nil || replies[i] != replies[0] {
					h.Errorf("%s: %q, %v, and %q", name, replies[i], errs[i], replies[0])
				}
			}
		}
		r := request(thickClass(), 16*mib)
		for _, o := range []operation{
			{Create: &r},
			{Expand: r.ID, SizeBytes: 32 * mib},
			{Record: r.ID, Filesystem: backend.Filesystem{Type: volume.XFS, State: backend.Formatted}},
			{Cut: &backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: r.ID, Consistency: volume.FilesystemConsistent}},
			{Create: &backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 32 * mib, Class: thickClass(), Source: backend.Source{Volume: r.ID}}},
		} {
			same(fmt.Sprintf("%+v", o), func() (string, error) { return o.run(h.Context(), h.Backend) })
		}
		same("attach", func() (string, error) { return rendered(h.Attach(h.Context(), backend.AttachRequest{ID: r.ID})) })
		same("detach", func() (string, error) { return "", h.Detach(h.Context(), r.ID) })
		same("pause", func() (string, error) { return "", h.Pause(h.Context(), "p", []volume.ID{r.ID}) })
		same("resume", func() (string, error) { return "", h.Resume(h.Context(), "p") })
		same("delete", func() (string, error) { return "", h.DeleteVolume(h.Context(), r.ID) })
		h.deleteAll()
	})
}

// TestCreateRacesDelete: whatever comes first, the id stays deleted.
func TestCreateRacesDelete(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		for range 10 {
			r := request(thickClass(), mib)
			var wg sync.WaitGroup
			wg.Go(func() {
				if _, err := h.CreateVolume(h.Context(), r); err != nil && !fault.Is(err, fault.Fenced) {
					h.Error(err)
				}
			})
			wg.Go(func() {
				if err := h.DeleteVolume(h.Context(), r.ID); err != nil {
					h.Error(err)
				}
			})
			wg.Wait()
			_, err := h.Volume(h.Context(), r.ID)
			h.want(err, fault.NotFound)
			_, err = h.CreateVolume(h.Context(), r)
			h.want(err, fault.Fenced)
		}
		h.deleteAll()
	})
}

// TestManyAtOnce lets workers live through whole lives of volumes at once, in a
// pool where they meet its limit, and nothing is left.
func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	eachPool(t, 512*mib, func(h *house) {
		var wg sync.WaitGroup
		for worker := range 8 {
			wg.Go(func() { h.live(rand.New(rand.NewPCG(uint64(worker), 1))) })
		}
		wg.Wait()
		h.deleteAll()
	})
}

func (h *house) live(rng *rand.Rand) {
	may := func(err error, kinds ...fault.Kind) bool {
		for _, kind := range kinds {
			if fault.Is(err, kind) {
				return false
			}
		}
		if err != nil {
			h.Error(err)
		}
		return err == nil
	}
	for range 5 {
		r := request(thickClass(), int64(1+rng.IntN(32))*mib)
		if _, err := h.CreateVolume(h.Context(), r); !may(err, fault.Exhausted) {
			continue
		}
		_, err := h.Attach(h.Context(), backend.AttachRequest{ID: r.ID})
		may(err)
		cut := cutOf(r.ID, volume.FilesystemConsistent)
		if _, err := h.CreateSnapshot(h.Context(), cut); may(err, fault.Exhausted) {
			c := r
			c.ID, c.Source.Snapshot = volume.NewID(), cut.ID
			if _, err := h.CreateVolume(h.Context(), c); may(err, fault.Exhausted) {
				may(h.DeleteVolume(h.Context(), c.ID))
			}
			may(h.DeleteSnapshot(h.Context(), cut.ID))
		}
		may(h.Detach(h.Context(), r.ID))
		may(h.DeleteVolume(h.Context(), r.ID))
	}
}
