package pause

import (
	"context"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Member is a volume whose writers are held.
type Member interface {
	// Release lets its writers go on, and reports whether they were held until
	// now. Called again it reports the same.
	Release(ctx context.Context) (held bool)
	// Expire lets its writers go on at the limit: the hold has not lasted.
	Expire(ctx context.Context)
	// Close follows when no cut is under way any more.
	Close(ctx context.Context) error
}

// Hold is the holding of some volumes.
type Hold[M Member] struct {
	// Unlock is called when all is over; set by who begins the pause.
	Unlock func()
	// Members are the volumes that need something: others are only locked. They
	// are set before the first is held, and not changed after.
	Members map[volume.ID]M

	id      backend.PauseID
	volumes []volume.ID   // ascending
	begun   chan struct{} // closed when the volumes are held, or could not be
	err     error         // why they could not; set before begun is closed
	stop    func()        // of the watchdog
	all     *Pauses[M]

	mu   sync.Mutex
	over bool
	held bool           // once it is over: whether it was never interrupted
	cuts sync.WaitGroup // under way
	done sync.WaitGroup // of end
}

// Begin holds volumes, by a function that sets Unlock and Members, watches
// (Hold.Watch), and then holds their writers; if it fails all that it did is ended.
// Repeated with the same id it answers as before.
func (r *Pauses[M]) Begin(ctx context.Context, id backend.PauseID, volumes []volume.ID, hold func(h *Hold[M], volumes []volume.ID) error) error {
	if id == "" || len(volumes) == 0 {
		return fault.New(fault.Invalid, "pause %q of %d volumes: want an id and at least one volume", id, len(volumes))
	}
	ids := slices.Compact(slices.Sorted(slices.Values(volumes)))
	h, mine := r.begin(id, ids)
	if !mine {
		return h.joined(ctx, ids)
	}
	if h.err = hold(h, ids); h.err != nil {
		h.stop()
		h.end(context.WithoutCancel(ctx))
		r.forget(h) // none is held: the next try may succeed
	}
	close(h.begun)
	return h.err
}

// joined answers a repeated Begin.
func (h *Hold[M]) joined(ctx context.Context, ids []volume.ID) error {
	select {
	case <-h.begun:
	case <-ctx.Done():
		return fault.New(fault.Busy, "its first call is under way: try again when it is done (%w)", ctx.Err())
	}
	if !slices.Equal(h.volumes, ids) {
		return fault.New(fault.Exists, "it holds volumes %v: want %v", h.volumes, ids)
	}
	return h.err
}

// Watch ends the pause after a limit, unless it is resumed before.
func (h *Hold[M]) Watch(ctx context.Context, limit time.Duration) {
	ctx = context.WithoutCancel(ctx)
	t := time.AfterFunc(limit, func() {
		var each sync.WaitGroup
		for _, m := range h.Members { // at once: one that hangs must not keep the others held
			each.Go(func() { m.Expire(ctx) })
		}
		each.Wait()
		klog.FromContext(ctx).Info("Pause reached its limit, writers go on", "limit", limit, "pause", h.id)
		<-h.begun
		h.end(ctx)
		h.all.retire(h)
	})
	h.stop = func() { t.Stop() }
}

// end releases all volumes, and then, when no cut is under way any more, closes
// and unlocks them. Called again it waits for that.
func (h *Hold[M]) end(ctx context.Context) (held bool) {
	defer h.done.Wait()
	h.mu.Lock()
	if h.over {
		defer h.mu.Unlock()
		return h.held
	}
	h.over, h.held = true, true
	for _, m := range h.Members {
		if !m.Release(ctx) {
			h.held = false
		}
	}
	held = h.held
	h.done.Add(1)
	h.mu.Unlock()
	defer h.done.Done()
	h.cuts.Wait()
	for id, m := range h.Members {
		if err := m.Close(ctx); err != nil { // harmless: the next start finishes it
			klog.FromContext(ctx).Error(err, "Pause that is over left something behind", "volumeID", id)
		}
	}
	h.Unlock()
	return held
}

// Resume ends a pause. Precondition if it is unknown or had ended by itself.
func (r *Pauses[M]) Resume(ctx context.Context, id backend.PauseID) error {
	h := r.get(id)
	if h == nil {
		return fault.New(fault.Precondition, "this process holds no such pause: what was cut under it is void")
	}
	select {
	case <-h.begun:
	case <-ctx.Done():
		return fault.New(fault.Busy, "the pause is only beginning: try again when it has begun (%w)", ctx.Err())
	}
	if h.err != nil {
		return fault.New(fault.Precondition, "the pause failed: %w", h.err)
	}
	h.stop()
	held := h.end(context.WithoutCancel(ctx))
	r.retire(h)
	if !held {
		return fault.New(fault.Precondition, "the pause had ended by itself: what was cut under it is void")
	}
	return nil
}
