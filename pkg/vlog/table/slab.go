package table

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

const (
	slabLeaves = 256
	slabBytes  = slabLeaves * LeafBytes
)

// slab is memory for leaves, outside of Go's heap.
type slab struct {
	memory []byte // nil: given back
	words  []vlog.Pointer
	free   []uint8 // leaves of it that are free
}

// slabs hand out leaves by number: slot s is leaf s%slabLeaves of slab
// s/slabLeaves.
type slabs struct {
	all     []slab
	partial []uint32 // those that may have free leaves
	empty   []uint32 // those whose memory was given back
	used    int
}

func (a *slabs) leaf(slot uint32) *[Fanout]vlog.Pointer {
	at := slot % slabLeaves * Fanout
	return (*[Fanout]vlog.Pointer)(a.all[slot/slabLeaves].words[at:])
}

// take returns a free slot, whose content is arbitrary.
func (a *slabs) take() (uint32, error) {
	for len(a.partial) > 0 {
		i := a.partial[len(a.partial)-1]
		if s := &a.all[i]; len(s.free) > 0 {
			n := s.free[len(s.free)-1]
			s.free = s.free[:len(s.free)-1]
			a.used++
			return i*slabLeaves + uint32(n), nil
		}
		a.partial = a.partial[:len(a.partial)-1]
	}
	if err := a.grow(); err != nil {
		return 0, err
	}
	return a.take()
}

func (a *slabs) grow() error {
	memory, err := unix.Mmap(-1, 0, slabBytes, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return fault.New(fault.Exhausted, "map %d bytes for the extent table: %w", slabBytes, err)
	}
	s := slab{memory: memory, words: unsafe.Slice((*vlog.Pointer)(unsafe.Pointer(&memory[0])), slabLeaves*Fanout), free: make([]uint8, slabLeaves)}
	for i := range s.free {
		s.free[i] = uint8(slabLeaves - 1 - i)
	}
	i := uint32(len(a.all))
	if n := len(a.empty); n > 0 {
		i, a.empty = a.empty[n-1], a.empty[:n-1]
		a.all[i] = s
	} else {
		a.all = append(a.all, s)
	}
	a.partial = append(a.partial, i)
	return nil
}

// give takes a slot back. Its memory goes back to the system if more than a slab's
// worth is free: alone, since free leaves lie scattered among others, and with its
// whole slab, but for the last one, when all of that is free.
func (a *slabs) give(slot uint32) {
	i := slot / slabLeaves
	s := &a.all[i]
	s.free = append(s.free, uint8(slot%slabLeaves))
	a.used--
	if a.free() > slabLeaves {
		at := int(slot%slabLeaves) * LeafBytes
		_ = unix.Madvise(s.memory[at:at+LeafBytes], unix.MADV_DONTNEED) // where pages are larger than a leaf it is refused
	}
	switch {
	case len(s.free) == 1:
		a.partial = append(a.partial, i)
	case len(s.free) == slabLeaves && len(a.all)-len(a.empty) > 1:
		s.unmap()
		a.empty = append(a.empty, i)
	}
}

// free returns how many leaves are free in slabs that are mapped.
func (a *slabs) free() int { return (len(a.all)-len(a.empty))*slabLeaves - a.used }

// bytes returns what the leaves take of the system's memory, about: those in use,
// and of the free ones those that were not given back.
func (a *slabs) bytes() int64 { return int64(a.used+min(a.free(), slabLeaves)) * LeafBytes }

func (a *slabs) close() {
	for i := range a.all {
		a.all[i].unmap()
	}
	*a = slabs{}
}

func (s *slab) unmap() {
	if s.memory == nil {
		return
	}
	if err := unix.Munmap(s.memory); err != nil {
		panic(fmt.Sprintf("table: unmap a slab: %v", err)) // cannot be: it was mapped so
	}
	*s = slab{}
}
