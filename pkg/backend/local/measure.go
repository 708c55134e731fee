package local

import "time"

// measureAgain is how long a measured debt is used before it is measured anew.
const measureAgain = 5 * time.Second

// measureLocked measures debts, and the room beside them, and gives the lock free
// before the moment that the answer is of. The debts of thin volumes matter only
// where a thick one owes something, or will (thickOwes).
func (s *space) measureLocked(thickOwes bool) (sum claim, room roomFunc, err error) {
	measure := func() error { return s.measuring.do(s.measureThick) }
	if err := s.unlocked(measure); err != nil {
		return claim{}, nil, err
	}
	if sum = s.sumLocked(); sum.thinOwed > 0 && (thickOwes || sum.thickOwed > 0) {
		return s.measureThinLocked()
	}
	room, err = s.medium.room()
	return sum, room, err
}

// measureThick measures the debts of thick volumes, of which only bounds are
// known. They count once the room shows what was taken until they were measured,
// and unless the volume was shared meanwhile.
func (s *space) measureThick() error {
	bounds := s.bounds()
	if len(bounds) == 0 {
		return nil
	}
	for i := range bounds {
		b := &bounds[i]
		owed, err := s.medium.owed(b.dir, b.size)
		if err == nil { // else the bound stands
			b.owed = min(owed, b.size)
		}
	}
	now := time.Now()
	if err := s.medium.settle(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, b := range bounds {
		if a := b.of; a.holds == 0 && a.raised == b.raised {
			a.owed, a.at = b.owed, now
		}
	}
	return nil
}

// bound is an account as it was when its measuring began.
type bound struct {
	account
	of *account
}

// bounds returns the thick accounts that are to be measured.
func (s *space) bounds() (all []bound) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accounts {
		if a.thick && a.owed > 0 && a.holds == 0 && time.Since(a.at) >= measureAgain {
			all = append(all, bound{*a, a})
		}
	}
	return all
}

// measureThinLocked measures the debts of thin volumes too, and the room before
// and after it.
func (s *space) measureThinLocked() (sum claim, room roomFunc, err error) {
	if err := s.medium.settle(); err != nil {
		return claim{}, nil, err
	}
	before, err := s.medium.room()
	if err != nil {
		return claim{}, nil, err
	}
	sum = s.pending
	for _, a := range s.accounts {
		c := a.claim()
		if !a.thick && a.holds == 0 {
			if measured, err := s.medium.owed(a.dir, a.size); err == nil {
				c.thinOwed = min(c.thinOwed, measured)
			}
		}
		sum = sum.plus(c)
	}
	after, err := s.medium.room()
	if err != nil {
		return claim{}, nil, err
	}
	return sum, func(thick, owed int64) int64 { return min(before(thick, owed), after(thick, owed)) }, nil
}

// reclaimLocked waits for what was removed, and measures again.
func (s *space) reclaimLocked(thickOwes bool) (sum claim, room roomFunc, err error) {
	waitedFor := s.removed
	if err := s.unlocked(s.medium.reclaim); err != nil {
		return claim{}, nil, err
	}
	s.removed = max(0, s.removed-waitedFor)
	return s.measureLocked(thickOwes)
}

// unlocked does what takes time while others have the lock.
func (s *space) unlocked(do func() error) error {
	s.mu.Unlock()
	defer s.mu.Lock()
	return do()
}
