package engine

import (
	"time"

	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// State is how a volume is.
type State struct {
	Size  int64
	Epoch vlog.Epoch
	// Counted is up to where the repository has it.
	Counted vlog.Position
	// Backlog is the bytes of the journal that do not count yet, and Oldest the time of
	// the first of them: what the loss of this node would cost. Zero if there are none.
	Backlog int64
	Oldest  time.Time
	// JournalUsed is how much of JournalSize is in use: when it is full, writers wait.
	JournalUsed, JournalSize int64
	// MemoryBytes is what the extent table and what is newer take.
	MemoryBytes int64
	// Err is why it serves no writes any more, and, if it is Fenced, no reads.
	Err error
	// StoreErr is why the store does not do what is asked, since StoreSince; nil if it
	// does.
	StoreErr   error
	StoreSince time.Time
	// Kept are journals that another node's writing superseded: they have what was
	// acknowledged here and is not in the volume. Dropped says what was given up when
	// it was opened.
	Kept    []string
	Dropped string
	// Filled says that all of a volume that is to be in the cache was seen there.
	Filled bool
	Stats  Stats
}

// Stats counts what was done since the volume was opened.
type Stats struct {
	Reads, ReadBytes, Writes, WriteBytes, Zeros, ZeroBytes, Flushes uint64
	JournalBytes, Segments, SegmentBytes, Checkpoints, Collected    uint64
	// Moves are those of Segments, of MoveBytes of SegmentBytes, that cleaning wrote,
	// to empty Cleaned segments: SegmentBytes / WriteBytes is what a written byte costs.
	Cleaned, Moves, MoveBytes uint64
	// LiveBlocks of StoredBlocks of the log's own segments live: what is stored for
	// each of the volume's blocks, beside what waits to be collected.
	LiveBlocks, StoredBlocks uint64
	Image                    image.Stats
}

// State returns how the volume is.
func (v *Volume) State() State {
	j := v.journal.State()
	c := &v.stats
	s := State{
		Size: v.Size(), Epoch: v.reign.Epoch, Counted: v.reign.Counted(), JournalUsed: j.Used, JournalSize: j.Size,
		MemoryBytes: v.image.Table().MemoryBytes() + v.overlay.Bytes(), Kept: v.kept, Dropped: v.dropped, Filled: v.filled.Load(),
		Stats: Stats{
			Reads: c.reads.Load(), ReadBytes: c.readBytes.Load(), Writes: c.writes.Load(), WriteBytes: c.writeBytes.Load(),
			Zeros: c.zeros.Load(), ZeroBytes: c.zeroBytes.Load(), Flushes: c.flushes.Load(), JournalBytes: c.journalBytes.Load(),
			Segments: c.segments.Load(), SegmentBytes: c.segmentBytes.Load(), Checkpoints: c.checkpoints.Load(),
			Collected: c.collected.Load(), Image: v.image.Stats(),
			Cleaned: c.cleaned.Load(), Moves: c.moves.Load(), MoveBytes: c.moveBytes.Load(),
		},
	}
	s.Stats.LiveBlocks, s.Stats.StoredBlocks = v.image.Census().Share()
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.newest > v.mu.counted {
		s.Backlog, s.Oldest = int64(v.mu.newest-v.mu.counted), v.mu.ages.oldest(v.mu.counted)
	}
	s.Err, s.StoreErr, s.StoreSince = v.mu.err, v.mu.storeErr, v.mu.since
	return s
}
