package local

import "github.com/holkas-io/holkas/pkg/volume"

// shortage returns how many bytes are missing to keep the promise, after all:
// somebody else may be taking room in the pool.
func (s *space) shortage() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room, err := s.medium.room()
	if err != nil {
		return 0, err
	}
	sum := s.sumLocked()
	for _, look := range []func(bool) (claim, roomFunc, error){s.measureLocked, s.reclaimLocked} {
		if sum.thickOwed == 0 || sum.missing(room) <= 0 {
			return 0, nil
		}
		if sum, room, err = look(false); err != nil {
			return 0, err
		}
	}
	return max(0, sum.missing(room)), nil
}

// roughlyLeft says how much room is left beside what is known to be owed, which
// is measured nowhere: good for choosing among pools only.
func (s *space) roughlyLeft() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	room, err := s.medium.room()
	if err != nil {
		return 0 // it shows again when the pool is used
	}
	return -s.sumLocked().missing(room)
}

// available returns the largest volume that could be made now, up to limit; 0 if
// that is less than any volume has. It waits for what was removed only where that
// may add much.
func (s *space) available(thick bool, limit int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum, room, err := s.measureLocked(false)
	if err != nil {
		return 0, err
	}
	size := largest(sum, room, thick, limit)
	if size < limit && s.removed > size/8 {
		if sum, room, err = s.reclaimLocked(false); err != nil {
			return 0, err
		}
		size = largest(sum, room, thick, limit)
	}
	return size, nil
}

// largest returns the size of the largest volume that fits.
func largest(sum claim, room roomFunc, thick bool, limit int64) int64 {
	fits := func(units int64) bool {
		size := units * volume.SizeUnit
		c := claim{takes: size, thickSize: size}
		if !thick {
			c = claim{thinOwed: size}
		}
		return sum.plus(c).missing(room) <= 0
	}
	low, high := int64(-1), limit/volume.SizeUnit // low fits, or is -1; what is above high does not
	for low < high {
		if middle := low + (high-low+1)/2; fits(middle) {
			low = middle
		} else {
			high = middle - 1
		}
	}
	if size := low * volume.SizeUnit; size >= volume.MinimumBytes {
		return size
	}
	return 0
}
