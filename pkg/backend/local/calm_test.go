package local

import (
	"slices"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/volume"
)

func (c *calm) now() (cuts, waiting int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cuts, c.waiting
}

// watched is a medium that tells when it makes quiet and when it shares.
type watched struct {
	medium
	called func(what string)
}

func (w watched) quiet() error { w.called("quiet"); return w.medium.quiet() }

func (w watched) share(from, to string) error { w.called("share"); return w.medium.share(from, to) }

func (w watched) shareLive(from, to string) error {
	w.called("share live")
	return w.medium.shareLive(from, to)
}

// TestNoRemovalBesideACut: a cut is counted from before its filesystem is made
// quiet until it is done, and what is deleted meanwhile is removed after it.
func TestNoRemovalBesideACut(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		s := h.store()
		id := h.create(thickClass(), 16*mib)
		old := h.snapshotOf(id)
		_, unmount := h.mount(id)
		real, calls := s.medium, []string(nil)
		s.medium = watched{real, func(what string) {
			if cuts, _ := s.calm.now(); cuts != 1 {
				h.Errorf("%s: %d cuts are counted, want 1", what, cuts)
			}
			calls = append(calls, what)
		}}
		for _, c := range []volume.Consistency{volume.FilesystemConsistent, volume.CrashConsistent} {
			_, err := h.CreateSnapshot(h.Context(), cutOf(id, c))
			h.must(err)
		}
		s.medium = real
		if want := []string{"quiet", "share", "quiet", "share live"}; !slices.Equal(calls, want) {
			h.Errorf("calls: %v, want %v", calls, want)
		}

		end := s.calm.cut()
		deleted := make(chan error, 1)
		go func() { deleted <- h.DeleteSnapshot(h.Context(), old.ID) }()
		for waiting := 0; waiting == 0; _, waiting = s.calm.now() {
			select {
			case err := <-deleted:
				h.Fatalf("deleted beside a cut (%v)", err)
			case <-time.After(time.Millisecond):
			}
		}
		if got := h.entries("trash"); !slices.Equal(got, []string{string(old.ID)}) {
			h.Errorf("the trash holds %v, want the snapshot until the cut is done", got)
		}
		end()
		h.must(<-deleted)
		unmount()
		h.deleteAll()
	})
}
