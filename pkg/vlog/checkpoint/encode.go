package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"

	"github.com/klauspost/compress/zstd"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
)

const (
	headBody  = 284
	headBytes = headBody + wire.Overhead
	reserved  = 36 // bytes of the head's body before its MAC
	macBytes  = 32
	// maxLists bounds the lists: 4 million objects, as 32 TiB of segments are.
	maxLists = 256 << 20
)

var headFormat = wire.Format{Magic: "hlkchkp\n", Version: 1, MaxBytes: 4096}

// Encoded is a checkpoint that is ready to be stored.
type Encoded struct {
	Key    string
	Object []byte
	Digest vlog.Digest
}

// Encode encodes a checkpoint of the cipher's reign, which is of
// vlog.CheckpointKind. If base is not nil it must have been read or encoded
// standing alone, with the digest given; the list is then told as what changed
// since. Internal if c does not hang together.
func Encode(c *Checkpoint, cipher *frame.Cipher, base *Checkpoint, baseDigest vlog.Digest) (Encoded, error) {
	if cipher.Kind() != vlog.CheckpointKind || c.Reign != cipher.Reign() || c.KeyID != cipher.KeyID() || base != nil && (base.Reign != c.Reign || base.Sequence >= c.Sequence) {
		return Encoded{}, fault.New(fault.Internal, "%s: want a cipher for checkpoints of its reign, and an earlier base of it", c.Key())
	}
	if err := c.validate(fault.Internal); err != nil {
		return Encoded{}, err
	}
	var others []Object
	var b Base
	if base != nil {
		others, b = base.Objects, Base{base.Position(), baseDigest}
	}
	lists := c.appendLists(nil, others)
	stored, err := compress(lists)
	if err != nil || len(lists) > maxLists {
		return Encoded{}, fault.New(fault.Internal, "%s: lists of %d bytes (%v): want at most %d", c.Key(), len(lists), err, maxLists)
	}
	body := c.appendHead(make([]byte, 0, headBody), b)
	body = binary.LittleEndian.AppendUint32(body, uint32(len(lists)))
	body = binary.LittleEndian.AppendUint32(body, uint32(len(stored)))
	hash := sha256.Sum256(lists)
	body = append(body, hash[:]...)
	body = append(body, make([]byte, reserved+macBytes)...)
	digest := digestOf(headFormat.Append(nil, body))
	mac := cipher.MAC(digest)
	copy(body[headBody-macBytes:], mac[:])
	object := append(headFormat.Append(nil, body), stored...)
	object = binary.LittleEndian.AppendUint32(object, wire.CRC32C(stored))
	return Encoded{Key: c.Key(), Object: object, Digest: digest}, nil
}

func digestOf(box []byte) vlog.Digest { return sha256.Sum256(box[:len(box)-4-macBytes]) }

func compress(b []byte) ([]byte, error) {
	e, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(false))
	if err != nil {
		return nil, err
	}
	defer func() { _ = e.Close() }()
	return e.EncodeAll(b, nil), nil
}

func (c *Checkpoint) appendHead(b []byte, base Base) []byte {
	b = append(b, c.Reign.Log[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Reign.Epoch))
	b = append(b, c.Reign.Nonce[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.Sequence))
	b = append(b, c.Chain[:]...)
	b = append(b, c.KeyID[:]...)
	for _, v := range []uint64{uint64(c.Settled), uint64(c.Blocks), uint64(c.NextTable), uint64(c.Time.UnixNano()), uint64(base.Position.Epoch), uint64(base.Position.Sequence)} {
		b = binary.LittleEndian.AppendUint64(b, v)
	}
	return append(b, base.Digest[:]...)
}

func (c *Checkpoint) appendLists(b []byte, others []Object) []byte {
	removed, added := compare(others, c.Objects)
	reigns := map[Reign]int{}
	var order []Reign
	for _, o := range added {
		if _, ok := reigns[o.Reign]; !ok {
			reigns[o.Reign] = len(order)
			order = append(order, o.Reign)
		}
	}
	b = binary.AppendUvarint(b, uint64(len(order)))
	for _, r := range order {
		b = append(b, r.Log[:]...)
		b = binary.AppendUvarint(b, uint64(r.Epoch))
		b = append(b, r.Nonce[:]...)
		b = append(b, r.KeyID[:]...)
		b = wire.AppendString(b, string(r.Repository))
	}
	b = binary.AppendUvarint(b, uint64(len(removed)))
	next := uint32(0)
	for _, n := range removed {
		b = binary.AppendUvarint(b, uint64(n-next))
		next = n + 1
	}
	b = binary.AppendUvarint(b, uint64(len(added)))
	next = 0
	for _, o := range added {
		b = binary.AppendUvarint(b, uint64(o.Number-next))
		next = o.Number + 1
		b = binary.AppendUvarint(append(b, byte(o.Kind)), uint64(reigns[o.Reign]))
		b = binary.AppendUvarint(b, uint64(o.Sequence))
		b = binary.AppendUvarint(b, uint64(o.SizeBytes))
		b = append(b, o.Digest[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(c.Live)))
	for _, n := range c.Live {
		b = binary.AppendUvarint(b, uint64(n))
	}
	return c.appendTable(b)
}

func (c *Checkpoint) appendTable(b []byte) []byte {
	b = binary.AppendUvarint(b, uint64(len(c.Root)))
	next := uint64(0)
	for _, e := range c.Root {
		b = binary.AppendUvarint(b, e.Directory-next)
		b = binary.LittleEndian.AppendUint64(b, uint64(e.Stored))
		next = e.Directory + 1
	}
	b = binary.AppendUvarint(b, uint64(len(c.Orphans)))
	for _, o := range c.Orphans {
		b = binary.AppendUvarint(b, uint64(o.Page))
		b = binary.LittleEndian.AppendUint64(b, uint64(o.Stored))
	}
	b = binary.AppendUvarint(b, uint64(len(c.Snapshots)))
	for _, s := range c.Snapshots {
		b = append(b, s.ID...)
		b = binary.AppendUvarint(b, uint64(s.Position.Epoch))
		b = binary.AppendUvarint(b, uint64(s.Position.Sequence))
		b = binary.AppendUvarint(b, uint64(s.Blocks))
	}
	return b
}

// compare returns the numbers of a that are not in b, or another object there,
// and the objects of b that are not in a. Both are ascending.
func compare(a, b []Object) (removed []uint32, added []Object) {
	i := 0
	for _, o := range b {
		for ; i < len(a) && a[i].Number < o.Number; i++ {
			removed = append(removed, a[i].Number)
		}
		if i < len(a) && a[i].Number == o.Number {
			i++
			if a[i-1] == o {
				continue
			}
			removed = append(removed, o.Number)
		}
		added = append(added, o)
	}
	for ; i < len(a); i++ {
		removed = append(removed, a[i].Number)
	}
	return removed, added
}
