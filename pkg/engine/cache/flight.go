package cache

import "sync"

// flight is one fetch that is under way, or whose bytes are not yet in the file.
type flight struct {
	object Object
	prints []fingerprint // of the lines that others must not fetch meanwhile

	done chan struct{} // closed when the fetch ended
	gone chan struct{} // closed when the bytes are in the file, or nowhere
	at   int64         // of data in the object; set before done
	data []byte        // nil if the fetch failed
	err  error         // why, unless only its caller had given up

	doomed bool // guarded by flights.mu: do not keep the bytes
}

// covers reports whether the flight has all of a range of the object; done is
// closed.
func (f *flight) covers(o Object, r Range) bool {
	return f.object == o && Range{f.at, f.at + int64(len(f.data))}.contains(r)
}

// flights are the fetches under way, by line: at most one for each.
type flights struct {
	mu     sync.Mutex
	byLine map[fingerprint]*flight
}

// join makes the caller the one who fetches these lines, or returns somebody's
// flight that is in the way.
func (s *flights) join(o Object, b blocks) (f *flight, mine bool) {
	p := o.printer()
	first, last := b.lo/lineBlocks, (b.hi-1)/lineBlocks
	s.mu.Lock()
	defer s.mu.Unlock()
	for line := first; line <= last; line++ {
		if f := s.byLine[p.of(line)]; f != nil {
			return f, false
		}
	}
	f = &flight{object: o, done: make(chan struct{}), gone: make(chan struct{})}
	if s.byLine == nil {
		s.byLine = map[fingerprint]*flight{}
	}
	for line := first; line <= last; line++ {
		f.prints = append(f.prints, p.of(line))
		s.byLine[p.of(line)] = f
	}
	return f, true
}

// leave ends a flight: who needs its lines from now on looks into the file.
func (s *flights) leave(f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.leaveLocked(f)
	close(f.gone)
}

func (s *flights) leaveLocked(f *flight) {
	for _, p := range f.prints {
		if s.byLine[p] == f {
			delete(s.byLine, p)
		}
	}
}

// doom makes the flights of some lines' bytes be kept by nobody.
func (s *flights) doom(o Object, b blocks) {
	p := o.printer()
	s.mu.Lock()
	defer s.mu.Unlock()
	for ; !b.empty(); b.lo = b.first().hi {
		line, _ := b.first().line()
		if f := s.byLine[p.of(line)]; f != nil {
			f.doomed = true
			s.leaveLocked(f)
		}
	}
}

func (s *flights) isDoomed(f *flight) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f.doomed
}
