package node

import (
	"context"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Usage is how much of a volume is in use. Of a block volume only the total is
// known.
type Usage struct {
	Block  bool
	Bytes  Amount
	Inodes Amount // zero if the filesystem does not count them
}

// Amount is a total and its parts.
type Amount struct{ Total, Used, Available int64 }

// Stats returns the usage of the volume at a path where it is staged or
// published. NotFound if it is not there.
func (n *Node) Stats(ctx context.Context, id volume.ID, path string) (Usage, error) {
	u, err := n.stats(ctx, id, path)
	return u, fault.Wrap(err, "stats of", string(id))
}

func (n *Node) stats(ctx context.Context, id volume.ID, path string) (Usage, error) {
	v, at, m, err := n.located(ctx, id, path)
	if err != nil {
		return Usage{}, err
	}
	defer at.Close()
	if m.shows(v.Device) {
		d, err := lookAtDevice(v.Device)
		return Usage{Block: true, Bytes: Amount{Total: d.sizeBytes}}, fault.As(fault.Internal, err)
	}
	f, err := at.open()
	if err != nil {
		return Usage{}, err
	}
	defer f.Close()
	var s unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &s); err != nil {
		return Usage{}, fault.New(fault.Internal, "statfs %s: %w", at.real, err)
	}
	return Usage{
		Bytes:  Amount{int64(s.Blocks) * s.Bsize, int64(s.Blocks-s.Bfree) * s.Bsize, int64(s.Bavail) * s.Bsize},
		Inodes: Amount{int64(s.Files), int64(s.Files - s.Ffree), int64(s.Ffree)},
	}, nil
}
