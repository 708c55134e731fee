package local

import (
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// measureAgain is how long a measured debt is used before it is measured anew.
const measureAgain = 5 * time.Second

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

	mu       sync.Mutex
	accounts map[volume.ID]*account
	pending  claim // of what is under way
}

// account is what is known of one volume.
type account struct {
	dir   string
	size  int64
	thick bool
	owed  int64     // at most; a thin volume's is never a measured one
	at    time.Time // when it was measured; zero: only a bound
	holds int       // cuts under way, during which the bound stands
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
		a.holds = old.holds
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
		a.size, a.owed = a.size+more, a.owed+owes
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

// doubt makes every debt a bound again, after a snapshot or clone was deleted.
func (s *space) doubt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.accounts {
		a.at = time.Time{}
	}
}

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
	a.owed, a.at = a.size, time.Time{}
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
	owed, err := s.medium.owed(a.dir, a.size)
	if err != nil {
		return nil, err
	}
	allocated, err := allocatedBytes(disk)
	if err != nil {
		return nil, err
	}
	holes := claim{takes: max(0, a.size-allocated)}
	a.thick, a.owed = true, max(0, owed-holes.takes)
	a.holds++
	if err := s.admitLocked(holes); err != nil {
		a.thick, a.owed = false, a.size
		a.holds--
		return nil, err
	}
	s.pending = s.pending.plus(holes)
	return sync.OnceFunc(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		a.owed, a.at = a.size, time.Time{}
		a.holds--
		s.pending = s.pending.plus(holes.negative())
	}), nil
}

// sumLocked adds up what is known: bounds, and debts that were measured before.
func (s *space) sumLocked() claim {
	sum := s.pending
	for _, a := range s.accounts {
		sum = sum.plus(a.claim())
	}
	return sum
}

func (s *space) admitLocked(c claim) error {
	room, err := s.medium.room()
	if err != nil {
		return err
	}
	if s.sumLocked().plus(c).missing(room) <= 0 {
		return nil
	}
	sum, room, err := s.measureLocked(c.thickOwed > 0)
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

// measureLocked measures debts, and the room beside them. Those of thin volumes
// matter only where a thick one owes something, or will (thickOwes).
func (s *space) measureLocked(thickOwes bool) (sum claim, room roomFunc, err error) {
	if err := s.medium.reclaim(); err != nil {
		return claim{}, nil, err
	}
	sum = s.pending
	now := time.Now()
	for _, a := range s.accounts {
		if !a.thick {
			continue
		}
		if a.owed > 0 && a.holds == 0 && now.Sub(a.at) >= measureAgain {
			if owed, err := s.medium.owed(a.dir, a.size); err == nil { // else the bound stands
				a.owed, a.at = min(owed, a.size), now
			}
		}
		sum = sum.plus(a.claim())
	}
	if err := s.medium.settle(); err != nil {
		return claim{}, nil, err
	}
	before, err := s.medium.room()
	if err != nil {
		return claim{}, nil, err
	}
	for _, a := range s.accounts {
		if a.thick {
			continue
		}
		owed := a.size
		if a.holds == 0 && (thickOwes || sum.thickOwed > 0) {
			if measured, err := s.medium.owed(a.dir, a.size); err == nil {
				owed = min(owed, measured)
			}
		}
		sum.thinOwed += owed
	}
	after, err := s.medium.room()
	if err != nil {
		return claim{}, nil, err
	}
	return sum, func(thick, owed int64) int64 { return min(before(thick, owed), after(thick, owed)) }, nil
}

// shortage returns how many bytes are missing to keep the promise, after all:
// somebody else may be taking room in the pool.
func (s *space) shortage() (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	room, err := s.medium.room()
	if err != nil {
		return 0, err
	}
	if sum := s.sumLocked(); sum.thickOwed == 0 || sum.missing(room) <= 0 {
		return 0, nil
	}
	sum, room, err := s.measureLocked(false)
	if err != nil || sum.thickOwed == 0 {
		return 0, err
	}
	return sum.missing(room), nil
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
// that is less than any volume has.
func (s *space) available(thick bool, limit int64) (int64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum, room, err := s.measureLocked(false)
	if err != nil {
		return 0, err
	}
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
		return size, nil
	}
	return 0, nil
}
