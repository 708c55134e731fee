package journal

import (
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// scan reads records one after another through one buffer.
type scan struct {
	j      *Journal
	buffer []byte
	at     vlog.LSN // of what is in the buffer
	n      int64
}

// bytes returns n bytes at a position, valid until the next call. They must not
// wrap, and may not be more than the buffer has.
func (s *scan) bytes(at vlog.LSN, n int64) ([]byte, error) {
	if at < s.at || at+vlog.LSN(n) > s.at+vlog.LSN(s.n) {
		s.at, s.n = at, min(int64(len(s.buffer)), s.j.ring.toWrap(at))
		if got, err := s.j.file.ReadAt(s.buffer[:s.n], s.j.ring.offset(at)); int64(got) < s.n {
			s.n = 0
			return nil, fault.New(fault.Internal, "%s: read %d bytes, got %d: %w", s.j.what(at), s.n, got, err)
		}
	}
	i := int64(at - s.at)
	return s.buffer[i : i+n : i+n], nil
}

// next returns the record that follows c, verified, and its blocks. Corrupt if
// there is none; Unsupported if there is one that this program does not know; any
// other kind if it could not be read.
func (s *scan) next(c cursor) (header, []byte, error) {
	b, err := s.bytes(c.at, block)
	if err != nil {
		return header{}, nil, err
	}
	what := s.j.what(c.at)
	h, err := decodeHeader(b, what)
	if err != nil && !fault.Is(err, fault.Unsupported) {
		return header{}, nil, err
	}
	if h.incarnation != s.j.incarnation || h.at != c.at || h.link != c.link || err == nil {
		if other := h.follows(c, s.j.incarnation, what); other != nil {
			return header{}, nil, other
		}
	}
	if err != nil {
		return header{}, nil, err
	}
	if h.bytes > s.j.ring.toWrap(c.at) || h.bytes > s.j.ring.maxRecord() || h.typ == padRecord && h.bytes != s.j.ring.toWrap(c.at) {
		return header{}, nil, fault.New(fault.Corrupt, "%s at 56: length: got %d of type %d, want at most %d and %d up to the ring's end", what, h.bytes, h.typ, s.j.ring.maxRecord(), s.j.ring.toWrap(c.at))
	}
	if h.typ != changesRecord {
		return h, nil, nil
	}
	b, err = s.bytes(c.at, h.bytes)
	if err != nil {
		return header{}, nil, err
	}
	return h, b[block:], s.j.verify(&h, b[block:])
}

// verify compares a record's blocks with their checksums.
func (j *Journal) verify(h *header, data []byte) error {
	i := 0
	for _, c := range h.changes {
		for _, want := range c.sums {
			if got := crc(data[i : i+block]); got != want {
				return fault.New(fault.Corrupt, "%s: CRC32C of a block of the record at %d: got %08x, want %08x", j.what(h.at+vlog.LSN(block+i)), h.at, got, want)
			}
			i += block
		}
	}
	return nil
}
