package frame

import (
	"context"
	"fmt"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
)

func place(p Place) string { return fmt.Sprintf("at %d of block %d", p.Offset, p.First) }

// Read gets the frame that a pointer names from the object with this sequence,
// by exactly one ranged read, verifies it, and appends its blocks to dst. block
// is the number that the pointer was found under: a block's in a segment, a
// page's in a table. NotFound if the object is gone; Corrupt.
func (c *Cipher) Read(ctx context.Context, store objstore.Store, s vlog.Sequence, at vlog.Pointer, block uint64, dst []byte) ([]byte, error) {
	key := vlog.Keys{Log: c.reign.Log}.Object(c.kind, vlog.Position{Epoch: c.reign.Epoch, Sequence: s})
	if at.Hole() || !at.Valid() || block < uint64(at.Index()) {
		return dst, fault.New(fault.Corrupt, "%s: pointer %#x of block %d: want one to a frame", key, uint64(at), block)
	}
	stored, err := store.GetRange(ctx, key, at.Offset(), at.Stored())
	if err != nil {
		if fault.Is(err, fault.OutOfRange) {
			err = fault.As(fault.Corrupt, err)
		}
		return dst, fault.Wrap(err, "read frame of", key)
	}
	before := len(dst)
	dst, err = c.Open(dst, stored, Place{Sequence: s, Offset: at.Offset(), First: block - uint64(at.Index())}, key)
	if err != nil {
		return dst, err
	}
	if got := (len(dst) - before) / vlog.BlockSize; got <= at.Index() {
		return dst[:before], fault.New(fault.Corrupt, "%s at %d: frame: got %d blocks, want block %d of it", key, at.Offset(), got, at.Index())
	}
	return dst, nil
}
