package vlog

import "fmt"

// Pointer says where a block's bytes, or a page of the extent table, are. 0 is a
// hole: zeros. Otherwise, from the top bit:
//
//	 1 bit   zero; a reader refuses a pointer with it set
//	26 bits  number of the object in the table's object list
//	20 bits  offset of the frame in the object / 16, at least 1: a header is at 0
//	13 bits  stored length of the frame / 16, at least 1
//	 4 bits  which block of the frame
//
// It is complete: with the object list, which is in memory, one ranged read gets
// the frame, and what the frame's digest is bound to is known beforehand.
type Pointer uint64

// The bounds that a pointer's fields set.
const (
	MaxObjects     = 1 << 26
	MaxFrameOffset = (1<<20 - 1) * Unit // of the frame's first byte
	MaxFrameBytes  = (1<<13 - 1) * Unit // stored
)

// NewPointer forms a pointer to a block of a frame. offset and stored are in
// bytes. It panics if a field is out of bounds, since that is a fault in the
// program: offsets that come from outside are checked by their decoders.
func NewPointer(object uint32, offset, stored int64, index int) Pointer {
	if object >= MaxObjects || offset < Unit || offset > MaxFrameOffset || offset%Unit != 0 ||
		stored < Unit || stored > MaxFrameBytes || stored%Unit != 0 || index < 0 || index >= FrameBlocks {
		panic(fmt.Sprintf("vlog: pointer to object %d, offset %d, stored %d, block %d of the frame", object, offset, stored, index))
	}
	return Pointer(object)<<37 | Pointer(offset/Unit)<<17 | Pointer(stored/Unit)<<4 | Pointer(index)
}

// Object returns the number of the object.
func (p Pointer) Object() uint32 { return uint32(p>>37) & (MaxObjects - 1) }

// Offset returns the first byte of the frame in the object.
func (p Pointer) Offset() int64 { return int64(p>>17&(1<<20-1)) * Unit }

// Stored returns the bytes of the frame.
func (p Pointer) Stored() int64 { return int64(p>>4&(1<<13-1)) * Unit }

// Index returns which block of the frame is meant.
func (p Pointer) Index() int { return int(p & 15) }

// Hole reports whether p stands for zeros.
func (p Pointer) Hole() bool { return p == 0 }

// Valid reports whether p is a hole or every field is within its bounds.
func (p Pointer) Valid() bool {
	return p == 0 || p>>63 == 0 && p.Offset() != 0 && p.Stored() != 0
}

// String renders the pointer for people.
func (p Pointer) String() string {
	if p == 0 {
		return "hole"
	}
	return fmt.Sprintf("object %d at %d, %d bytes, block %d", p.Object(), p.Offset(), p.Stored(), p.Index())
}
