// Package wire is the outer form of everything that the volume log stores, and
// bounded decoding of what is inside.
//
// A box holds one structure:
//
//	offset size
//	 0     8    magic: says what it is, never changes
//	 8     2    version
//	10     2    must-understand flags: an unknown one makes the box Unsupported
//	12     2    may-ignore flags: an unknown one announces bytes in reserved places, or
//	            more of them, that this reader passes over
//	14     2    zero
//	16     4    n, the length of the body
//	20     n    body: its format's own
//	20+n   4    CRC32C (Castagnoli) of everything before
//
// All integers are little-endian. This outer form is the same for all versions
// of all formats, so that damage is told from news: the checksum is verified
// before the version and the flags are believed.
package wire

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Overhead is the bytes of a box without its body.
const Overhead = 24

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// CRC32C returns the checksum of b.
func CRC32C(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// CRC32CMore returns the checksum of what crc is the checksum of, and b.
func CRC32CMore(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

// Format is what a kind of box is: its magic of 8 bytes, the only version that
// this program writes and the newest that it reads, the must-understand flags
// that it knows, and the most bytes that a body may have.
type Format struct {
	Magic    string
	Version  uint16
	Must     uint16
	MaxBytes int
}

// Append appends a box around body with no flags set.
func (f Format) Append(b, body []byte) []byte { return f.AppendFlags(b, body, 0, 0) }

// AppendFlags appends a box around body.
func (f Format) AppendFlags(b, body []byte, must, may uint16) []byte {
	start := len(b)
	b = append(b, f.Magic...)
	b = binary.LittleEndian.AppendUint16(b, f.Version)
	b = binary.LittleEndian.AppendUint16(b, must)
	b = binary.LittleEndian.AppendUint16(b, may)
	b = append(b, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(body)))
	b = append(b, body...)
	return binary.LittleEndian.AppendUint32(b, CRC32C(b[start:]))
}

// Box is an opened box.
type Box struct {
	Body []byte // aliases what was opened
	Must uint16
	Size int // of the box, with its overhead
	// More says that the body may end with fields that this reader does not know.
	More bool
}

// Open opens the box at the beginning of b, which may go on behind it. what
// names the object and offset where the box is, for errors. Corrupt;
// Unsupported if the box is whole but of a later version or with an unknown
// must-understand flag.
func (f Format) Open(b []byte, what string) (Box, error) {
	if len(b) < Overhead {
		return Box{}, fault.New(fault.Corrupt, "%s: got %d bytes, want at least %d", what, len(b), Overhead)
	}
	if string(b[:8]) != f.Magic {
		return Box{}, fault.New(fault.Corrupt, "%s at 0: magic: got %q, want %q", what, b[:8], f.Magic)
	}
	n := int64(binary.LittleEndian.Uint32(b[16:]))
	if n > int64(min(f.MaxBytes, len(b)-Overhead)) {
		return Box{}, fault.New(fault.Corrupt, "%s at 16: length: got %d bytes, want at most %d", what, n, min(f.MaxBytes, len(b)-Overhead))
	}
	end := 20 + int(n)
	if got, want := CRC32C(b[:end]), binary.LittleEndian.Uint32(b[end:]); got != want {
		return Box{}, fault.New(fault.Corrupt, "%s at 0: CRC32C of %d bytes: got %08x, want %08x", what, end, got, want)
	}
	version, must, may := binary.LittleEndian.Uint16(b[8:]), binary.LittleEndian.Uint16(b[10:]), binary.LittleEndian.Uint16(b[12:])
	switch {
	case version == 0 || b[14] != 0 || b[15] != 0:
		return Box{}, fault.New(fault.Corrupt, "%s at 8: version %d and reserved %d %d: want a version from 1 and zeros", what, version, b[14], b[15])
	case version > f.Version:
		return Box{}, fault.New(fault.Unsupported, "%s: format version %d: this program reads up to %d: use a newer one", what, version, f.Version)
	case must&^f.Must != 0:
		return Box{}, fault.New(fault.Unsupported, "%s: must-understand flags %#04x: this program knows %#04x: use a newer one", what, must, f.Must)
	}
	return Box{Body: b[20:end:end], Must: must, Size: end + 4, More: may != 0}, nil
}
