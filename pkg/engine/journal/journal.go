package journal

import (
	"context"
	"fmt"
	"sync"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Journal is an open journal. All of it may be used concurrently.
type Journal struct {
	options Options
	ring    ring
	file    disk.File
	buffers sync.Pool // of one write or one reading each, *[]byte
	filler  filler
	pace    pace

	// recycling is held while a superblock is written. It comes before mu.
	recycling  sync.Mutex
	generation uint64 // of the newest superblock

	mu  sync.Mutex
	err error // why nothing is written any more; nil while open

	incarnation vlog.Incarnation
	found       State // as Open found it
	begun       bool

	tail    cursor // of the first record that is needed
	end     cursor // of the next record; its leader owns it while leading
	durable vlog.LSN
	sums    sums

	// The queue of appends, see append.go.
	queue   []*request
	leading bool
	idle    chan struct{} // closed when nobody leads any more; nil if nobody waits for that

	// Writes and syncs, counted, see flush.go.
	writes, synced uint64
	syncing        chan struct{} // closed when the running sync ends; nil if none runs

	stats Stats
}

// State is how far a journal is.
type State struct {
	Incarnation vlog.Incarnation
	// Tail is the first position that is still needed, Durable the one up to which
	// everything survives a loss of power, End where the next record will be.
	Tail, Durable, End vlog.LSN
	// Epoch is that of the last record; 0 if there never was one.
	Epoch vlog.Epoch
	// Clean reports that the last record is the mark of a clean end.
	Clean bool
	// Used is the bytes in use, of Size; Filled is how much of the ring was written
	// once, so that writing it again is fast.
	Used, Size, Filled int64
	// Err is why the journal failed or was closed; nil while it works.
	Err error
}

// Stats counts what was done since the journal was opened.
type Stats struct {
	Batches, Records, Writes, Syncs, Bytes uint64
}

// State returns how far the journal is.
func (j *Journal) State() State {
	j.mu.Lock()
	defer j.mu.Unlock()
	s := j.found
	s.Tail, s.Durable, s.End, s.Epoch = j.tail.at, j.durable, j.end.at, j.end.epoch
	s.Clean = s.Clean && !j.begun
	s.Used, s.Size, s.Err = j.usedLocked(), j.ring.size, j.err
	s.Filled = j.filler.filled()
	return s
}

// Stats returns what was done.
func (j *Journal) Stats() Stats {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.stats
}

// Found returns the state that Open found. It does not change.
func (j *Journal) Found() State { return j.found }

// MaxBlocks is how many blocks of data a batch can hold.
func (j *Journal) MaxBlocks() int { return int(j.ring.maxBlocks()) }

func (j *Journal) usedLocked() int64 { return int64(j.end.at - j.tail.at) }

// failLocked makes the journal refuse everything from now on, for the first
// reason given, and wakes who waits for it.
func (j *Journal) failLocked(err error) {
	if j.err == nil {
		j.err = err
		j.pace.wake()
		j.filler.stop()
	}
}

// Refuse has the journal write nothing any more, for a reason that Append, Flush and
// Recycle return from now on, to those who wait in them too. Reads go on.
func (j *Journal) Refuse(reason error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failLocked(reason)
}

// fail is failLocked for a write or a sync that failed.
func (j *Journal) fail(op string, err error) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.failLocked(fault.New(fault.Internal, "journal %s: failed for good: %s: %w", j.options.Path, op, err))
	return j.err
}

// Close writes down that the end is clean, durably, and closes the file. If ctx
// ends before that is done, or the journal failed, the file is closed all the
// same, as by Abandon, and the error says that the end is not clean. No call may
// follow.
func (j *Journal) Close(ctx context.Context) error {
	err := j.finish(ctx)
	j.Abandon()
	return fault.Wrap(err, "close journal", j.options.Path)
}

func (j *Journal) finish(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	j.recycling.Lock()
	defer j.recycling.Unlock()
	if err := j.quiesce(fault.New(fault.Precondition, "journal %s: is closed", j.options.Path)); err != nil || !j.begun {
		return err
	}
	j.mu.Lock() // against those who find out that it is closed
	defer j.mu.Unlock()
	if j.ring.size-j.usedLocked() < block {
		return fault.New(fault.Exhausted, "no room for the clean mark")
	}
	if err := j.writeControl(cleanRecord, j.end); err != nil {
		return err
	}
	if err := j.file.Sync(); err != nil {
		return err
	}
	j.durable = j.end.at
	if err := j.putSuperblock(j.tail, j.durable); err != nil {
		return err
	}
	return j.file.Sync()
}

// Abandon closes the file without another write, as a death would. Who waits in
// Append or Flush gets an error; what was appended stays in the kernel's hands.
// No call may follow.
func (j *Journal) Abandon() {
	_ = j.quiesce(fault.New(fault.Precondition, "journal %s: is closed", j.options.Path))
	j.recycling.Lock()
	defer j.recycling.Unlock()
	j.file.Close()
}

// quiesce ends everything that is under way with reason and waits for it. It
// returns why the journal had ended before, if it had.
func (j *Journal) quiesce(reason error) error {
	j.mu.Lock()
	before := j.err
	j.failLocked(reason)
	for j.leading {
		if j.idle == nil {
			j.idle = make(chan struct{})
		}
		idle := j.idle
		j.mu.Unlock()
		<-idle
		j.mu.Lock()
	}
	for j.syncing != nil {
		running := j.syncing
		j.mu.Unlock()
		<-running
		j.mu.Lock()
	}
	j.mu.Unlock()
	j.filler.wait()
	return before
}

// what names a place of the file, for errors.
func (j *Journal) what(at vlog.LSN) string {
	return fmt.Sprintf("journal %s, position %d, file offset %d", j.options.Path, at, j.ring.offset(at))
}

// buffer returns a buffer for one write or one reading, to be put back.
func (j *Journal) buffer() *[]byte {
	if b, ok := j.buffers.Get().(*[]byte); ok {
		return b
	}
	b := disk.Buffer(int(j.ring.maxRecord()))
	return &b
}
