package journal

import (
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// recordType is what a record is. The numbers are stored.
type recordType uint8

const (
	changesRecord recordType = 1
	sealRecord    recordType = 2
	epochRecord   recordType = 3
	padRecord     recordType = 4
	cleanRecord   recordType = 5
)

const (
	recordMagic = "hlkjrec\n"
	bodyAt      = 72
	bodyBytes   = crcAt - bodyAt
	changeBytes = 16 // without checksums
	sealBytes   = 28 + 8

	maxLSN = vlog.LSN(1) << 62
)

// header is a record's first block, drawn in the package's comment.
type header struct {
	cursor      // position, run, epoch, and the link to the header before
	typ         recordType
	incarnation vlog.Incarnation
	durable     vlog.LSN
	bytes       int64
	sum         uint32 // of the header: the link of the record behind it

	changes []change // of changes
	seal    Seal     // of a seal
}

// change is a Change in a header.
type change struct {
	kind  Kind
	first vlog.Block
	count uint64
	sums  []uint32 // of data: the blocks' CRC32Cs
}

func (h *header) end() vlog.LSN { return h.at + vlog.LSN(h.bytes) }

// after returns what the record behind h must be.
func (h *header) after() cursor {
	return cursor{at: h.end(), run: h.run, epoch: h.epoch, link: h.sum}
}

// expected returns a cursor that h follows: what h tells about what is before it,
// and for a run and an epoch that it begins, any others.
func (h *header) expected() cursor {
	c := h.cursor
	if h.typ == epochRecord {
		c.run, c.epoch = ^h.run, h.epoch-1
	}
	return c
}

// put writes the header into a block of zeros, and sets its checksum.
func (h *header) put(b []byte) {
	putOuter(b, recordMagic)
	b[14] = byte(h.typ)
	le.PutUint64(b[16:], uint64(h.incarnation))
	le.PutUint64(b[24:], uint64(h.run))
	le.PutUint64(b[32:], uint64(h.epoch))
	le.PutUint64(b[40:], uint64(h.at))
	le.PutUint64(b[48:], uint64(h.durable))
	le.PutUint32(b[56:], uint32(h.bytes))
	le.PutUint32(b[60:], h.link)
	le.PutUint32(b[64:], uint32(len(h.changes)))
	at := bodyAt
	for _, c := range h.changes {
		le.PutUint64(b[at:], uint64(c.first)|uint64(c.kind)<<56)
		le.PutUint64(b[at+8:], c.count)
		at += changeBytes
		for _, sum := range c.sums {
			le.PutUint32(b[at:], sum)
			at += 4
		}
	}
	if h.typ == sealRecord {
		copy(b[bodyAt:], h.seal.Snapshot)
		le.PutUint64(b[bodyAt+28:], uint64(h.seal.Blocks))
	}
	h.sum = crc(b[:crcAt])
	le.PutUint32(b[crcAt:], h.sum)
}

// decodeHeader reads a record's first block. Corrupt; Unsupported if it is whole
// but of a later version, with what all versions have in common filled in. what
// names file and offset.
func decodeHeader(b []byte, what string) (h header, err error) {
	more, err := checkOuter(b, recordMagic, what)
	if fault.Is(err, fault.Corrupt) {
		return h, err
	}
	h = header{
		cursor: cursor{
			at:    vlog.LSN(le.Uint64(b[40:])),
			run:   run(le.Uint64(b[24:])),
			epoch: vlog.Epoch(le.Uint64(b[32:])),
			link:  le.Uint32(b[60:]),
		},
		typ:         recordType(b[14]),
		incarnation: vlog.Incarnation(le.Uint64(b[16:])),
		durable:     vlog.LSN(le.Uint64(b[48:])),
		bytes:       int64(le.Uint32(b[56:])),
		sum:         le.Uint32(b[crcAt:]),
	}
	if err != nil {
		return h, err
	}
	switch {
	case h.at%block != 0 || h.at > maxLSN || h.durable%block != 0 || h.durable > h.at:
		return h, fault.New(fault.Corrupt, "%s at 40: position %d, durable %d: want multiples of %d up to %d, not descending", what, h.at, h.durable, block, maxLSN)
	case h.epoch == 0 || h.epoch > vlog.MaxEpoch:
		return h, fault.New(fault.Corrupt, "%s at 32: epoch: got %d, want 1 to %d", what, h.epoch, vlog.MaxEpoch)
	case h.bytes < block || h.bytes > (1+MaxBlocks)*block || h.bytes%block != 0:
		return h, fault.New(fault.Corrupt, "%s at 56: length: got %d, want a multiple of %d up to %d", what, h.bytes, block, (1+MaxBlocks)*block)
	case h.typ != changesRecord && le.Uint32(b[64:]) != 0, h.typ != changesRecord && h.typ != padRecord && h.bytes != block:
		return h, fault.New(fault.Corrupt, "%s: type %d has %d changes and %d bytes: want none and %d", what, h.typ, le.Uint32(b[64:]), h.bytes, block)
	}
	at := bodyAt
	switch h.typ {
	case changesRecord:
		at, err = h.decodeChanges(b, what)
	case sealRecord:
		at += sealBytes
		h.seal = Seal{Snapshot: volume.SnapshotID(b[bodyAt : bodyAt+28]), Blocks: vlog.Block(le.Uint64(b[bodyAt+28:]))}
		if badSeal := h.seal.validate(); badSeal != nil {
			err = fault.New(fault.Corrupt, "%s at %d: %w", what, bodyAt, badSeal)
		}
	case epochRecord, padRecord, cleanRecord:
	default:
		err = fault.New(fault.Corrupt, "%s at 14: type: got %d, want %d to %d", what, h.typ, changesRecord, cleanRecord)
	}
	if err == nil && !more && (b[14+1] != 0 || le.Uint32(b[68:]) != 0 || !zero(b[at:crcAt])) {
		err = fault.New(fault.Corrupt, "%s: got bytes behind what type %d has: want zeros from %d to %d", what, h.typ, at, crcAt)
	}
	return h, err
}

func (h *header) decodeChanges(b []byte, what string) (at int, err error) {
	n := int(le.Uint32(b[64:]))
	if n < 1 || n > bodyBytes/changeBytes {
		return 0, fault.New(fault.Corrupt, "%s at 64: changes: got %d, want 1 to %d", what, n, bodyBytes/changeBytes)
	}
	h.changes = make([]change, n)
	at = bodyAt
	blocks := int64(0)
	for i := range h.changes {
		if at+changeBytes > crcAt {
			return 0, fault.New(fault.Corrupt, "%s at %d: want %d more bytes, got %d", what, at, changeBytes, crcAt-at)
		}
		c := &h.changes[i]
		first := le.Uint64(b[at:])
		c.kind, c.first, c.count = Kind(first>>56), vlog.Block(first<<8>>8), le.Uint64(b[at+8:])
		if bad := (Change{Kind: c.kind, First: c.first, Count: c.count}).validate(); bad != nil {
			return 0, fault.New(fault.Corrupt, "%s at %d: %w", what, at, bad)
		}
		at += changeBytes
		if c.kind != Data {
			continue
		}
		if c.count > uint64(crcAt-at)/4 {
			return 0, fault.New(fault.Corrupt, "%s at %d: want the checksums of %d blocks, got %d bytes", what, at, c.count, crcAt-at)
		}
		c.sums = make([]uint32, c.count)
		for k := range c.sums {
			c.sums[k] = le.Uint32(b[at:])
			at += 4
		}
		blocks += int64(c.count)
	}
	if h.bytes != (1+blocks)*block {
		return 0, fault.New(fault.Corrupt, "%s at 56: length: got %d, want a header and %d blocks", what, h.bytes, blocks)
	}
	return at, nil
}

// follows reports how the header is not the one that c expects in a file of this
// incarnation, or nil.
func (h *header) follows(c cursor, incarnation vlog.Incarnation, what string) error {
	switch {
	case h.incarnation != incarnation:
		return fault.New(fault.Corrupt, "%s at 16: incarnation: got %x, want %x", what, h.incarnation, incarnation)
	case h.at != c.at:
		return fault.New(fault.Corrupt, "%s at 40: position: got %d, want %d", what, h.at, c.at)
	case h.link != c.link:
		return fault.New(fault.Corrupt, "%s at 60: link: got %08x, want %08x", what, h.link, c.link)
	case h.typ == epochRecord && h.run == c.run || h.typ != epochRecord && h.run != c.run:
		return fault.New(fault.Corrupt, "%s at 24: run: got %x in type %d, behind %x", what, h.run, h.typ, c.run)
	case h.typ == epochRecord && h.epoch <= c.epoch || h.typ != epochRecord && h.epoch != c.epoch:
		return fault.New(fault.Corrupt, "%s at 32: epoch: got %d in type %d, behind %d", what, h.epoch, h.typ, c.epoch)
	}
	return nil
}
