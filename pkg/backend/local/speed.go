package local

import (
	"math"
	"sync"
	"time"
)

// The cost of sharing one extent, as measured on NVMe (5 to 11 µs), and of
// beginning at all.
const (
	perExtent = 11 * time.Microsecond
	atLeast   = time.Millisecond
)

// freezeAtLeast and freezeAtMost bound what the freezing of a mounted filesystem
// is taken to cost: it waits several times for the other processors to notice,
// and then for what they had begun to write.
const (
	freezeAtLeast = 10 * time.Millisecond
	freezeAtMost  = 500 * time.Millisecond
)

// freezing predicts what a freeze costs before anything is shared, and learns
// from what it took.
type freezing struct {
	mu   sync.Mutex
	took time.Duration
}

func (f *freezing) predict() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return max(f.took, freezeAtLeast)
}

// learn raises the cost at once, and lowers it slowly.
func (f *freezing) learn(took time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if took < f.took {
		took = f.took - (f.took-took)/8
	}
	f.took = min(took, freezeAtMost)
}

// slowest bounds what is learnt, so that one hiccup does not refuse snapshots
// for ever.
const slowest = 10 * perExtent

// speed predicts for how long FICLONE of a file holds its writers up, and learns
// from what it took.
type speed struct {
	mu     sync.Mutex
	each   time.Duration
	learnt time.Time
	last   map[string]int // extents of a file when they were counted last
}

func newSpeed() *speed { return &speed{each: perExtent, last: map[string]int{}} }

// halved is how long what is learnt beyond the usual takes to lose half of its
// weight: what is refused for it teaches nothing.
const halved = 5 * time.Minute

func (s *speed) eachLocked() time.Duration {
	age := time.Since(s.learnt)
	return perExtent + time.Duration(float64(s.each-perExtent)*math.Exp2(-age.Seconds()/halved.Seconds()))
}

func (s *speed) predict(path string) (time.Duration, error) {
	n, err := extentCount(path)
	if err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last[path] = n
	return atLeast + time.Duration(n)*s.eachLocked(), nil
}

// learn raises the cost of an extent at once when it was more, and lowers it
// slowly, never below what was measured for all.
func (s *speed) learn(path string, took time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.last[path]
	delete(s.last, path)
	if n < 1000 {
		return // too few to tell their cost from the noise
	}
	each := took / time.Duration(n)
	if before := s.eachLocked(); each < before {
		each = before - (before-each)/8
	}
	s.learnt = time.Now()
	s.each = min(max(each, perExtent), slowest)
}
