package segment

import (
	"crypto/sha256"
	"hash"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
)

// Writer forms one segment, entry by entry in ascending order of block, in a
// buffer that becomes the object. Beside the buffer its memory is the index. It
// belongs to one goroutine. After an error the segment cannot be finished, nor
// formed again under the same sequence: see package frame.
type Writer struct {
	info    Info
	sealer  *frame.Sealer
	object  []byte
	index   Index
	end     vlog.Block
	frames  uint32
	tags    hash.Hash
	sources map[Source]int
}

// Finished is a segment that is ready to be stored.
type Finished struct {
	Info
	Object []byte
	Index  Index
	Digest vlog.Digest
	Chain  vlog.Chain // behind this segment
}

// NewWriter begins a segment in buffer, whose content it drops and whose capacity
// it uses. Of info, Reign and KeyID are taken from the cipher. Internal if the
// sequence was begun before.
func NewWriter(c *frame.Cipher, info Info, buffer []byte) (*Writer, error) {
	info.Reign, info.KeyID = c.Reign(), c.KeyID()
	if c.Kind() != vlog.SegmentKind || !info.Position().Valid() || info.Sequence == 0 || info.Blocks > vlog.MaxBlocks || info.Journal.First > info.Journal.End {
		return nil, fault.New(fault.Internal, "segment %s of %s, %d blocks, journal %+v: want a slot, a size and a range", info.Position(), c.Kind(), info.Blocks, info.Journal)
	}
	s, err := c.Object(info.Sequence)
	if err != nil {
		return nil, err
	}
	return &Writer{
		info: info, sealer: s, object: append(buffer[:0], info.head()...), tags: sha256.New(), sources: map[Source]int{},
	}, nil
}

// Bytes returns how long the frames are so far, the head included.
func (w *Writer) Bytes() int { return len(w.object) }

// Full reports whether one more frame might not fit.
func (w *Writer) Full() bool {
	return len(w.object) > vlog.MaxFrameOffset-frame.MaxBytes || len(w.index.Entries) >= MaxEntries || len(w.index.Sources) > MaxSources-vlog.FrameBlocks
}

// Data adds whole blocks, 1 to vlog.FrameBlocks of them, from first on.
func (w *Writer) Data(first vlog.Block, payload []byte, with frame.Compression) error {
	return w.frame(Entry{Kind: Data, First: first}, payload, with)
}

// Moved is where a run of moved blocks is now.
type Moved struct {
	Source
	Offset int64 // of the frame
	Index  int   // of the first block in the frame
	Count  int
}

// Move adds blocks that collection moves here, if they are still where from says.
func (w *Writer) Move(first vlog.Block, payload []byte, from []Moved, with frame.Compression) error {
	e := Entry{Kind: Move, First: first}
	blocks := 0
	for _, m := range from {
		if m.Count < 1 || m.Index < 0 || m.Index+m.Count > vlog.FrameBlocks || m.Offset < vlog.Unit || m.Offset > vlog.MaxFrameOffset || m.Offset%vlog.Unit != 0 {
			return fault.New(fault.Internal, "move of %d blocks from block %d of the frame at %d: want a run within a frame", m.Count, m.Index, m.Offset)
		}
		e.From = append(e.From, Old{Source: w.source(m.Source), Offset: m.Offset, Index: m.Index, Count: m.Count})
		blocks += m.Count
	}
	if blocks*vlog.BlockSize != len(payload) {
		return fault.New(fault.Internal, "move of %d blocks with %d bytes: want %d", blocks, len(payload), blocks*vlog.BlockSize)
	}
	return w.frame(e, payload, with)
}

func (w *Writer) source(s Source) int {
	i, ok := w.sources[s]
	if !ok {
		i = len(w.index.Sources)
		w.sources[s] = i
		w.index.Sources = append(w.index.Sources, s)
	}
	return i
}

func (w *Writer) frame(e Entry, payload []byte, with frame.Compression) error {
	e.Count = uint64(len(payload) / vlog.BlockSize)
	if err := w.admit(e); err != nil {
		return err
	}
	e.Offset = int64(len(w.object))
	object, tag, err := w.sealer.Append(w.object, uint64(e.First), payload, with)
	if err != nil {
		return fault.Wrap(err, "segment", w.info.Key())
	}
	w.object = object
	e.Stored = int64(len(object)) - e.Offset
	_, _ = w.tags.Write(tag[:])
	w.frames++
	w.add(e)
	return nil
}

// Zero adds a range of zeros: written as such, or discarded.
func (w *Writer) Zero(kind EntryKind, first vlog.Block, count uint64) error {
	e := Entry{Kind: kind, First: first, Count: count}
	if kind != Zeros && kind != Discarded {
		return fault.New(fault.Internal, "range of kind %d: want zeros or discarded", kind)
	}
	if err := w.admit(e); err != nil {
		return err
	}
	w.add(e)
	return nil
}

func (w *Writer) admit(e Entry) error {
	if e.Count < 1 || e.First < w.end || e.First > w.info.Blocks || e.Count > uint64(w.info.Blocks-e.First) || len(w.index.Entries) >= MaxEntries || len(w.index.Sources) > MaxSources {
		return fault.New(fault.Internal, "segment %s: entry %d of %d blocks from %d: want them from %d on within %d, in at most %d entries", w.info.Key(), len(w.index.Entries), e.Count, e.First, w.end, w.info.Blocks, MaxEntries)
	}
	return nil
}

func (w *Writer) add(e Entry) {
	w.index.Entries = append(w.index.Entries, e)
	w.end = e.End()
}

// Seal makes the segment's position a snapshot's. Entries may still be added:
// whatever the order of calls, a seal is behind all of the segment.
func (w *Writer) Seal(s Seal) error {
	if len(w.index.Seals) >= MaxSeals || len(s.Snapshot) != 28 || s.Blocks > w.info.Blocks {
		return fault.New(fault.Internal, "segment %s: seal %d of %q, %d blocks: want at most %d seals of at most %d blocks", w.info.Key(), len(w.index.Seals), s.Snapshot, s.Blocks, MaxSeals, w.info.Blocks)
	}
	w.index.Seals = append(w.index.Seals, s)
	return nil
}

// Finish returns the object. The writer is done.
func (w *Writer) Finish() Finished {
	f := foot{Info: w.info, frames: w.frames, indexAt: uint32(len(w.object))}
	w.object = w.index.append(w.object)
	index := w.object[f.indexAt:]
	f.indexBytes, f.indexCRC, f.index = uint32(len(index)), wire.CRC32C(index), sha256.Sum256(index)
	w.tags.Sum(f.tags[:0])
	w.object = f.append(w.object, w.sealer.Cipher())
	return Finished{Info: w.info, Object: w.object, Index: w.index, Digest: f.digest, Chain: w.info.Previous.Next(f.digest)}
}
