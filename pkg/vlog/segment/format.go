package segment

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
)

const (
	headBytes    = 80
	footBody     = 284
	footBytes    = footBody + wire.Overhead
	trailerBytes = 8
	trailerMagic = "hlke"
	reserved     = 44 // bytes of the foot's body before its MAC
	macBytes     = 32

	// MinBytes is the size of the smallest segment. What is smaller in a slot is
	// no segment.
	MinBytes = headBytes + 3 + footBytes + trailerBytes
	// MaxEntries bounds the entries of a segment.
	MaxEntries = 1 << 16
	// MaxSources bounds the objects that a segment's moves come from.
	MaxSources = 1 << 12
	// MaxSeals bounds the snapshots that one segment seals.
	MaxSeals = 1 << 8
	// maxIndex is what entries, sources and seals at their bounds can take, and
	// moves of 16 runs each.
	maxIndex = 16 << 20
	// MaxBytes bounds an object: frames as far as pointers reach, and the index.
	MaxBytes = vlog.MaxFrameOffset + frame.MaxBytes + maxIndex + footBytes + trailerBytes
)

var (
	headFormat = wire.Format{Magic: "hlksegm\n", Version: 1, MaxBytes: headBytes}
	footFormat = wire.Format{Magic: "hlksegf\n", Version: 1, MaxBytes: 4096}
)

// Identity says which segment one is.
type Identity struct {
	frame.Reign
	Sequence vlog.Sequence
}

// Position returns the segment's slot.
func (id Identity) Position() vlog.Position {
	return vlog.Position{Epoch: id.Epoch, Sequence: id.Sequence}
}

// Key returns the segment's key.
func (id Identity) Key() string { return vlog.Keys{Log: id.Log}.Segment(id.Position()) }

// Info is what a segment says about itself beside its index.
type Info struct {
	Identity
	KeyID    frame.KeyID
	Journal  vlog.JournalRange // empty if the segment only moves or seals
	Blocks   vlog.Block        // size of the volume behind this segment
	Previous vlog.Chain        // behind the segment before, or at the epoch's begin
}

