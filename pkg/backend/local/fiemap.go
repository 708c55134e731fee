package local

import (
	"iter"
	"os"
	"unsafe"
)

// FS_IOC_FIEMAP of linux/fs.h, _IOWR('f', 11, struct fiemap), and its flags.
const (
	fsIocFiemap     = 0xc020660b
	fiemapSync      = 0x1 // of a request: write what is dirty first
	fiemapLast      = 0x1
	fiemapUnwritten = 0x800
	fiemapShared    = 0x2000
	// fiemapUnsettled is whatever says that the physical address is none, or is
	// not that of these bytes alone: UNKNOWN, DELALLOC, ENCODED, ENCRYPTED,
	// NOT_ALIGNED, INLINE, TAIL.
	fiemapUnsettled = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400
)

type fiemapHeader struct {
	start, length                uint64
	flags, mapped, count, unused uint32
}

type fiemapExtent struct {
	logical, physical, length uint64
	_                         [2]uint64
	flags                     uint32
	_                         [3]uint32
}

type fiemapRequest struct {
	fiemapHeader
	extents [256]fiemapExtent
}

// extentCount returns how many extents a file has.
func extentCount(path string) (int, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	r := fiemapHeader{length: ^uint64(0)}
	if err := ioctl(f, fsIocFiemap, unsafe.Pointer(&r)); err != nil {
		return 0, &os.PathError{Op: "fiemap", Path: path, Err: err}
	}
	return int(r.mapped), nil
}

// extents yields a file's extents from the one at an offset on.
func extents(f *os.File, offset int64, flags uint32) iter.Seq2[fiemapExtent, error] {
	return func(yield func(fiemapExtent, error) bool) {
		r := new(fiemapRequest)
		for start := uint64(offset); ; {
			r.fiemapHeader = fiemapHeader{start: start, length: ^uint64(0) - start, flags: flags}
			r.count = uint32(len(r.extents))
			if err := ioctl(f, fsIocFiemap, unsafe.Pointer(r)); err != nil {
				yield(fiemapExtent{}, &os.PathError{Op: "fiemap", Path: f.Name(), Err: err})
				return
			}
			for _, e := range r.extents[:r.mapped] {
				if !yield(e, nil) || e.flags&fiemapLast != 0 {
					return
				}
				start = e.logical + e.length
			}
			if r.mapped == 0 {
				return
			}
		}
	}
}

// owedByExtents counts what is shared and what is a hole.
func owedByExtents(path string, sizeBytes int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	owed := sizeBytes
	for e, err := range extents(f, 0, 0) {
		if err != nil {
			return 0, err
		}
		end := min(e.logical+e.length, uint64(sizeBytes))
		if e.flags&fiemapShared == 0 && e.logical < end {
			owed -= int64(end - e.logical)
		}
	}
	return owed, nil
}
