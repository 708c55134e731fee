package local

import (
	"sync"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// reserve sets a claim aside until release is called, when what it stood for is
// in the accounts and in the pool's own figures. Exhausted if it breaks the
// promise.
func (s *space) reserve(c claim) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.admitLocked(c); err != nil {
		return nil, err
	}
	s.pending = s.pending.plus(c)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.pending = s.pending.plus(c.negative())
	}), nil
}

// hold raises a volume's debt to its whole size, since it is about to be shared,
// and keeps it there until release is called. Exhausted if that breaks the
// promise. also is claimed at the same time, as reserve does.
func (s *space) hold(id volume.ID, also claim) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[id]
	if a == nil {
		return nil, fault.New(fault.Internal, "volume %s is in no account", id)
	}
	a.raise(a.size)
	a.holds++
	if err := s.admitLocked(also); err != nil {
		a.holds--
		return nil, err
	}
	s.pending = s.pending.plus(also)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		a.holds--
		s.pending = s.pending.plus(also.negative())
	}), nil
}

// thicken makes a thin volume thick: its holes are taken at once, until release
// is called when they are, and what it shares is a thick volume's debt from now
// on. Exhausted if that breaks the promise; it is thin then.
func (s *space) thicken(id volume.ID, disk string) (release func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a := s.accounts[id]
	var owed, allocated int64
	if err := s.unlocked(func() error {
		// Neither rises any more: nothing is discarded, or shared, meanwhile.
		if owed, err = s.medium.owed(a.dir, a.size); err != nil {
			return err
		}
		if allocated, err = allocatedBytes(disk); err != nil {
			return err
		}
		return s.medium.settle()
	}); err != nil {
		return nil, err
	}
	holes := claim{takes: max(0, a.size-allocated)}
	a.thick = true
	a.raise(max(0, owed-holes.takes))
	a.holds++
	if err := s.admitLocked(holes); err != nil {
		a.thick = false
		a.raise(a.size)
		a.holds--
		return nil, err
	}
	s.pending = s.pending.plus(holes)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		a.raise(a.size)
		a.holds--
		s.pending = s.pending.plus(holes.negative())
	}), nil
}

// admitLocked reports a claim that breaks the promise. It measures, and then waits
// for what was removed, only if the claim does not fit without that, and gives the
// lock free meanwhile; what it found holds as long as the caller keeps the lock.
func (s *space) admitLocked(c claim) error {
	room, err := s.medium.room()
	if err != nil {
		return err
	}
	sum := s.sumLocked()
	if sum.plus(c).missing(room) <= 0 {
		return nil
	}
	sum, room, err = s.measureLocked(c.thickOwed > 0)
	if err == nil && sum.plus(c).missing(room) > 0 {
		sum, room, err = s.reclaimLocked(c.thickOwed > 0)
	}
	if err != nil {
		return err
	}
	missing := sum.plus(c).missing(room)
	if missing <= 0 {
		return nil
	}
	return fault.New(fault.Exhausted, "%d bytes are missing: room %d, of which thick volumes may still need %d and thin ones %d; this needs %d now and up to %d later: delete snapshots or volumes, enlarge the pool, or keep thin volumes in a pool of their own",
		missing, room(sum.thickSize, 0)-sum.takes, sum.thickOwed, sum.thinOwed, c.takes, c.thickOwed+c.thinOwed)
}
