package journal

import (
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Kind is what a change does. The numbers are stored; they are segment.EntryKind's.
type Kind uint8

// The kinds.
const (
	Data      Kind = 0 // the blocks are here
	Zeros     Kind = 2 // the blocks are zeros from here on
	Discarded Kind = 3 // the blocks were discarded: zeros as well
)

// What a batch can hold at most. A small ring holds less data in a batch: a
// sixteenth of its blocks, see Journal.MaxBlocks.
const (
	MaxBlocks  = 256 // of data: 1 MiB
	MaxChanges = 128
)

// Change is one write, or one range that becomes zeros.
type Change struct {
	Kind  Kind
	First vlog.Block
	Count uint64 // of blocks
	Data  []byte // of Data: the blocks
	// At is the position of the first block of data, to Read it from; the others
	// follow. Append sets it, and so does Records.
	At vlog.LSN
}

// Seal is a snapshot whose content is what is before it. The batches of an upload
// never cross one.
type Seal struct {
	Snapshot volume.SnapshotID
	Blocks   vlog.Block // size of the volume in the snapshot
}

// Batch is what one Append writes: changes in their order, or a seal.
type Batch struct {
	Changes []Change // up to MaxChanges; with them no Seal
	Seal    *Seal
	// Apply, if there is one, is called when the batch is written, before Append
	// returns and before any later batch's Apply: in the order of the journal.
	// It must be short, and must not call the journal.
	Apply func()
	// Record and End are where the record begins that holds the batch, among
	// others perhaps, and where the next one begins. Set before Apply is called.
	Record, End vlog.LSN
}

// blocks returns the blocks of data.
func (b *Batch) blocks() (n int64) {
	for _, c := range b.Changes {
		if c.Kind == Data {
			n += int64(c.Count)
		}
	}
	return n
}

func (b *Batch) validate(maxBlocks int64) error {
	if b.Seal != nil {
		if len(b.Changes) > 0 {
			return fault.New(fault.Invalid, "batch: got a seal and %d changes, want one or the other", len(b.Changes))
		}
		return b.Seal.validate()
	}
	if len(b.Changes) == 0 || len(b.Changes) > MaxChanges {
		return fault.New(fault.Invalid, "batch: got %d changes, want 1 to %d", len(b.Changes), MaxChanges)
	}
	for i, c := range b.Changes {
		err := c.validate()
		if want := c.Count * block; err == nil && c.Kind == Data && (c.Count > MaxBlocks || uint64(len(c.Data)) != want) {
			err = fault.New(fault.Invalid, "got %d bytes, want %d blocks of %d", len(c.Data), c.Count, block)
		}
		if err != nil {
			return fault.New(fault.Invalid, "batch: change %d: %w", i, err)
		}
	}
	if n := b.blocks(); n > maxBlocks {
		return fault.New(fault.Invalid, "batch: got %d blocks of data, want at most %d", n, maxBlocks)
	}
	return nil
}

func (c Change) validate() error {
	switch {
	case c.Kind != Data && c.Kind != Zeros && c.Kind != Discarded:
		return fault.New(fault.Invalid, "kind: got %d, want %d, %d or %d", c.Kind, Data, Zeros, Discarded)
	case c.Count == 0 || c.Count > uint64(vlog.MaxBlocks) || c.First > vlog.MaxBlocks-vlog.Block(c.Count):
		return fault.New(fault.Invalid, "got %d blocks from %d, want at least 1, up to block %d", c.Count, c.First, vlog.MaxBlocks)
	}
	return nil
}

func (s Seal) validate() error {
	if _, err := volume.ParseSnapshotID(string(s.Snapshot)); err != nil {
		return fault.New(fault.Invalid, "seal: snapshot %.80q: want an id", s.Snapshot)
	}
	if s.Blocks > vlog.MaxBlocks {
		return fault.New(fault.Invalid, "seal: got %d blocks, want at most %d", s.Blocks, vlog.MaxBlocks)
	}
	return nil
}
