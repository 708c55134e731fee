package node

import (
	"path/filepath"
	"runtime"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// dying makes the node die at the k-th place that it passes: the goroutine of
// the operation ends there and then, and only what is in the kernel and in the
// engine stays.
func (h *house) dying(k int) (died *bool) {
	died = new(bool)
	h.node.here = func(string) {
		if k--; k == 0 {
			*died = true
			runtime.Goexit()
		}
	}
	return died
}

// walk does a step again and again, dying one place later each time, until it
// runs through. After each death the same call must converge, or, with undo, the
// reverse one must and the step is then done from the beginning.
func (h *house) walk(step, undo func() error) {
	h.Helper()
	for k := 1; ; k++ {
		died := h.dying(k)
		err := step()
		h.node.here = func(string) {}
		if !*died {
			h.must(err)
			return
		}
		if undo != nil {
			h.must(undo())
			continue
		}
		h.must(step())
		return
	}
}

// deaths counts the places that a step passes, by running it.
func (h *house) deaths(step func() error) int {
	h.Helper()
	places := 0
	h.node.here = func(string) { places++ }
	h.must(step())
	h.node.here = func(string) {}
	return places
}

func TestDyingBetweenAnyTwoSteps(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		use := Use{Filesystem: fs}
		probe := h.engine.create(sizeFor(fs))
		places := h.deaths(func() error { return h.stage(probe, use) })
		if places < 5 {
			h.Fatalf("staging passes %d places, want 5 or more", places)
		}
		for k := 1; k <= places; k++ {
			id := h.engine.create(sizeFor(fs))
			died := h.dying(k)
			_ = h.stage(id, use)
			if h.node.here = func(string) {}; !*died {
				h.Fatalf("did not die at place %d", k)
			}
			if k%2 == 0 { // the caller gives up and unstages before it tries again
				h.must(h.unstage(id))
			}
			h.must(h.stage(id, use))
			if got := h.state(id); got != backend.Formatted {
				h.Errorf("place %d: state %q", k, got)
			}
			h.write(filepath.Join(h.staging(id), "f"), "x")
			h.walk(func() error { return h.publish(id, "a", use) }, nil)
			h.walk(func() error { return h.publish(id, "b", use) }, func() error { return h.unpublish(id, "b") })
			h.walk(func() error { return h.unpublish(id, "a") }, nil)
			h.must(h.unpublish(id, "b"))
			h.walk(func() error { return h.unstage(id) }, nil)
			if h.device(id) != "" {
				h.Errorf("place %d: still attached", k)
			}
		}
		h.must(h.unstage(probe))
	})
}

func TestDyingWhileAClonesIdentityChanges(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		origin := h.engine.create(sizeFor(fs))
		h.must(h.stage(origin, Use{Filesystem: fs}))
		h.write(filepath.Join(h.staging(origin), "f"), "x")
		run(h.T, "sync", "-f", h.staging(origin))
		for _, use := range []Use{{Filesystem: fs}, {Filesystem: fs, ReadOnly: true}} {
			probe := h.engine.clone(origin, sizeFor(fs))
			places := h.deaths(func() error { return h.stage(probe, use) })
			h.must(h.unstage(probe))
			for k := 1; k <= places; k++ {
				id := h.engine.clone(origin, sizeFor(fs))
				h.dying(k)
				_ = h.stage(id, use)
				h.node.here = func(string) {}
				h.must(h.stage(id, use))
				if got := h.read(filepath.Join(h.staging(id), "f")); got != "x" {
					h.Errorf("place %d: read %q", k, got)
				}
				h.must(h.unstage(id))
				h.checkQuietly(id, fs)
			}
		}
		h.must(h.unstage(origin))
	})
}

// A failing engine is no death: the operation ends with its error and leaves
// nothing that a retry would stumble over.
func TestTheEngineFailsAtAnyCall(t *testing.T) {
	h := newHouse(t)
	for k := 1; ; k++ {
		id := h.engine.create(64 << 20)
		calls := 0
		h.engine.fail = func(string) error {
			if calls++; calls == k {
				return fault.New(fault.Internal, "failed at call %d", k)
			}
			return nil
		}
		err := h.stage(id, Use{})
		h.engine.fail = nil
		if err == nil {
			if k < 4 {
				t.Errorf("only %d calls", k-1)
			}
			h.must(h.unstage(id))
			return
		}
		h.want(err, fault.Internal, "failed at call")
		h.must(h.stage(id, Use{}))
		h.must(h.unstage(id))
	}
}
