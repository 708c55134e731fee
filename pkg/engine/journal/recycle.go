package journal

import (
	"context"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Recycle gives back the space before a position, which is where a record begins
// or the end: what was there counts in the repository. It writes a superblock and
// makes it durable first, so it is not free: once a segment is right. A position
// before the tail changes nothing. Invalid if no record begins there, or if it
// is not durable yet: then a loss of power would leave the repository ahead of
// the journal. Internal if the journal failed.
func (j *Journal) Recycle(ctx context.Context, upTo vlog.LSN) error {
	j.recycling.Lock()
	defer j.recycling.Unlock()
	tail, err := j.cut(ctx, upTo)
	if err != nil {
		return fault.Wrap(err, "recycle journal", j.options.Path)
	}
	j.mu.Lock()
	before, durable := j.tail, j.durable
	j.mu.Unlock()
	if tail.at <= before.at {
		return nil
	}
	if err := j.putSuperblock(tail, durable); err != nil {
		return j.fail("write of a superblock", err)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writes++
	// Whoever waits for space cannot wait for less than this sync.
	if err := j.flushLocked(context.WithoutCancel(ctx), j.writes); err != nil {
		return err
	}
	j.sums.release(before.at, tail.at, j.end.at)
	j.tail = tail
	j.pace.gaveBack()
	return nil
}

// cut returns the cursor at a position.
func (j *Journal) cut(ctx context.Context, at vlog.LSN) (cursor, error) {
	j.mu.Lock()
	tail, end, durable, begun, err := j.tail, j.end, j.durable, j.begun, j.err
	j.mu.Unlock()
	switch {
	case err != nil:
		return cursor{}, err
	case ctx.Err() != nil:
		return cursor{}, ctx.Err()
	case !begun:
		return cursor{}, fault.New(fault.Precondition, "no epoch has begun")
	case at <= tail.at:
		return tail, nil
	case at > durable:
		return cursor{}, fault.New(fault.Invalid, "position %d: want at most %d, which is durable", at, durable)
	case at == end.at:
		return end, nil
	case at%block != 0:
		return cursor{}, fault.New(fault.Invalid, "position %d: want a multiple of %d", at, block)
	}
	p := disk.Buffer(block)
	if n, err := j.file.ReadAt(p, j.ring.offset(at)); n < block {
		return cursor{}, fault.New(fault.Internal, "%s: %w", j.what(at), err)
	}
	h, err := decodeHeader(p, j.what(at))
	if err != nil || h.at != at || h.incarnation != j.incarnation {
		return cursor{}, fault.New(fault.Invalid, "position %d: want one where a record begins: %w", at, err)
	}
	return h.expected(), nil
}
