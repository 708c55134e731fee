package journal

import (
	"context"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Begin starts an epoch: it cuts a torn tail off, for good, and appends may
// follow. When it returns, everything that Open found is durable. It is called
// once. Invalid if the epoch is not later than the last record's; Exhausted if
// thousands of openings without any space given back have used up what was kept
// aside for them.
func (j *Journal) Begin(ctx context.Context, epoch vlog.Epoch) error {
	if err := j.begin(ctx, epoch); err != nil {
		return fault.Wrap(err, "begin epoch in journal", j.options.Path)
	}
	j.filler.start(j)
	return nil
}

func (j *Journal) begin(ctx context.Context, epoch vlog.Epoch) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	switch {
	case j.err != nil:
		return j.err
	case j.begun:
		return fault.New(fault.Precondition, "epoch %d has begun: open the journal again", j.end.epoch)
	case epoch <= j.end.epoch || epoch > vlog.MaxEpoch:
		return fault.New(fault.Invalid, "epoch %d: want one after %d", epoch, j.end.epoch)
	case j.ring.size-j.usedLocked() < block:
		return fault.New(fault.Exhausted, "no room for the epoch record: %d bytes in use of %d", j.usedLocked(), j.ring.size)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	c := j.end
	c.run, c.epoch = run(random()), epoch
	err := j.rewriteSuperblock()
	if err == nil {
		err = j.rewrite(j.durable, j.end.at)
	}
	if err == nil {
		err = j.writeControl(epochRecord, c)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.failLocked(fault.New(fault.Internal, "journal %s: failed for good: begin: %w", j.options.Path, err))
		return j.err
	}
	j.durable, j.begun = j.end.at, true
	return nil
}

// rewriteSuperblock writes the newest superblock once more, in its place: the other
// is its predecessor, which counts if this one gets torn.
func (j *Journal) rewriteSuperblock() error {
	b, at := disk.Buffer(block), int64(j.generation%2)*block
	if n, err := j.file.ReadAt(b, at); n < block {
		return err
	}
	_, err := j.file.WriteAt(b, at)
	return err
}

// rewrite writes what is in a range once more.
func (j *Journal) rewrite(from, to vlog.LSN) error {
	b := j.buffer()
	defer j.buffers.Put(b)
	for at := from; at < to; {
		p := (*b)[:min(int64(len(*b)), int64(to-at), j.ring.toWrap(at))]
		if n, err := j.file.ReadAt(p, j.ring.offset(at)); n < len(p) {
			return err
		}
		if _, err := j.file.WriteAt(p, j.ring.offset(at)); err != nil {
			return err
		}
		at += vlog.LSN(len(p))
	}
	return nil
}

// writeControl writes a record without a body at the end; nobody else may be
// writing.
func (j *Journal) writeControl(typ recordType, c cursor) error {
	h := header{cursor: c, typ: typ, incarnation: j.incarnation, durable: j.durable, bytes: block}
	b := disk.Buffer(block)
	h.put(b)
	if _, err := j.file.WriteAt(b, j.ring.offset(h.at)); err != nil {
		return err
	}
	j.end = h.after()
	return nil
}

// putSuperblock writes the next superblock; the caller holds recycling, and makes
// it durable.
func (j *Journal) putSuperblock(tail cursor, durable vlog.LSN) error {
	j.generation++
	s := superblock{
		generation: j.generation, volume: j.options.Volume, log: j.options.Log, incarnation: j.incarnation,
		size: j.ring.size, tail: tail, durable: durable, filled: j.filler.filled(),
	}
	b := disk.Buffer(block)
	s.put(b)
	_, err := j.file.WriteAt(b, int64(j.generation%2)*block)
	return err
}
