package page

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// foot is the foot, decoded.
type foot struct {
	id                                    identity
	keyID                                 frame.KeyID
	indexAt, indexBytes, frames, indexCRC uint32
	tags, index, mac                      [32]byte
	digest                                vlog.Digest
}

// Verify checks all of an object, and returns its digest and where its pages are.
// Without a cipher the tags are taken as they stand, as segment.Verify does.
func Verify(object []byte, r frame.Reign, s vlog.Sequence, cipher *frame.Cipher) (vlog.Digest, []Placed, error) {
	id := identity{r, s}
	key := id.key()
	f, err := readFoot(object, key)
	if err != nil {
		return vlog.Digest{}, nil, err
	}
	head, err := readHead(object, key)
	if err != nil {
		return vlog.Digest{}, nil, err
	}
	if f.id != id || head != id {
		return vlog.Digest{}, nil, fault.New(fault.Corrupt, "%s: got table %d of epoch %d of %s, nonce %s: want %d of %d of %s, nonce %s, in head and foot", key, f.id.sequence, f.id.reign.Epoch, f.id.reign.Log, f.id.reign.Nonce, s, r.Epoch, r.Log, r.Nonce)
	}
	if cipher != nil {
		if err := cipher.CheckMAC(f.digest, f.mac, f.keyID, key); err != nil {
			return vlog.Digest{}, nil, err
		}
	}
	placed, err := verifyFrames(object, f, id, cipher)
	return f.digest, placed, err
}

func readHead(object []byte, key string) (id identity, err error) {
	box, err := headFormat.Open(object, key)
	if err != nil {
		return id, err
	}
	d := wire.NewDecoder(box, key)
	id = decodeIdentity(d)
	d.Zeros(8)
	return id, d.End()
}

func decodeIdentity(d *wire.Decoder) (id identity) {
	d.Fixed(id.reign.Log[:])
	id.reign.Epoch = vlog.Epoch(d.U64())
	d.Fixed(id.reign.Nonce[:])
	id.sequence = vlog.Sequence(d.U64())
	return id
}

func readFoot(object []byte, key string) (f foot, err error) {
	if len(object) < headBytes+1+footBytes+trailerBytes || len(object) > MaxBytes {
		return f, fault.New(fault.Corrupt, "%s: got an object of %d bytes, want a table of up to %d", key, len(object), MaxBytes)
	}
	trailer := object[len(object)-trailerBytes:]
	n := int64(binary.LittleEndian.Uint32(trailer))
	if string(trailer[4:]) != trailerMagic || n < wire.Overhead || n > int64(len(object)-trailerBytes-headBytes) {
		return f, fault.New(fault.Corrupt, "%s at %d: trailer: got %x, want the length of the foot and %q", key, len(object)-trailerBytes, trailer, trailerMagic)
	}
	end := len(object) - trailerBytes
	box, err := footFormat.Open(object[end-int(n):end], key+" foot")
	if err != nil {
		return f, err
	}
	d := wire.NewDecoder(box, key+" foot")
	f.id = decodeIdentity(d)
	d.Fixed(f.keyID[:])
	f.indexAt, f.indexBytes, f.frames, f.indexCRC = d.U32(), d.U32(), d.U32(), d.U32()
	d.Fixed(f.tags[:])
	d.Fixed(f.index[:])
	d.ZerosUpTo(reserved, macBytes)
	d.Fixed(f.mac[:])
	if int64(box.Size) != n || f.indexAt < headBytes || f.frames > maxFrames || int64(f.indexAt)+int64(f.indexBytes)+n != int64(end) {
		d.Fail("index of %d bytes at %d, %d frames, a foot of %d bytes: want them to end at %d", f.indexBytes, f.indexAt, f.frames, box.Size, end)
	}
	if d.Err() == nil {
		f.digest = digestOf(object[end-int(n) : end])
	}
	return f, d.End()
}

func verifyFrames(object []byte, f foot, id identity, cipher *frame.Cipher) ([]Placed, error) {
	key := id.key()
	index := object[f.indexAt : f.indexAt+f.indexBytes]
	if got := wire.CRC32C(index); got != f.indexCRC || sha256.Sum256(index) != f.index {
		return nil, fault.New(fault.Corrupt, "%s at %d: index of %d bytes: CRC32C: got %08x, want %08x, and the foot's SHA-256", key, f.indexAt, len(index), got, f.indexCRC)
	}
	d := wire.NewDecoder(wire.Box{Body: index}, key+" index")
	if n := d.Count("frames", maxFrames, 3); d.Err() == nil && n != int(f.frames) {
		d.Fail("got %d frames, want the foot's %d", n, f.frames)
	}
	tags, offset, last := sha256.New(), int64(headBytes), table.Page(0)
	scratch := make([]byte, 0, frame.MaxPayload)
	var placed []Placed
	for range f.frames {
		const most = 1 << 41 // directories' pages are numbered from half of it on
		first := last + table.Page(d.Uvarint("gap", 0, most-uint64(min(last, most))))
		pages := int(d.Uvarint("pages - 1", 0, vlog.FrameBlocks-1)) + 1
		stored := int64(d.Uvarint("stored length / 16", 3, 1<<13-1)) * vlog.Unit
		if d.Err() == nil && (offset+stored > int64(f.indexAt) || offset > vlog.MaxFrameOffset) {
			d.Fail("frame of %d bytes at %d: want the frames to end at %d", stored, offset, f.indexAt)
		}
		if d.Err() != nil {
			return nil, d.Err()
		}
		b := object[offset : offset+stored]
		h, err := frame.Parse(b, key)
		if err == nil && (h.Blocks != pages || h.FirstLow != uint32(first)) {
			err = fault.New(fault.Corrupt, "%s at %d: frame: got %d pages from %d (low 32 bits), want %d from %d", key, offset, h.Blocks, h.FirstLow, pages, first)
		}
		if err == nil && cipher != nil {
			_, err = cipher.Open(scratch, b, frame.Place{Sequence: id.sequence, Offset: offset, First: uint64(first)}, key)
		}
		if err != nil {
			return nil, err
		}
		_, _ = tags.Write(h.Tag[:])
		for i := range pages {
			placed = append(placed, Placed{first + table.Page(i), offset, stored, i})
		}
		offset, last = offset+stored, first+table.Page(pages)
	}
	if offset != int64(f.indexAt) {
		d.Fail("frames end at %d, want %d", offset, f.indexAt)
	}
	if err := d.End(); err != nil {
		return nil, err
	}
	if got := [32]byte(tags.Sum(nil)); got != f.tags {
		return nil, fault.New(fault.Corrupt, "%s foot at 80: SHA-256 of %d tags: got %x, want %x", key, f.frames, got, f.tags)
	}
	return placed, nil
}
