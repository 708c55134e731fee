package page

import (
	"crypto/sha256"
	"encoding/binary"
	"hash"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

const (
	headBytes    = 80
	footBody     = 200
	footBytes    = footBody + wire.Overhead
	reserved     = 24 // bytes of the foot's body before its MAC
	macBytes     = 32
	trailerBytes = 8
	trailerMagic = "hlke"
	maxFrames    = 1 << 16
	maxIndex     = maxFrames * 14
	// MaxBytes bounds an object.
	MaxBytes = vlog.MaxFrameOffset + frame.MaxBytes + maxIndex + footBytes + trailerBytes
)

var (
	headFormat = wire.Format{Magic: "hlktabl\n", Version: 1, MaxBytes: headBytes}
	footFormat = wire.Format{Magic: "hlktabf\n", Version: 1, MaxBytes: 4096}
)

// Writer packs pages, in ascending order, into one object. It belongs to one
// goroutine.
type Writer struct {
	id     identity
	sealer *frame.Sealer
	with   frame.Compression
	object []byte
	first  table.Page // of the frame that is gathered
	end    table.Page // the page after the last
	plain  []byte     // its pages so far, transposed
	index  []byte
	tags   hash.Hash
	frames uint32
	last   table.Page // the page after the last frame
	placed []Placed
}

// Placed is where a page is in its object.
type Placed struct {
	Page           table.Page
	Offset, Stored int64
	Index          int
}

// Pointer returns the pointer to the page, in the object with this number.
func (p Placed) Pointer(object uint32) vlog.Pointer {
	return vlog.NewPointer(object, p.Offset, p.Stored, p.Index)
}

// Finished is an object that is ready to be stored.
type Finished struct {
	Key    string
	Object []byte
	Digest vlog.Digest
	Placed []Placed
}

// NewWriter begins an object in buffer, whose content it drops and whose capacity
// it uses. Internal if the sequence was begun before.
func NewWriter(c *frame.Cipher, s vlog.Sequence, with frame.Compression, buffer []byte) (*Writer, error) {
	if c.Kind() != vlog.TableKind {
		return nil, fault.New(fault.Internal, "table object with a cipher for %s", c.Kind())
	}
	sealer, err := c.Object(s)
	if err != nil {
		return nil, err
	}
	w := &Writer{id: identity{c.Reign(), s}, sealer: sealer, with: with, tags: sha256.New()}
	w.object = append(buffer[:0], w.id.head()...)
	return w, nil
}

// Full reports whether one more page might not fit.
func (w *Writer) Full() bool {
	return len(w.object) > vlog.MaxFrameOffset-2*frame.MaxBytes || w.frames >= maxFrames-2
}

// Bytes returns how long the object is so far, about.
func (w *Writer) Bytes() int { return len(w.object) + len(w.plain) }

// Add adds a page. words is not kept.
func (w *Writer) Add(p table.Page, words *table.Words) error {
	if p < w.end || w.Full() {
		return fault.New(fault.Internal, "%s: page %d: want one from %d on, and room: full %v", w.id.key(), p, w.end, w.Full())
	}
	if p != w.end || len(w.plain) == frame.MaxPayload {
		if err := w.flush(); err != nil {
			return err
		}
		w.first = p
	}
	w.plain = transpose(w.plain, words)
	w.end = p + 1
	return nil
}

func (w *Writer) flush() error {
	if len(w.plain) == 0 {
		return nil
	}
	at := int64(len(w.object))
	object, tag, err := w.sealer.Append(w.object, uint64(w.first), w.plain, w.with)
	if err != nil {
		return fault.Wrap(err, "table", w.id.key())
	}
	w.object = object
	stored, pages := int64(len(object))-at, len(w.plain)/table.LeafBytes
	_, _ = w.tags.Write(tag[:])
	w.index = binary.AppendUvarint(w.index, uint64(w.first-w.last))
	w.index = binary.AppendUvarint(w.index, uint64(pages-1))
	w.index = binary.AppendUvarint(w.index, uint64(stored/vlog.Unit))
	for i := range pages {
		w.placed = append(w.placed, Placed{w.first + table.Page(i), at, stored, i})
	}
	w.frames++
	w.last, w.plain = w.first+table.Page(pages), w.plain[:0]
	return nil
}

// Finish returns the object. The writer is done.
func (w *Writer) Finish() (Finished, error) {
	if err := w.flush(); err != nil {
		return Finished{}, err
	}
	index := append(binary.AppendUvarint(nil, uint64(w.frames)), w.index...)
	c := w.sealer.Cipher()
	id := c.KeyID()
	body := append(w.id.append(make([]byte, 0, footBody)), id[:]...)
	for _, v := range []uint32{uint32(len(w.object)), uint32(len(index)), w.frames, wire.CRC32C(index)} {
		body = binary.LittleEndian.AppendUint32(body, v)
	}
	body = w.tags.Sum(body)
	hash := sha256.Sum256(index)
	body = append(body, hash[:]...)
	body = append(body, make([]byte, reserved+macBytes)...)
	digest := digestOf(footFormat.Append(nil, body))
	mac := c.MAC(digest)
	copy(body[footBody-macBytes:], mac[:])
	object := footFormat.Append(append(w.object, index...), body)
	object = binary.LittleEndian.AppendUint32(object, footBytes)
	return Finished{Key: w.id.key(), Object: append(object, trailerMagic...), Digest: digest, Placed: w.placed}, nil
}

func digestOf(box []byte) vlog.Digest { return sha256.Sum256(box[:len(box)-4-macBytes]) }
