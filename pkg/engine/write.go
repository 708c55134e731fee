package engine

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

const sector = 512

// check reports a range that a device never asks for.
func (v *Volume) check(op string, off, length int64) error {
	if off < 0 || length < 0 || off%sector != 0 || length%sector != 0 || off+length > v.Size() || off+length < off {
		return fault.New(fault.OutOfRange, "%s %d bytes at %d: want multiples of %d within %d", op, length, off, sector, v.Size())
	}
	return nil
}

// WriteAt writes p at off, see blockdev.Disk. Fenced, naming the successor, if
// another node has taken the volume over; Internal if the journal failed.
func (v *Volume) WriteAt(ctx context.Context, p []byte, off int64) error {
	if err := v.check("write", off, int64(len(p))); err != nil {
		return err
	}
	v.stats.writes.Add(1)
	v.stats.writeBytes.Add(uint64(len(p)))
	most := v.journal.MaxBlocks() * vlog.BlockSize
	for len(p) > 0 {
		var err error
		n := len(p)
		if skip := int(off % vlog.BlockSize); skip != 0 || n < vlog.BlockSize {
			n = min(n, vlog.BlockSize-skip)
			err = v.merge(ctx, vlog.Block(off/vlog.BlockSize), skip, p[:n])
		} else {
			n = min(n/vlog.BlockSize*vlog.BlockSize, most)
			err = v.pass(ctx, journal.Change{Kind: journal.Data, First: vlog.Block(off / vlog.BlockSize), Count: uint64(n / vlog.BlockSize), Data: p[:n]})
		}
		if err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return v.mayAcknowledge(ctx)
}

// Zero makes a range zeros, see blockdev.Disk.
func (v *Volume) Zero(ctx context.Context, off, length int64, discard bool) error {
	if err := v.check("zero", off, length); err != nil {
		return err
	}
	v.stats.zeros.Add(1)
	v.stats.zeroBytes.Add(uint64(length))
	kind := journal.Zeros
	if discard {
		kind = journal.Discarded
	}
	for length > 0 {
		var err error
		n := length
		if skip := off % vlog.BlockSize; skip != 0 || n < vlog.BlockSize {
			n = min(n, vlog.BlockSize-skip)
			err = v.merge(ctx, vlog.Block(off/vlog.BlockSize), int(skip), make([]byte, n))
		} else {
			n = n / vlog.BlockSize * vlog.BlockSize
			err = v.pass(ctx, journal.Change{Kind: kind, First: vlog.Block(off / vlog.BlockSize), Count: uint64(n / vlog.BlockSize)})
		}
		if err != nil {
			return err
		}
		off, length = off+n, length-n
	}
	return v.mayAcknowledge(ctx)
}

// pass writes a change of whole blocks, through the gate.
func (v *Volume) pass(ctx context.Context, c journal.Change) error {
	if err := v.room(ctx); err != nil {
		return err
	}
	if err := v.gate.enter(ctx); err != nil {
		return err
	}
	defer v.gate.leave()
	return v.append(ctx, c)
}

// room waits until the overlay may grow.
func (v *Volume) room(ctx context.Context) error {
	if v.overlay.Bytes() <= v.roomFor.Load() {
		return v.Err()
	}
	v.demand(v.journal.State().End)
	return v.await(ctx, func() (bool, error) { return v.overlay.Bytes() <= v.roomFor.Load(), v.mu.err })
}

// append writes a change to the journal and makes it visible, in one order.
func (v *Volume) append(ctx context.Context, c journal.Change) error {
	if err := v.Err(); err != nil {
		return err
	}
	b := &journal.Batch{Changes: []journal.Change{c}}
	b.Apply = func() {
		c := &b.Changes[0]
		if c.Kind == journal.Data {
			v.overlay.Write(c.First, c.Count, c.At)
		} else {
			v.overlay.Zero(c.First, c.Count, b.Record)
		}
		v.noteChange(b.End, *c)
	}
	if err := v.journal.Append(ctx, b); err != nil {
		if fault.Is(err, fault.Internal) {
			v.fail(err)
		}
		return err
	}
	v.stats.journalBytes.Add(uint64(b.End - b.Record))
	return nil
}

// noteChange notes the newest changes of the journal.
func (v *Volume) noteChange(end vlog.LSN, changes ...journal.Change) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, m := range v.mu.watched {
		for _, c := range changes {
			m.written = m.written || m.block >= c.First && uint64(m.block-c.First) < c.Count
		}
	}
	first := v.mu.newest <= v.mu.cut
	v.mu.newest = max(v.mu.newest, end)
	v.mu.ages.add(end, v.e.o.Now())
	for _, c := range changes {
		if c.Kind == journal.Data {
			v.mu.fresh += int64(c.Count) * vlog.BlockSize
		}
	}
	if first || v.enoughLocked() {
		v.poke()
	}
}