func (id Identity) append(b []byte) []byte {
	b = append(b, id.Log[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(id.Epoch))
	b = append(b, id.Nonce[:]...)
	return binary.LittleEndian.AppendUint64(b, uint64(id.Sequence))
}

func (id Identity) head() []byte {
	return headFormat.Append(nil, append(id.append(nil), make([]byte, 8)...))
}

func decodeIdentity(d *wire.Decoder) (id Identity) {
	d.Fixed(id.Log[:])
	id.Epoch = vlog.Epoch(d.U64())
	d.Fixed(id.Nonce[:])
	id.Sequence = vlog.Sequence(d.U64())
	if !id.Position().Valid() || id.Sequence == 0 {
		d.Fail("epoch %d, sequence %d: want 1 to %d, 1 to %d", id.Epoch, id.Sequence, vlog.MaxEpoch, vlog.MaxSequence)
	}
	return id
}

// HeadBytes is how much of a segment ReadHead wants.
const HeadBytes = headBytes

// ReadHead reads which segment an object is from its first HeadBytes bytes. what
// names the object. Corrupt; Unsupported.
func ReadHead(b []byte, what string) (Identity, error) {
	box, err := headFormat.Open(b, what)
	if err != nil {
		return Identity{}, err
	}
	d := wire.NewDecoder(box, what)
	id := decodeIdentity(d)
	d.Zeros(8)
	return id, d.End()
}

// foot is the foot, decoded.
type foot struct {
	Info
	indexAt, indexBytes, frames, indexCRC uint32
	tags, index                           [32]byte
	mac                                   [32]byte
	digest                                vlog.Digest
}

// append appends the foot and the trailer, and sets the digest and the MAC.
func (f *foot) append(b []byte, c *frame.Cipher) []byte {
	body := f.Identity.append(make([]byte, 0, footBody))
	body = append(body, f.KeyID[:]...)
	for _, v := range []uint64{uint64(f.Journal.Incarnation), uint64(f.Journal.First), uint64(f.Journal.End), uint64(f.Blocks)} {
		body = binary.LittleEndian.AppendUint64(body, v)
	}
	for _, v := range []uint32{f.indexAt, f.indexBytes, f.frames, f.indexCRC} {
		body = binary.LittleEndian.AppendUint32(body, v)
	}
	body = append(body, f.Previous[:]...)
	body = append(body, f.tags[:]...)
	body = append(body, f.index[:]...)
	body = append(body, make([]byte, reserved+macBytes)...)
	f.digest = digestOf(footFormat.Append(nil, body))
	f.mac = c.MAC(f.digest)
	copy(body[footBody-macBytes:], f.mac[:])
	b = footFormat.Append(b, body)
	b = binary.LittleEndian.AppendUint32(b, footBytes)
	return append(b, trailerMagic...)
}

// digestOf returns the digest of the segment with this foot.
func digestOf(box []byte) vlog.Digest { return sha256.Sum256(box[:len(box)-4-macBytes]) }

// readFoot decodes the foot at the end of tail, which ends where the object of
// size bytes ends.
func readFoot(tail []byte, size int64, what string) (f foot, err error) {
	if len(tail) < footBytes+trailerBytes || int64(len(tail)) > size {
		return f, fault.New(fault.Corrupt, "%s: got %d bytes of %d, want at least %d", what, len(tail), size, MinBytes)
	}
	trailer := tail[len(tail)-trailerBytes:]
	n := int64(binary.LittleEndian.Uint32(trailer))
	if string(trailer[4:]) != trailerMagic || n < wire.Overhead || n > int64(len(tail)-trailerBytes) {
		return f, fault.New(fault.Corrupt, "%s at %d: trailer: got %x, want the length of the foot and %q", what, size-trailerBytes, trailer, trailerMagic)
	}
	end := size - trailerBytes
	where := what + " foot"
	b := tail[int64(len(tail))-trailerBytes-n : len(tail)-trailerBytes]
	box, err := footFormat.Open(b, where)
	if err != nil {
		return f, err
	}
	d := wire.NewDecoder(box, where)
	f.Identity = decodeIdentity(d)
	d.Fixed(f.KeyID[:])
	f.Journal.Incarnation = vlog.Incarnation(d.U64())
	f.Journal.First, f.Journal.End = vlog.LSN(d.U64()), vlog.LSN(d.U64())
	f.Blocks = vlog.Block(d.U64())
	f.indexAt, f.indexBytes, f.frames, f.indexCRC = d.U32(), d.U32(), d.U32(), d.U32()
	d.Fixed(f.Previous[:])
	d.Fixed(f.tags[:])
	d.Fixed(f.index[:])
	d.ZerosUpTo(reserved, macBytes)
	d.Fixed(f.mac[:])
	switch {
	case int64(box.Size) != n:
		d.Fail("got a foot of %d bytes, want the %d that the trailer says", box.Size, n)
	case f.Journal.First > f.Journal.End || f.Journal.Incarnation == 0 && f.Journal.End != 0:
		d.Fail("journal %d: positions %d to %d: want an ascending range of a journal", f.Journal.Incarnation, f.Journal.First, f.Journal.End)
	case f.Blocks > vlog.MaxBlocks:
		d.Fail("volume of %d blocks: want at most %d", f.Blocks, vlog.MaxBlocks)
	case f.indexAt < headBytes || f.indexBytes > maxIndex || int64(f.indexAt)+int64(f.indexBytes)+n != end:
		d.Fail("index of %d bytes at %d: want it from %d on and up to the foot at %d", f.indexBytes, f.indexAt, headBytes, end-n)
	case f.frames > MaxEntries:
		d.Fail("%d frames: want at most %d", f.frames, MaxEntries)
	}
	if err := d.End(); err != nil {
		return f, err
	}
	f.digest = digestOf(b)
	return f, nil
}
