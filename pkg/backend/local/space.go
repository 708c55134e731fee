package local

import (
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/volume"
)

// space keeps a pool's promises: a write into a thick volume never fails for
// want of room.
//
// A volume owes the bytes that writes into it may still take from the pool: its
// holes, and what it shares with a snapshot or clone, which the next write
// copies. A thick volume without either owes nothing: every write goes in place.
// The promise holds while
//
//	no thick volume owes anything, or
//	all debts together, thin volumes' included, fit into the pool's room
//
// so thin volumes may together be larger than their pool only as long as no
// thick volume there depends on free space. Everything that takes room or raises
// a debt asks here first. Debts are upper bounds (a volume that was ever shared,
// or is thin, owes its whole size) and are measured only if a request would
// otherwise be refused.
//
// A thick volume's debt only falls by being written, and the room falls with it,
// so a measured one stays a bound: it is measured before the room is. A thin
// volume's rises with each discard, and the room with it, so a measured one is
// good for one answer, and the room is looked at before and after it.
type space struct {
	medium medium

	measuring round

	mu       sync.Mutex
	accounts map[volume.ID]*account
	pending  claim // of what is under way
	removed  int64 // size of what was removed since it was last waited for
}

// account is what is known of one volume.
type account struct {
	dir   string
	size  int64
	thick bool
	owed  int64     // at most; a thin volume's is never a measured one
	at    time.Time // when it was measured; zero: only a bound

	holds  int // cuts under way, during which the bound stands
	raised int // how often owed rose: what was measured before says nothing then
}

// claim is a change to a pool's sums.
type claim struct {
	takes     int64 // bytes that are taken from the room at once
	thickSize int64
	thickOwed int64
	thinOwed  int64
}

func (c claim) plus(o claim) claim {
	return claim{c.takes + o.takes, c.thickSize + o.thickSize, c.thickOwed + o.thickOwed, c.thinOwed + o.thinOwed}
}

func (c claim) negative() claim {
	return claim{-c.takes, -c.thickSize, -c.thickOwed, -c.thinOwed}
}

// claimOf is what a volume of this size that owes so much adds to the sums.
func claimOf(thick bool, size, owed int64) claim {
	if thick {
		return claim{thickSize: size, thickOwed: owed}
	}
	return claim{thinOwed: owed}
}

// raise makes the debt a bound that is higher than before.
func (a *account) raise(owed int64) {
	a.owed, a.at, a.raised = owed, time.Time{}, a.raised+1
}

func (a *account) claim() claim { return claimOf(a.thick, a.size, a.owed) }

// missing returns how many bytes the room lacks to keep the promise, or less
// than 1.
func (c claim) missing(room roomFunc) int64 {
	owed := int64(0)
	if c.thickOwed > 0 {
		owed = c.thickOwed + c.thinOwed
	}
	return owed + c.takes - room(c.thickSize, owed)
}

// set notes a volume, or what has become of it. measured says that owed is no
// mere bound.
func (s *space) set(id volume.ID, a account, measured bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.accounts == nil {
		s.accounts = map[volume.ID]*account{}
	}
	if measured {
		a.at = time.Now()
	}
	if old := s.accounts[id]; old != nil {
		a.holds, a.raised = old.holds, old.raised+1
		*old = a // hold points to it
		return
	}
	s.accounts[id] = &a
}

// ensure notes a volume that is in no account, since the process that made it
// got an error after it was there.
func (s *space) ensure(id volume.ID, a account) {
	s.mu.Lock()
	known := s.accounts[id] != nil
	s.mu.Unlock()
	if !known {
		s.set(id, a, false)
	}
}

// grow notes that a volume has grown.
func (s *space) grow(id volume.ID, more, owes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.accounts[id]; a != nil {
		a.size, a.owed, a.raised = a.size+more, a.owed+owes, a.raised+1
	}
}

func (s *space) drop(id volume.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.accounts, id)
}

func (s *space) volumes() map[volume.ID]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make(map[volume.ID]bool, len(s.accounts))
	for id := range s.accounts {
		ids[id] = true
	}
	return ids
}

// doubt makes every debt a bound again, after a volume or snapshot of this size
// was removed.
func (s *space) doubt(size int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.removed += size
	for _, a := range s.accounts {
		a.at = time.Time{}
	}
}

// sumLocked adds up what is known: bounds, and debts that were measured before.
func (s *space) sumLocked() claim {
	sum := s.pending
	for _, a := range s.accounts {
		sum = sum.plus(a.claim())
	}
	return sum
}