// merge writes a part of a block: it reads the rest, and makes sure that nothing
// was written there in between.
func (v *Volume) merge(ctx context.Context, b vlog.Block, skip int, p []byte) error {
	whole := disk.Buffer(vlog.BlockSize)
	for {
		if err := v.room(ctx); err != nil {
			return err
		}
		m := v.watch(b)
		err := v.readBlocks(ctx, b, whole)
		if err == nil {
			err = v.gate.shut(ctx)
		}
		if err != nil {
			v.unwatch(m)
			return err
		}
		same := v.unwatch(m)
		if same {
			copy(whole[skip:], p)
			err = v.append(ctx, journal.Change{Kind: journal.Data, First: b, Count: 1, Data: whole})
		}
		v.gate.open()
		if err != nil || same {
			return err
		}
	}
}

// watched is a block of which somebody wants to know whether it is written.
type watched struct {
	block   vlog.Block
	written bool
}

func (v *Volume) watch(b vlog.Block) *watched {
	m := &watched{block: b}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.watched = append(v.mu.watched, m)
	return m
}

// unwatch reports whether the block is as it was.
func (v *Volume) unwatch(m *watched) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.mu.watched = slices.DeleteFunc(v.mu.watched, func(x *watched) bool { return x == m })
	return !m.written
}

// Flush makes what was written durable, see blockdev.Disk and Durability.
func (v *Volume) Flush(ctx context.Context) error {
	v.stats.flushes.Add(1)
	if err := v.Err(); err != nil {
		return err
	}
	if v.o.Durability == ObjectDurability {
		v.mu.Lock()
		to := v.mu.newest
		v.mu.Unlock()
		return v.count(ctx, to)
	}
	if err := v.journal.Flush(ctx); err != nil {
		if fault.Is(err, fault.Internal) {
			v.fail(err)
		}
		return err
	}
	return v.mayAcknowledge(ctx)
}

// demand has everything up to a journal position uploaded without delay.
func (v *Volume) demand(to vlog.LSN) {
	v.mu.Lock()
	v.mu.force = max(v.mu.force, to)
	v.mu.Unlock()
	v.poke()
}

// count waits until everything up to a journal position counts.
func (v *Volume) count(ctx context.Context, to vlog.LSN) error {
	v.demand(to)
	return v.await(ctx, func() (bool, error) { return v.mu.counted >= to, nil })
}

// Sync waits until everything that was written before counts in the repository.
func (v *Volume) Sync(ctx context.Context) error {
	v.mu.Lock()
	to := v.mu.newest
	v.mu.Unlock()
	return v.count(ctx, to)
}

// Pause stops writers until resume is called. Reads, flushes and snapshots go on.
// What was written before is uploaded first, so that a snapshot under the pause
// has little left to do.
func (v *Volume) Pause(ctx context.Context) (resume func(), err error) {
	if err := v.Sync(ctx); err != nil {
		return nil, err
	}
	if err := v.gate.shut(ctx); err != nil {
		return nil, err
	}
	return v.gate.open, nil
}
