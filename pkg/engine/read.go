package engine

import (
	"context"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/overlay"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// ReadAt fills p from off on, see blockdev.Disk. Fenced if another node has taken
// the volume over: what is here may be old. Transient if the store stays away for
// longer than the class's limit. Corrupt.
func (v *Volume) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := v.check("read", off, int64(len(p))); err != nil {
		return err
	}
	if err := v.Err(); fault.Is(err, fault.Fenced) {
		return err
	}
	v.stats.reads.Add(1)
	v.stats.readBytes.Add(uint64(len(p)))
	return readSectors(p, off, func(first vlog.Block, p []byte) error { return v.readBlocks(ctx, first, p) })
}

// readSectors reads sectors by whole blocks, the odd ends through a buffer.
func readSectors(p []byte, off int64, read func(first vlog.Block, p []byte) error) error {
	for len(p) > 0 {
		skip, first := int(off%vlog.BlockSize), vlog.Block(off/vlog.BlockSize)
		n := len(p) / vlog.BlockSize * vlog.BlockSize
		if skip == 0 && n > 0 {
			if err := read(first, p[:n]); err != nil {
				return err
			}
		} else {
			n = min(len(p), vlog.BlockSize-skip)
			whole := disk.Buffer(vlog.BlockSize)
			if err := read(first, whole); err != nil {
				return err
			}
			copy(p[:n], whole[skip:])
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}

// atATime is how many blocks are looked up at once.
const atATime = 256

func (v *Volume) readBlocks(ctx context.Context, first vlog.Block, p []byte) error {
	for len(p) > 0 {
		n := min(len(p), atATime*vlog.BlockSize)
		var refs [atATime]overlay.Ref
		if err := v.readRun(ctx, first, p[:n], refs[:n/vlog.BlockSize]); err != nil {
			return err
		}
		first, p = first+vlog.Block(n/vlog.BlockSize), p[n:]
	}
	return nil
}

// readRun reads blocks from the overlay or what is below. What is found in the
// journal may be given back before it is read: it is in the table then.
func (v *Volume) readRun(ctx context.Context, first vlog.Block, p []byte, refs []overlay.Ref) error {
	if !v.overlay.Lookup(first, refs) {
		return v.image.Read(ctx, first, p)
	}
	for len(refs) > 0 {
		n := 1
		for n < len(refs) && goesOn(refs[0], refs[n], n) {
			n++
		}
		part := p[:n*vlog.BlockSize]
		var err error
		switch r := refs[0]; {
		case !r.Known():
			err = v.image.Read(ctx, first, part)
		case r.Zero():
			clear(part)
		default:
			err = v.journal.Read(ctx, r.At(), part)
		}
		if fault.Is(err, fault.NotFound) && refs[0].Known() {
			var again [atATime]overlay.Ref
			err = v.readRun(ctx, first, part, again[:n])
		}
		if err != nil {
			return err
		}
		first, p, refs = first+vlog.Block(n), p[n*vlog.BlockSize:], refs[n:]
	}
	return nil
}

// goesOn reports whether r is n blocks behind q in the same place.
func goesOn(q, r overlay.Ref, n int) bool {
	switch {
	case !q.Known():
		return !r.Known()
	case q.Zero():
		return r.Known() && r.Zero()
	}
	return r.Known() && !r.Zero() && r.At() == q.At()+vlog.LSN(n*vlog.BlockSize)
}
