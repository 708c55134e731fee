package local

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

// begin returns the pause of an id. mine says that the caller is the first to
// ask for it, and begins it.
func (r *pauses) begin(id backend.PauseID, volumes []volume.ID) (p *pause, mine bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if p := r.known[id]; p != nil {
		return p, false
	}
	p = &pause{id: id, volumes: volumes, begun: make(chan struct{}), freezes: map[volume.ID]*freeze{}}
	if r.known == nil {
		r.known = map[backend.PauseID]*pause{}
	}
	r.known[id] = p
	return p, true
}

func (r *pauses) get(id backend.PauseID) *pause {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known[id]
}

// forget drops a pause that could not be begun.
func (r *pauses) forget(p *pause) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.known, p.id)
}

// retire keeps a pause that is over, until many others are.
func (r *pauses) retire(p *pause) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if slices.Contains(r.over, p.id) || r.known[p.id] != p {
		return
	}
	r.over = append(r.over, p.id)
	if len(r.over) > rememberPauses {
		delete(r.known, r.over[0])
		r.over = r.over[1:]
	}
}

// join takes part in a pause with a cut of one of its volumes. h is nil if the
// pause does not hold it. leave is called when the cut is done.
func (r *pauses) join(id backend.PauseID, of volume.ID) (h *held, leave func()) {
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
	return &held{pause: p, freeze: p.freezes[of]}, p.cuts.Done
}

// endAll ends every pause.
func (r *pauses) endAll(ctx context.Context) {
	r.mu.Lock()
	var all []*pause
	for _, p := range r.known {
		all = append(all, p)
	}
	r.mu.Unlock()
	for _, p := range all {
		select {
		case <-p.begun:
			if p.err == nil {
				p.stop()
				p.end(ctx)
			}
		case <-ctx.Done():
			return
		}
	}
}
