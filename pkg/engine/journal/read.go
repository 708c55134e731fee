package journal

import (
	"context"
	"iter"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Read fills p, whole blocks, with the data of a change from Change.At on, or
// from a later block of it, and verifies it again. It needs no copy if p is
// aligned, see disk.Buffer. NotFound if the space was given back meanwhile: the
// blocks are in the repository; Invalid if it never was there; Corrupt.
func (j *Journal) Read(ctx context.Context, at vlog.LSN, p []byte) error {
	if len(p) == 0 || len(p)%block != 0 || at%block != 0 || int64(len(p)) > j.ring.toWrap(at) {
		return fault.New(fault.Invalid, "journal %s: read %d bytes at %d: want blocks of one change", j.options.Path, len(p), at)
	}
	for len(p) > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(len(p), int(j.ring.maxBlocks()*block))
		if err := j.read(at, p[:n]); err != nil {
			return err
		}
		at, p = at+vlog.LSN(n), p[n:]
	}
	return nil
}

func (j *Journal) read(at vlog.LSN, p []byte) error {
	want, err := j.expected(at, len(p)/block)
	if err != nil {
		return err
	}
	to := p
	if !disk.Aligned(p) {
		to = disk.Buffer(len(p))
	}
	if n, err := j.file.ReadAt(to, j.ring.offset(at)); n < len(to) {
		return fault.New(fault.Internal, "%s: read %d bytes, got %d: %w", j.what(at), len(to), n, err)
	}
	for i, sum := range want {
		if got := crc(to[i*block : (i+1)*block]); got != sum {
			if _, err := j.expected(at, 1); err != nil {
				return err // given back, and written over, while it was read
			}
			return fault.New(fault.Corrupt, "%s: CRC32C: got %08x, want %08x", j.what(at+vlog.LSN(i*block)), got, sum)
		}
	}
	if &to[0] != &p[0] {
		copy(p, to)
	}
	return nil
}

// expected returns the checksums of so many blocks.
func (j *Journal) expected(at vlog.LSN, blocks int) ([]uint32, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if err := j.withinLocked(at, at+vlog.LSN(blocks*block)); err != nil {
		return nil, err
	}
	sums := make([]uint32, blocks)
	for i := range sums {
		sums[i] = j.sums.get(at + vlog.LSN(i*block))
	}
	return sums, nil
}

func (j *Journal) withinLocked(from, to vlog.LSN) error {
	switch {
	case from < j.tail.at:
		return fault.New(fault.NotFound, "journal %s: position %d: given back up to %d", j.options.Path, from, j.tail.at)
	case to > j.end.at || from > to:
		return fault.New(fault.Invalid, "journal %s: positions %d to %d: it ends at %d", j.options.Path, from, to, j.end.at)
	}
	return nil
}

// Record is a record as Records yields it: changes, or a seal, or the beginning
// of an epoch if it has neither.
type Record struct {
	At, End vlog.LSN
	Epoch   vlog.Epoch
	// Changes of one batch or of several, in order. They and their data are valid
	// until the next step of the iteration.
	Changes []Change
	Seal    *Seal
}

// Records yields the records of a range, verified again, in their order. from is
// where a record begins, to where one ends: what Record.End, Batch.End and State
// say. A batch is in one record; a seal is a record of its own, so that what
// forms segments of records cannot miss it. The iteration ends with the first
// error: NotFound if the space was given back; Invalid if the range is not the
// journal's; Corrupt.
func (j *Journal) Records(ctx context.Context, from, to vlog.LSN) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		if err := j.records(ctx, from, to, func(r Record) bool { return yield(r, nil) }); err != nil {
			yield(Record{}, err)
		}
	}
}

func (j *Journal) records(ctx context.Context, from, to vlog.LSN, yield func(Record) bool) error {
	b := j.buffer()
	defer j.buffers.Put(b)
	s := &scan{j: j, buffer: *b}
	var c cursor
	for at := from; ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		j.mu.Lock()
		err := j.withinLocked(at, to)
		j.mu.Unlock()
		if err != nil || at == to {
			return err
		}
		h, data, err := s.within(at, &c)
		if err != nil {
			j.mu.Lock()
			gone := j.withinLocked(at, to)
			j.mu.Unlock()
			if gone != nil {
				return gone
			}
			return err
		}
		at = h.end()
		if at > to {
			return fault.New(fault.Invalid, "%s: want the end of a record, got %d", j.what(to), at)
		}
		if h.typ != padRecord && h.typ != cleanRecord && !yield(h.record(data)) {
			return nil
		}
	}
}

// within returns the record at a position between tail and end; c is what it must
// follow, if a record was read before, and then what follows it.
func (s *scan) within(at vlog.LSN, c *cursor) (header, []byte, error) {
	if c.at != at {
		b, err := s.bytes(at, block)
		if err != nil {
			return header{}, nil, err
		}
		h, err := decodeHeader(b, s.j.what(at))
		if err != nil {
			return header{}, nil, err
		}
		*c = h.expected()
		c.at = at
	}
	h, data, err := s.next(*c)
	*c = h.after()
	return h, data, err
}

func (h *header) record(data []byte) Record {
	r := Record{At: h.at, End: h.end(), Epoch: h.epoch}
	if h.typ == sealRecord {
		r.Seal = &h.seal
	}
	at := h.at + block
	for _, c := range h.changes {
		x := Change{Kind: c.kind, First: c.first, Count: c.count}
		if c.kind == Data {
			n := int(c.count) * block
			x.At, x.Data, data = at, data[:n:n], data[n:]
			at += vlog.LSN(n)
		}
		r.Changes = append(r.Changes, x)
	}
	return r
}
