package frame

import (
	"encoding/binary"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Sealer seals the frames of one object, front to back. It belongs to one
// goroutine.
type Sealer struct {
	cipher   *Cipher
	sequence vlog.Sequence
	next     int64 // the least offset at which a frame may still begin
}

// Object begins an object. Each sequence can be begun once, in ascending order,
// so that no nonce is ever used twice; Internal otherwise: the reign must end,
// since the object can be formed no more.
func (c *Cipher) Object(s vlog.Sequence) (*Sealer, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s <= c.last || s > vlog.MaxSequence {
		return nil, fault.New(fault.Internal, "seal %s %d of epoch %d: want a sequence above %d, each once", c.kind, s, c.reign.Epoch, c.last)
	}
	c.last = s
	return &Sealer{cipher: c, sequence: s, next: vlog.Unit}, nil
}

// Cipher returns what the sealer seals with.
func (s *Sealer) Cipher() *Cipher { return s.cipher }

// Sequence returns the object's sequence.
func (s *Sealer) Sequence() vlog.Sequence { return s.sequence }

// Append seals payload, 1 to vlog.FrameBlocks whole blocks beginning with number
// first, and appends the frame to object, which holds the object from its start
// and ends at a multiple of vlog.Unit. It returns object and the frame's tag.
// OutOfRange if the frame would begin beyond what a pointer can name; Internal if
// it would begin where one was already sealed.
func (s *Sealer) Append(object []byte, first uint64, payload []byte, with Compression) ([]byte, Tag, error) {
	p := Place{Sequence: s.sequence, Offset: int64(len(object)), First: first}
	blocks := len(payload) / vlog.BlockSize
	switch {
	case blocks < 1 || blocks > vlog.FrameBlocks || len(payload)%vlog.BlockSize != 0:
		return object, Tag{}, fault.New(fault.Internal, "frame of %d bytes: want 1 to %d blocks of %d", len(payload), vlog.FrameBlocks, vlog.BlockSize)
	case p.Offset < s.next || p.Offset%vlog.Unit != 0:
		return object, Tag{}, fault.New(fault.Internal, "frame at %d: want a multiple of %d from %d on", p.Offset, vlog.Unit, s.next)
	case p.Offset > vlog.MaxFrameOffset:
		return object, Tag{}, fault.New(fault.OutOfRange, "frame at %d: want at most %d", p.Offset, vlog.MaxFrameOffset)
	}
	s.next = p.Offset + 1
	object, tag := s.cipher.seal(object, p, payload, with)
	return object, tag, nil
}

func (c *Cipher) seal(object []byte, p Place, payload []byte, with Compression) ([]byte, Tag) {
	blocks := len(payload) / vlog.BlockSize
	if with == Zstd {
		scratch := c.codec.scratch.Get().(*[]byte)
		defer c.codec.scratch.Put(scratch)
		payload, with = c.codec.compress(*scratch, payload)
	}
	start := len(object)
	object = append(object, byte(with), byte(blocks), 0, 0)
	object = binary.LittleEndian.AppendUint32(object, uint32(len(payload)))
	object = append(object, 0, 0, 0, 0)
	object = binary.LittleEndian.AppendUint32(object, uint32(p.First))
	binding := c.binding(p, object[start:])
	var tag Tag
	if c.aead != nil {
		nonce := p.nonce()
		object = c.aead.Seal(object, nonce[:], payload, binding[:])
		copy(tag[:], object[len(object)-tagBytes:])
	} else {
		tag = c.codec.digest(payload, binding)
		object = append(append(object, payload...), tag[:]...)
	}
	for (len(object)-start)%vlog.Unit != 0 {
		object = append(object, 0)
	}
	binary.LittleEndian.PutUint32(object[start+8:], checksum(object[start:]))
	return object, tag
}

// Open verifies a frame and appends its blocks to dst. stored is exactly the
// frame, as read from p; what names its object, for errors. Nothing of the blocks
// is appended unless everything is right. Corrupt names offset, want and got; a
// wrong key is Corrupt too, since a frame does not name its key.
func (c *Cipher) Open(dst, stored []byte, p Place, what string) ([]byte, error) {
	h, err := Parse(stored, what)
	if err != nil {
		return dst, fault.Wrap(err, "", place(p))
	}
	if h.FirstLow != uint32(p.First) {
		return dst, fault.New(fault.Corrupt, "%s: %s: frame: got one of block %d (low 32 bits), want of block %d", what, place(p), h.FirstLow, p.First)
	}
	payload := stored[headerBytes : headerBytes+h.Payload]
	binding := c.binding(p, stored)
	if c.aead != nil {
		scratch := c.codec.scratch.Get().(*[]byte)
		defer c.codec.scratch.Put(scratch)
		nonce := p.nonce()
		payload, err = c.aead.Open((*scratch)[:0], nonce[:], stored[headerBytes:headerBytes+h.Payload+tagBytes], binding[:])
		if err != nil {
			return dst, fault.New(fault.Corrupt, "%s: %s: frame: tag %x: want that of epoch %d of %s with data key %s", what, place(p), h.Tag, c.reign.Epoch, c.reign.Log, c.keyID)
		}
	} else if got := c.codec.digest(payload, binding); got != h.Tag {
		return dst, fault.New(fault.Corrupt, "%s: %s: frame: tag: got %x, want %x, that of epoch %d of %s unencrypted", what, place(p), h.Tag, got, c.reign.Epoch, c.reign.Log)
	}
	if h.Compression == None {
		return append(dst, payload...), nil
	}
	if need := h.Blocks * vlog.BlockSize; cap(dst)-len(dst) < need {
		dst = append(make([]byte, 0, len(dst)+need), dst...)
	}
	out, err := c.codec.decompress(dst, payload, h.Blocks)
	if err != nil {
		return dst, fault.Wrap(err, "", what+" "+place(p))
	}
	return out, nil
}
