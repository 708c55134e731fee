package wire

import (
	"encoding/binary"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Decoder reads the fields of a body one after another. The first fault sticks:
// everything read after it is zero, and Err names it. It never allocates more
// than the body has bytes.
type Decoder struct {
	what string
	b    []byte
	at   int
	more bool
	err  error
}

// NewDecoder returns a decoder of a box's body; what names it for errors.
func NewDecoder(box Box, what string) *Decoder {
	return &Decoder{what: what, b: box.Body, more: box.More}
}

// Fail records a fault at the field before, if there is none yet.
func (d *Decoder) Fail(format string, args ...any) {
	if d.err == nil {
		cause := fault.New(fault.Corrupt, format, args...)
		d.err = fault.New(fault.Corrupt, "%s at %d: %w", d.what, d.at, cause)
	}
}

// Err returns the first fault.
func (d *Decoder) Err() error { return d.err }

// End reports the first fault, bytes that nothing has read included, unless the
// box announced them.
func (d *Decoder) End() error {
	if d.at < len(d.b) && !d.more {
		d.Fail("got %d more bytes, want the end", len(d.b)-d.at)
	}
	return d.err
}

// Left returns how many bytes are not yet read.
func (d *Decoder) Left() int {
	if d.err != nil {
		return 0
	}
	return len(d.b) - d.at
}

// Bytes returns the next n bytes, aliasing the body, or nil.
func (d *Decoder) Bytes(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b)-d.at {
		d.Fail("want %d more bytes, got %d", n, len(d.b)-d.at)
		return nil
	}
	d.at += n
	return d.b[d.at-n : d.at : d.at]
}

// Fixed fills to with the next bytes.
func (d *Decoder) Fixed(to []byte) { copy(to, d.Bytes(len(to))) }

// Zeros passes over n bytes that a format keeps for later: zeros, unless the box
// announces what this reader does not know.
func (d *Decoder) Zeros(n int) {
	for _, v := range d.Bytes(n) {
		if v != 0 && !d.more {
			d.Fail("reserved: got %#x, want 0", v)
		}
	}
}

// ZerosUpTo passes over n bytes as Zeros does, behind which there are last more;
// where the box announces what this reader does not know, over as many as there
// are.
func (d *Decoder) ZerosUpTo(n, last int) {
	if d.more {
		n = d.Left() - last
	}
	d.Zeros(n)
}

// U8 reads a byte.
func (d *Decoder) U8() uint8 {
	if b := d.Bytes(1); b != nil {
		return b[0]
	}
	return 0
}

// U32 reads a 32-bit integer.
func (d *Decoder) U32() uint32 {
	if b := d.Bytes(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// U64 reads a 64-bit integer.
func (d *Decoder) U64() uint64 {
	if b := d.Bytes(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Uvarint reads a varint of at least low and at most high, in its shortest form;
// name says what it is, for errors. On a fault it returns low.
func (d *Decoder) Uvarint(name string, low, high uint64) uint64 {
	if d.err != nil {
		return low
	}
	v, n := binary.Uvarint(d.b[d.at:])
	switch {
	case n <= 0 || n > 1 && d.b[d.at+n-1] == 0:
		d.Fail("%s: want a varint in its shortest form", name)
		return low
	case v < low || v > high:
		d.Fail("%s: got %d, want %d to %d", name, v, low, high)
		return low
	}
	d.at += n
	return v
}

// Count reads how many things follow: at most max, each of at least size bytes,
// so that what is allocated for them is bounded by what is there.
func (d *Decoder) Count(name string, max, size int) int {
	n := int(d.Uvarint(name, 0, uint64(max)))
	if d.err == nil && n > d.Left()/size {
		d.Fail("%s: got %d, want at most the %d that %d bytes can hold", name, n, d.Left()/size, d.Left())
		return 0
	}
	if d.err != nil {
		return 0
	}
	return n
}

// String reads a string of at most max bytes behind its length.
func (d *Decoder) String(name string, max int) string {
	return string(d.Bytes(d.Count(name+" length", max, 1)))
}

// AppendString appends a string as String reads it.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}
