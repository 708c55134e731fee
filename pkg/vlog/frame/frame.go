package frame

import (
	"encoding/binary"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
)

const (
	headerBytes = 16
	tagBytes    = 16
	// Overhead is the bytes of a frame beside its payload and padding.
	Overhead = headerBytes + tagBytes
	// MaxPayload is the most bytes that a frame holds, and that its payload has.
	MaxPayload = vlog.FrameBlocks * vlog.BlockSize
	// MaxBytes is the most bytes of a frame in an object.
	MaxBytes = MaxPayload + Overhead
)

// Tag is the 128 bits that vouch for a frame at its place.
type Tag [tagBytes]byte

// Compression is how a payload is made smaller.
type Compression uint8

// The codecs. Their numbers are stored.
const (
	None Compression = 0
	Zstd Compression = 1
)

// Header is what a frame says about itself.
type Header struct {
	Compression Compression
	Blocks      int   // 1 to vlog.FrameBlocks
	Payload     int   // bytes, as stored
	Stored      int64 // bytes of the frame, padding included
	Tag         Tag
	FirstLow    uint32 // the low half of the first block's number
}

// Parse reads a frame's header and verifies its checksum, which needs no key.
// stored is exactly the frame; what names its object and offset. It tells damage,
// not misplacement. Corrupt, or Unsupported for what a later program wrote.
func Parse(stored []byte, what string) (Header, error) {
	if len(stored) < Overhead || len(stored) > MaxBytes || len(stored)%vlog.Unit != 0 {
		return Header{}, fault.New(fault.Corrupt, "%s: frame: got %d bytes, want a multiple of %d from %d to %d", what, len(stored), vlog.Unit, Overhead, MaxBytes)
	}
	want := binary.LittleEndian.Uint32(stored[8:])
	if got := checksum(stored); got != want {
		return Header{}, fault.New(fault.Corrupt, "%s: frame: CRC32C of %d bytes: got %08x, want %08x", what, len(stored), got, want)
	}
	h := Header{
		Compression: Compression(stored[0]),
		Blocks:      int(stored[1]),
		Stored:      int64(len(stored)),
		FirstLow:    binary.LittleEndian.Uint32(stored[12:]),
	}
	payload := binary.LittleEndian.Uint32(stored[4:])
	switch {
	case stored[2] != 0:
		return Header{}, fault.New(fault.Unsupported, "%s: frame: must-understand flags %#02x: this program knows none: use a newer one", what, stored[2])
	case h.Compression > Zstd:
		return Header{}, fault.New(fault.Unsupported, "%s: frame: codec %d: this program knows 0 and 1: use a newer one", what, stored[0])
	case h.Blocks < 1 || h.Blocks > vlog.FrameBlocks:
		return Header{}, fault.New(fault.Corrupt, "%s: frame: got %d blocks, want 1 to %d", what, h.Blocks, vlog.FrameBlocks)
	case payload == 0 || size(int(min(payload, MaxPayload))) != h.Stored || payload > MaxPayload:
		return Header{}, fault.New(fault.Corrupt, "%s: frame: payload of %d bytes: want what pads to %d bytes", what, payload, h.Stored)
	case h.Compression == None && int(payload) != h.Blocks*vlog.BlockSize:
		return Header{}, fault.New(fault.Corrupt, "%s: frame: payload of %d bytes: want %d for %d blocks", what, payload, h.Blocks*vlog.BlockSize, h.Blocks)
	}
	h.Payload = int(payload)
	copy(h.Tag[:], stored[headerBytes+h.Payload:])
	return h, nil
}

// size returns the stored bytes of a frame with so many bytes of payload.
func size(payload int) int64 {
	return int64((payload + Overhead + vlog.Unit - 1) / vlog.Unit * vlog.Unit)
}

func checksum(stored []byte) uint32 {
	return wire.CRC32CMore(wire.CRC32C(stored[:8]), stored[12:])
}

// Place is where a frame is in the reign and of the kind that its Cipher is for.
type Place struct {
	Sequence vlog.Sequence // of the object
	Offset   int64         // of the frame's first byte in the object, a multiple of vlog.Unit
	First    uint64        // number of the first block (or page)
}

const bindingBytes = 80

// binding returns what a tag is bound to; head is the frame's first 8 bytes.
func (c *Cipher) binding(p Place, head []byte) (b [bindingBytes]byte) {
	copy(b[:], "hlkframe")
	binary.LittleEndian.PutUint32(b[8:], uint32(c.kind))
	binary.LittleEndian.PutUint32(b[12:], uint32(p.Offset/vlog.Unit))
	copy(b[16:], c.reign.Log[:])
	copy(b[32:], c.reign.Nonce[:])
	binary.LittleEndian.PutUint64(b[48:], uint64(c.reign.Epoch))
	binary.LittleEndian.PutUint64(b[56:], uint64(p.Sequence))
	binary.LittleEndian.PutUint64(b[64:], p.First)
	copy(b[72:], head[:8])
	return b
}

// nonce returns the GCM nonce of a place.
func (p Place) nonce() (n [12]byte) {
	binary.LittleEndian.PutUint64(n[:], uint64(p.Sequence))
	binary.LittleEndian.PutUint32(n[8:], uint32(p.Offset/vlog.Unit))
	return n
}
