package disk

import (
	"io"
	"unsafe"
)

// Align is what offsets, lengths and memory addresses are multiples of.
const Align = 4096

// File is an open file. It may be used concurrently.
type File interface {
	io.ReaderAt
	io.WriterAt
	// Sync makes everything durable that was written before it was called.
	Sync() error
	// Size returns the length in bytes.
	Size() (int64, error)
	// Resize changes the length, durably. What is added is zeros with all of its
	// space allocated. Exhausted if there is no room: the length is then as before.
	Resize(bytes int64) error
	Close() error
}

// Storage makes and opens files. A file is open once only: a second opener gets
// InUse until the first closes it or dies.
type Storage interface {
	// Create makes a file of so many bytes that begins with head and is zeros
	// otherwise. It appears under its name whole and durable, with all of its
	// space allocated, or not at all. Exists if there is one; Exhausted if there
	// is no room.
	Create(path string, bytes int64, head []byte) (File, error)
	// Open opens a file. NotFound if there is none.
	Open(path string) (File, error)
	// Remove removes a file, durably, whether it is open or not. An absent one is
	// success.
	Remove(path string) error
	// Link gives a file a second name in the same folder, durably, whether it is open
	// or not. NotFound if there is none; Exists if the name is taken.
	Link(path, to string) error
	// Rename gives a file another name in the same folder, durably, whether it is
	// open or not; the file that had the name loses it in the same moment. NotFound if
	// there is none.
	Rename(path, to string) error
}

// Buffer returns n zero bytes at an aligned address.
func Buffer(n int) []byte {
	b := make([]byte, n+Align-1)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (Align - 1)
	return b[skip : skip+n : skip+n]
}

// Aligned reports whether b can be read into and written from directly.
func Aligned(b []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(b)))%Align == 0 && len(b)%Align == 0
}
