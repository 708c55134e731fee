package journal

import "github.com/holkas-io/holkas/pkg/vlog"

// sums has the checksum of every block of data in use, so that a read needs no
// header. Slabs come with the first block and go with the last.
type sums struct {
	ring  ring
	slabs []*[slabBlocks]uint32
}

const slabBlocks = 1024

func (s *sums) index(at vlog.LSN) (slab, i int) {
	n := int(s.ring.pos(at) / block)
	return n / slabBlocks, n % slabBlocks
}

func (s *sums) set(at vlog.LSN, sum uint32) {
	if s.slabs == nil {
		s.slabs = make([]*[slabBlocks]uint32, (s.ring.size/block+slabBlocks-1)/slabBlocks)
	}
	slab, i := s.index(at)
	if s.slabs[slab] == nil {
		s.slabs[slab] = new([slabBlocks]uint32)
	}
	s.slabs[slab][i] = sum
}

// get returns the checksum of a block of data in use.
func (s *sums) get(at vlog.LSN) uint32 {
	if s.slabs == nil {
		return 0
	}
	slab, i := s.index(at)
	if s.slabs[slab] == nil {
		return 0
	}
	return s.slabs[slab][i]
}

// release lets go of what is between two tails, with the end at end.
func (s *sums) release(from, to, end vlog.LSN) {
	if s.slabs == nil {
		return
	}
	first, _ := s.index(to)
	last, _ := s.index(end)
	for at := from; at < to; at += vlog.LSN(min(slabBlocks*block-s.ring.pos(at)%(slabBlocks*block), s.ring.toWrap(at))) {
		if slab, _ := s.index(at); slab != last && (slab != first || to == end) {
			s.slabs[slab] = nil
		}
	}
}

// bytes is the memory that the checksums take.
func (s *sums) bytes() (n int64) {
	for _, slab := range s.slabs {
		if slab != nil {
			n += 4 * slabBlocks
		}
	}
	return n
}
