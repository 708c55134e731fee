package segment

import (
	"encoding/binary"

	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/volume"
)

// EntryKind is what an entry of the index does.
type EntryKind uint8

// The kinds. Their numbers are stored.
const (
	Data      EntryKind = 0 // the blocks are here
	Move      EntryKind = 1 // those that still are where they were are here
	Zeros     EntryKind = 2 // the blocks were written as zeros
	Discarded EntryKind = 3 // the blocks were discarded: zeros as well
)

// Entry is an entry of the index.
type Entry struct {
	Kind  EntryKind
	First vlog.Block
	Count uint64 // of blocks; at most vlog.FrameBlocks if there is a frame

	// Of data and moves: the frame's place in this object, in bytes.
	Offset, Stored int64
	// Of moves: where the blocks were, in order; the runs' counts add up to Count.
	From []Old
}

// End returns the block after the entry's last.
func (e Entry) End() vlog.Block { return e.First + vlog.Block(e.Count) }

// Pointer returns where block First+i is, in the object with this number.
func (e Entry) Pointer(object uint32, i int) vlog.Pointer {
	return vlog.NewPointer(object, e.Offset, e.Stored, i)
}

// Source is a segment that moved blocks were in.
type Source struct {
	Log      vlog.LogID
	Epoch    vlog.Epoch
	Sequence vlog.Sequence
}

// Old is where a run of moved blocks was: blocks Index, Index+1, ... of one frame.
type Old struct {
	Source int   // index of Index.Sources
	Offset int64 // of the old frame
	Index  int   // of the first block in the old frame
	Count  int
}

// Seal is a snapshot whose position a segment is.
type Seal struct {
	Snapshot volume.SnapshotID
	Blocks   vlog.Block // size of the volume in the snapshot
}

// Index is what a segment does.
type Index struct {
	Sources []Source
	Entries []Entry // ascending by block, disjoint
	Seals   []Seal
}

func (x Index) append(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(x.Sources)))
	for _, s := range x.Sources {
		b = append(b, s.Log[:]...)
		b = binary.AppendUvarint(b, uint64(s.Epoch))
		b = binary.AppendUvarint(b, uint64(s.Sequence))
	}
	b = binary.AppendUvarint(b, uint64(len(x.Entries)))
	var end vlog.Block
	for _, e := range x.Entries {
		b = e.append(b, end)
		end = e.End()
	}
	b = binary.AppendUvarint(b, uint64(len(x.Seals)))
	for _, s := range x.Seals {
		b = append(b, s.Snapshot...)
		b = binary.AppendUvarint(b, uint64(s.Blocks))
	}
	return b
}

func (e Entry) append(b []byte, end vlog.Block) []byte {
	tag := byte(e.Kind)
	if e.Kind <= Move {
		tag |= byte(e.Count-1) << 4
	}
	b = append(b, tag)
	b = binary.AppendUvarint(b, uint64(e.First-end))
	if e.Kind > Move {
		return binary.AppendUvarint(b, e.Count)
	}
	b = binary.AppendUvarint(b, uint64(e.Stored/vlog.Unit))
	for _, o := range e.From {
		b = append(b, byte(o.Count-1)<<4|byte(o.Index))
		b = binary.AppendUvarint(b, uint64(o.Source))
		b = binary.AppendUvarint(b, uint64(o.Offset/vlog.Unit))
	}
	return b
}

// decodeIndex decodes the index of a volume of so many blocks whose frames end
// at framesEnd.
func decodeIndex(b []byte, blocks vlog.Block, framesEnd int64, what string) (Index, int, error) {
	d := wire.NewDecoder(wire.Box{Body: b}, what)
	var x Index
	for range d.Count("sources", MaxSources, 18) {
		var s Source
		d.Fixed(s.Log[:])
		s.Epoch = vlog.Epoch(d.Uvarint("source's epoch", 1, uint64(vlog.MaxEpoch)))
		s.Sequence = vlog.Sequence(d.Uvarint("source's sequence", 1, uint64(vlog.MaxSequence)))
		x.Sources = append(x.Sources, s)
	}
	entries := d.Count("entries", MaxEntries, 3)
	if entries > 0 {
		x.Entries = make([]Entry, entries)
	}
	frames, end, offset := 0, vlog.Block(0), int64(headBytes)
	for i := range x.Entries {
		e := decodeEntry(d, end, blocks, len(x.Sources))
		if e.Kind <= Move {
			e.Offset = offset
			offset += e.Stored
			frames++
		}
		if d.Err() == nil && offset > framesEnd {
			d.Fail("entry %d: frame of %d bytes at %d: want the frames to end at %d", i, e.Stored, e.Offset, framesEnd)
		}
		if d.Err() != nil {
			return Index{}, 0, d.Err()
		}
		x.Entries[i], end = e, e.End()
	}
	for i := range d.Count("seals", MaxSeals, 29) {
		id, err := volume.ParseSnapshotID(string(d.Bytes(28)))
		if err != nil && d.Err() == nil {
			d.Fail("seal %d: %w", i, err)
		}
		x.Seals = append(x.Seals, Seal{id, vlog.Block(d.Uvarint("snapshot's blocks", 0, uint64(blocks)))})
	}
	if offset != framesEnd {
		d.Fail("frames end at %d, want %d", offset, framesEnd)
	}
	if err := d.End(); err != nil {
		return Index{}, 0, err
	}
	return x, frames, nil
}

func decodeEntry(d *wire.Decoder, end, blocks vlog.Block, sources int) Entry {
	tag := d.U8()
	e := Entry{Kind: EntryKind(tag & 3), Count: uint64(tag>>4) + 1}
	if tag&0x0c != 0 || e.Kind > Move && tag>>4 != 0 {
		d.Fail("entry tag %#02x: want a kind of 0 to 3, and blocks for a frame only", tag)
	}
	e.First = end + vlog.Block(d.Uvarint("gap", 0, uint64(blocks-end)))
	if e.Kind > Move {
		e.Count = d.Uvarint("count", 1, uint64(max(blocks-e.First, 1)))
	} else {
		const most = int64(1<<13 - 1)
		e.Stored = int64(d.Uvarint("stored length / 16", 3, uint64(most))) * vlog.Unit
	}
	if d.Err() == nil && e.End() > blocks {
		d.Fail("entry of blocks %d to %d: want them within the volume's %d", e.First, e.End(), blocks)
	}
	if e.Kind != Move || d.Err() != nil {
		return e
	}
	for left := int(e.Count); left > 0 && d.Err() == nil; {
		run := d.U8()
		o := Old{Index: int(run & 15), Count: int(run>>4) + 1}
		o.Source = int(d.Uvarint("source", 0, uint64(max(sources-1, 0))))
		o.Offset = int64(d.Uvarint("old offset / 16", 1, vlog.MaxFrameOffset/vlog.Unit)) * vlog.Unit
		if sources == 0 || o.Count > left || o.Index+o.Count > vlog.FrameBlocks {
			d.Fail("move of %d blocks from block %d of a frame of one of %d sources: want at most %d within one frame", o.Count, o.Index, sources, left)
		}
		e.From = append(e.From, o)
		left -= o.Count
	}
	return e
}
