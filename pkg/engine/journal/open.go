package journal

import (
	"context"
	"crypto/rand"
	"fmt"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// random returns 64 random bits that are not all zero.
func random() uint64 {
	for {
		var b [8]byte
		_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
		if v := le.Uint64(b[:]); v != 0 {
			return v
		}
	}
}

// Create makes an empty journal with an incarnation of its own. It appears whole,
// with its space allocated, or not at all. Exists if there is a file; Exhausted if
// there is no room.
func Create(ctx context.Context, o Options) (*Journal, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	s := superblock{
		generation: 1, volume: o.Volume, log: o.Log, incarnation: vlog.Incarnation(random()),
		size: o.Size, tail: cursor{run: run(random())},
	}
	head := make([]byte, superblocks)
	s.put(head[block:]) // generation 1
	f, err := o.Storage.Create(o.Path, superblocks+o.Size, head)
	if err != nil {
		return nil, fault.Wrap(err, "create journal of", string(o.Volume))
	}
	return newJournal(o, f, s), nil
}

// Open finds what a journal holds and verifies all of it. It writes nothing.
// NotFound if there is no file: whatever was acknowledged and is not in the
// repository is lost with it, so the caller must not make a new one in its place
// unless that is known or accepted. Precondition if the file belongs to another
// volume, log or incarnation; Corrupt if it is damaged; Unsupported if a newer
// program wrote it; InUse if another process has it open.
func Open(ctx context.Context, o Options) (*Journal, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	o = o.withDefaults()
	f, err := o.Storage.Open(o.Path)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.New(fault.NotFound, "journal of %s: what was acknowledged and is not in the repository was in it: %w", o.Volume, err)
	}
	if err != nil {
		return nil, fault.Wrap(err, "open journal of", string(o.Volume))
	}
	j, err := recoverFrom(ctx, o, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return j, nil
}

func newJournal(o Options, f disk.File, s superblock) *Journal {
	r := ring{s.size}
	j := &Journal{
		options: o, ring: r, file: f, incarnation: s.incarnation, generation: s.generation,
		tail: s.tail, end: s.tail, durable: s.durable,
		sums: sums{ring: r},
	}
	j.pace.init(r.size)
	j.filler.init(s.filled)
	j.found = State{Incarnation: s.incarnation}
	j.found = j.State()
	return j
}

// recoverFrom reads the superblocks and every record behind the tail.
func recoverFrom(ctx context.Context, o Options, f disk.File) (*Journal, error) {
	s, err := readSuperblocks(o, f)
	if err != nil {
		return nil, err
	}
	j := newJournal(o, f, s)
	b := j.buffer()
	defer j.buffers.Put(b)
	scan := &scan{j: j, buffer: *b}
	var clean bool
	for {
		if err := ctx.Err(); err != nil {
			return nil, fault.Wrap(err, "open journal", o.Path)
		}
		if j.usedLocked() >= j.ring.size {
			break
		}
		h, _, err := scan.next(j.end)
		if fault.Is(err, fault.Corrupt) {
			if err := j.tornTail(scan, err); err != nil {
				return nil, err
			}
			break
		}
		if err != nil {
			return nil, fault.Wrap(err, "open journal", o.Path)
		}
		j.keepSums(&h)
		j.end = h.after()
		j.durable = max(j.durable, h.durable)
		clean = h.typ == cleanRecord
	}
	if j.durable > j.end.at {
		return nil, fault.New(fault.Corrupt, "journal %s: ends at %d: want at least %d, which was durable", o.Path, j.end.at, j.durable)
	}
	j.found = j.State()
	j.found.Clean = clean
	return j, nil
}

func (j *Journal) keepSums(h *header) {
	at := h.at + block
	for _, c := range h.changes {
		for _, sum := range c.sums {
			j.sums.set(at, sum)
			at += block
		}
	}
}

// tornTail decides whether the position that has no record, for the reason given,
// is where the journal ends: nil if nothing vouches for more.
func (j *Journal) tornTail(scan *scan, reason error) error {
	stop := j.end.at
	if j.durable > stop {
		return fault.New(fault.Corrupt, "journal %s: position %d was durable, but there is no record at %d: %w", j.options.Path, j.durable, stop, reason)
	}
	// The two blocks more are an epoch record and a clean mark.
	for at := stop; at <= stop+vlog.LSN(j.ring.window()+2*block); at += block {
		b, err := scan.bytes(at, block)
		if err != nil {
			return err
		}
		h, err := decodeHeader(b, "")
		if err != nil && !fault.Is(err, fault.Unsupported) || h.incarnation != j.incarnation {
			continue
		}
		// Of this lap or of a later one, as behind an old superblock.
		if h.at >= at && (h.at-at)%vlog.LSN(j.ring.size) == 0 && h.durable > stop {
			return fault.New(fault.Corrupt, "journal %s: the record at %d says that %d was durable, but there is no record at %d: %w", j.options.Path, h.at, h.durable, stop, reason)
		}
	}
	return nil
}

// readSuperblocks returns the newest good superblock, if it is the wanted one's.
func readSuperblocks(o Options, f disk.File) (superblock, error) {
	b := disk.Buffer(superblocks)
	if n, err := f.ReadAt(b, 0); n < superblocks {
		return superblock{}, fault.New(fault.Corrupt, "journal %s: got %d bytes of superblocks, want %d: %w", o.Path, n, superblocks, err)
	}
	var s superblock
	var faults [2]error
	for i := range faults {
		got, err := decodeSuperblock(b[i*block:(i+1)*block], fmt.Sprintf("journal %s, superblock at %d", o.Path, i*block))
		if err == nil && got.generation%2 != uint64(i) {
			err = fault.New(fault.Corrupt, "journal %s, superblock at %d: generation %d is in the other's place", o.Path, i*block, got.generation)
		}
		if fault.Is(err, fault.Unsupported) {
			return s, err
		}
		if faults[i] = err; err == nil && got.generation > s.generation {
			s = got
		}
	}
	size, err := f.Size()
	switch {
	case s.generation == 0:
		return s, fault.New(fault.Corrupt, "journal %s: both superblocks are damaged: %w; %w", o.Path, faults[0], faults[1])
	case err != nil:
		return s, fault.Wrap(err, "size of journal", o.Path)
	case s.volume != o.Volume || s.log != o.Log:
		return s, fault.New(fault.Precondition, "journal %s: is of %s with %s, want %s with %s", o.Path, s.volume, s.log, o.Volume, o.Log)
	case o.Incarnation != 0 && s.incarnation != o.Incarnation:
		return s, fault.New(fault.Precondition, "journal %s: incarnation %x, want %x, which the repository knows", o.Path, s.incarnation, o.Incarnation)
	case size != superblocks+s.size:
		return s, fault.New(fault.Corrupt, "journal %s: got %d bytes, want %d: it was resized", o.Path, size, superblocks+s.size)
	}
	return s, nil
}
