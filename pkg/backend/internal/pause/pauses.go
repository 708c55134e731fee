package pause

import (
	"context"
	"slices"
	"sync"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

// remember is how many pauses that are over are remembered.
const remember = 1000

// Pauses are the pauses of a backend. The zero value is ready.
type Pauses[M Member] struct {
	mu    sync.Mutex
	known map[backend.PauseID]*Hold[M]
	over  []backend.PauseID // the oldest first
}

// begin returns the pause of an id. mine says that the caller is the first to
// ask for it, and begins it.
func (r *Pauses[M]) begin(id backend.PauseID, volumes []volume.ID) (h *Hold[M], mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if h := r.known[id]; h != nil {
		return h, false
	}
	h = &Hold[M]{
		id: id, volumes: volumes, begun: make(chan struct{}), Members: map[volume.ID]M{}, all: r,
		Unlock: func() {}, stop: func() {},
	}
	if r.known == nil {
		r.known = map[backend.PauseID]*Hold[M]{}
	}
	r.known[id] = h
	return h, true
}

func (r *Pauses[M]) get(id backend.PauseID) *Hold[M] {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[id]
}

// forget drops a pause that could not be begun.
func (r *Pauses[M]) forget(h *Hold[M]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, h.id)
}

// retire keeps a pause that is over, until many others are.
func (r *Pauses[M]) retire(h *Hold[M]) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.over, h.id) || r.known[h.id] != h {
		return
	}
	r.over = append(r.over, h.id)
	if len(r.over) > remember {
		delete(r.known, r.over[0])
		r.over = r.over[1:]
	}
}

// Held is a volume's place in a pause.
type Held[M Member] struct {
	Member M // the zero M if the volume needs nothing but its lock
	hold   *Hold[M]
}

// Holds reports whether the pause has held from its beginning until now.
func (h *Held[M]) Holds() bool {
	h.hold.mu.Lock()
	defer h.hold.mu.Unlock()
	return !h.hold.over
}

// Join takes part in a pause with a cut of one of its volumes. h is nil if the
// pause does not hold it. leave is called when the cut is done.
func (r *Pauses[M]) Join(id backend.PauseID, of volume.ID) (h *Held[M], leave func()) {
	p := r.get(id)
	if p == nil || !slices.Contains(p.volumes, of) {
		return nil, func() {}
	}
	select {
	case <-p.begun:
	default:
		return nil, func() {}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || p.err != nil {
		return nil, func() {}
	}
	p.cuts.Add(1)
	return &Held[M]{p.Members[of], p}, p.cuts.Done
}

// EndAll ends every pause.
func (r *Pauses[M]) EndAll(ctx context.Context) {
	r.mu.Lock()
	var all []*Hold[M]
	for _, h := range r.known {
		all = append(all, h)
	}
	r.mu.Unlock()
	for _, h := range all {
		select {
		case <-h.begun:
			if h.err == nil {
				h.stop()
				h.end(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}
