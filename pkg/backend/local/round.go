package local

import "sync"

// round lets those who need the same thing done share it: one does it for all who
// asked before it began. Who asks while it is being done may be too late for it,
// and shares the next.
type round struct {
	mu    sync.Mutex
	asked uint64 // how many have asked

	turn    sync.Mutex // held by the one who does it
	covered uint64     // the last of those who asked before it was last begun
	err     error      // what it then gave
}

// do returns when what was begun after this call has ended, and what it gave.
func (r *round) do(it func() error) error {
	mine := r.ask(1)
	r.turn.Lock()
	defer r.turn.Unlock()
	if r.covered < mine {
		r.covered = r.ask(0)
		r.err = it()
	}
	return r.err
}

func (r *round) ask(more uint64) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked += more
	return r.asked
}
