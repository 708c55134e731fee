package pause

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// writers are those of one volume.
type writers struct {
	held, expired atomic.Bool
	closed        atomic.Int32
}

func (w *writers) Release(context.Context) bool { w.held.Store(false); return !w.expired.Load() }

func (w *writers) Expire(context.Context) { w.expired.Store(true); w.held.Store(false) }

func (w *writers) Close(context.Context) error { w.closed.Add(1); return nil }

const (
	one = volume.ID("v-aaaaaaaaaaaaaaaaaaaaaaaaaa")
	two = volume.ID("v-baaaaaaaaaaaaaaaaaaaaaaaaa")
)

// scene is a backend with two volumes, of which the first needs to be held.
type scene struct {
	*testing.T
	pauses   Pauses[*writers]
	writers  writers
	unlocked atomic.Int32
	limit    time.Duration
	fail     error
}

func (s *scene) begin(id backend.PauseID, volumes ...volume.ID) error {
	return s.pauses.Begin(s.Context(), id, volumes, func(h *Hold[*writers], _ []volume.ID) error {
		h.Unlock = func() { s.unlocked.Add(1) }
		h.Members[one] = &s.writers
		h.Watch(s.Context(), s.limit)
		s.writers.held.Store(true)
		return s.fail
	})
}

func (s *scene) want(what string, err error, kind fault.Kind) {
	s.Helper()
	if !fault.Is(err, kind) {
		s.Errorf("%s: %v, want %s", what, err, kind)
	}
}

func TestResumed(t *testing.T) {
	s := &scene{T: t, limit: time.Minute}
	for range 2 {
		if err := s.begin("p", two, one); err != nil || !s.writers.held.Load() {
			t.Fatalf("paused: %v, held %t", err, s.writers.held.Load())
		}
	}
	s.want("the same pause of others", s.begin("p", one), fault.Exists)
	h, leave := s.pauses.Join("p", one)
	if h == nil || !h.Holds() || h.Member != &s.writers {
		t.Errorf("a cut under the pause: %+v, want its member, held", h)
	}
	resumed := make(chan error)
	go func() { resumed <- s.pauses.Resume(t.Context(), "p") }()
	for h.Holds() {
		time.Sleep(time.Millisecond) //nolint:forbidigo // until the other goroutine is there
	}
	if s.unlocked.Load() != 0 {
		t.Error("unlocked while a cut was under way")
	}
	leave()
	if err := <-resumed; err != nil {
		t.Error(err)
	}
	if s.unlocked.Load() != 1 || s.writers.closed.Load() != 1 || s.writers.held.Load() {
		t.Errorf("resumed: unlocked %d times, closed %d times, held %t", s.unlocked.Load(), s.writers.closed.Load(), s.writers.held.Load())
	}
	if err := s.pauses.Resume(t.Context(), "p"); err != nil {
		t.Errorf("resumed again: %v", err)
	}
	if err := s.begin("p", one, two); err != nil || s.writers.held.Load() {
		t.Errorf("a late duplicate: %v, held %t, want that nothing is held", err, s.writers.held.Load())
	}
	if h, _ := s.pauses.Join("p", one); h != nil {
		t.Error("a cut joined a pause that is over")
	}
	s.want("resume what never was", s.pauses.Resume(t.Context(), "q"), fault.Precondition)
}

func TestLapsed(t *testing.T) {
	s := &scene{T: t, limit: time.Millisecond}
	if err := s.begin("p", one); err != nil {
		t.Fatal(err)
	}
	for s.unlocked.Load() == 0 {
		time.Sleep(time.Millisecond) //nolint:forbidigo // until the watchdog has ended it
	}
	for range 2 {
		s.want("resume what lapsed", s.pauses.Resume(t.Context(), "p"), fault.Precondition)
	}
}

// TestFailed: nothing is held, and the next try may succeed.
func TestFailed(t *testing.T) {
	s := &scene{T: t, limit: time.Minute, fail: fault.New(fault.Precondition, "no")}
	s.want("a pause that fails", s.begin("p", one), fault.Precondition)
	if s.writers.held.Load() || s.unlocked.Load() != 1 {
		t.Errorf("after a failure: held %t, unlocked %d times", s.writers.held.Load(), s.unlocked.Load())
	}
	s.fail = nil
	s.writers.closed.Store(0)
	if err := s.begin("p", one); err != nil || !s.writers.held.Load() {
		t.Errorf("the next try: %v, held %t", err, s.writers.held.Load())
	}
	s.pauses.EndAll(t.Context())
	if s.writers.held.Load() || s.unlocked.Load() != 2 {
		t.Errorf("ended: held %t, unlocked %d times", s.writers.held.Load(), s.unlocked.Load())
	}
}
