package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
	"github.com/holkas-io/holkas/pkg/vlog/table"
	"github.com/holkas-io/holkas/pkg/volume"
)

// part is a checkpoint as one object has it.
type part struct {
	Checkpoint
	base    Base // zero if it stands alone
	digest  vlog.Digest
	mac     [32]byte
	removed []uint32
	// Objects are those that were added.
}

// decode decodes the object of a position.
func decode(object []byte, log vlog.LogID, at vlog.Position) (*part, error) {
	key := vlog.Keys{Log: log}.Checkpoint(at)
	box, err := headFormat.Open(object, key)
	if err != nil {
		return nil, err
	}
	p := new(part)
	lists, err := p.decodeHead(box, object[box.Size:], key)
	if err != nil {
		return nil, err
	}
	if p.Reign.Log != log || p.Position() != at {
		return nil, fault.New(fault.Corrupt, "%s: got a checkpoint of %s at %s", key, p.Reign.Log, p.Position())
	}
	p.digest = digestOf(object[:box.Size])
	return p, p.decodeLists(wire.NewDecoder(wire.Box{Body: lists}, key+" lists"))
}

// decodeHead decodes the head and returns the lists, which rest has.
func (p *part) decodeHead(box wire.Box, rest []byte, key string) ([]byte, error) {
	d := wire.NewDecoder(box, key)
	d.Fixed(p.Reign.Log[:])
	p.Reign.Epoch = vlog.Epoch(d.U64())
	d.Fixed(p.Reign.Nonce[:])
	p.Sequence = vlog.Sequence(d.U64())
	d.Fixed(p.Chain[:])
	d.Fixed(p.KeyID[:])
	p.Settled, p.Blocks, p.NextTable = vlog.Epoch(d.U64()), vlog.Block(d.U64()), vlog.Sequence(d.U64())
	p.Time = time.Unix(0, int64(d.U64())).UTC()
	p.base.Position = vlog.Position{Epoch: vlog.Epoch(d.U64()), Sequence: vlog.Sequence(d.U64())}
	d.Fixed(p.base.Digest[:])
	size, stored := d.U32(), d.U32()
	var hash [32]byte
	d.Fixed(hash[:])
	d.ZerosUpTo(reserved, macBytes)
	d.Fixed(p.mac[:])
	switch {
	case p.base != (Base{}) && (p.base.Position.Epoch != p.Reign.Epoch || p.base.Position.Sequence >= p.Sequence):
		d.Fail("adds to %s: want an earlier position of its epoch", p.base.Position)
	case size > maxLists || int64(stored)+4 != int64(len(rest)):
		d.Fail("lists of %d bytes in %d: want at most %d in %d", size, stored, maxLists, len(rest)-4)
	}
	if err := d.End(); err != nil {
		return nil, err
	}
	want := binary.LittleEndian.Uint32(rest[stored:])
	if got := wire.CRC32C(rest[:stored]); got != want {
		return nil, fault.New(fault.Corrupt, "%s at %d: CRC32C of the lists of %d bytes: got %08x, want %08x", key, box.Size, stored, got, want)
	}
	lists, err := decompress(rest[:stored], int(size))
	if err != nil || len(lists) != int(size) || sha256.Sum256(lists) != hash {
		return nil, fault.New(fault.Corrupt, "%s at %d: lists: got %d bytes (%v), want %d with SHA-256 %x", key, box.Size, len(lists), err, size, hash)
	}
	return lists, nil
}

func decompress(b []byte, size int) ([]byte, error) {
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxLists), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	// The size is not to be believed: no more is allocated at once than the
	// compressed bytes make likely.
	for room := min(size, 64*len(b)+1024); ; room = min(size, 8*room) {
		out, err := d.DecodeAll(b, make([]byte, 0, room))
		if err == nil || room == size {
			return out, err
		}
	}
}

func (p *part) decodeLists(d *wire.Decoder) error {
	reigns := make([]Reign, d.Count("reigns", vlog.MaxObjects, 50))
	for i := range reigns {
		r := &reigns[i]
		d.Fixed(r.Log[:])
		r.Epoch = vlog.Epoch(d.Uvarint("epoch", 1, uint64(vlog.MaxEpoch)))
		d.Fixed(r.Nonce[:])
		d.Fixed(r.KeyID[:])
		r.Repository = volume.RepositoryID(d.String("repository", 28))
		if _, err := volume.ParseRepositoryID(string(r.Repository)); err != nil && r.Repository != "" {
			d.Fail("reign %d: %w", i, err)
		}
	}
	next := uint64(0)
	number := func() uint32 {
		n := next + d.Uvarint("gap", 0, vlog.MaxObjects-1-min(next, vlog.MaxObjects-1))
		next = n + 1
		if n >= vlog.MaxObjects {
			d.Fail("number %d: want one below %d", n, vlog.MaxObjects)
		}
		return uint32(n)
	}
	for range d.Count("removed", vlog.MaxObjects, 1) {
		p.removed = append(p.removed, number())
	}
	next = 0
	objects := d.Count("objects", vlog.MaxObjects, 37)
	p.Objects = make([]Object, 0, objects)
	for range objects {
		o := Object{Number: number(), Kind: vlog.Kind(d.U8())}
		i := d.Uvarint("reign", 0, uint64(max(len(reigns), 1)-1))
		o.Sequence = vlog.Sequence(d.Uvarint("sequence", 1, uint64(vlog.MaxSequence)))
		o.SizeBytes = int64(d.Uvarint("bytes", 1, 1<<40))
		d.Fixed(o.Digest[:])
		if len(reigns) == 0 {
			d.Fail("object %d of no reign", o.Number)
		}
		if d.Err() != nil {
			return d.Err()
		}
		o.Reign = reigns[i]
		p.Objects = append(p.Objects, o)
	}
	live := d.Count("live", vlog.MaxObjects, 1)
	p.Live = make([]uint32, 0, live)
	for range live {
		p.Live = append(p.Live, uint32(d.Uvarint("live", 0, 1<<32-1)))
	}
	return p.decodeTable(d)
}

func (p *part) decodeTable(d *wire.Decoder) error {
	next := uint64(0)
	const directories = uint64(vlog.MaxBlocks / table.DirectoryBlocks)
	for range d.Count("root", int(directories), 9) {
		n := next + d.Uvarint("gap", 0, directories-min(next, directories))
		next = n + 1
		p.Root = append(p.Root, table.Entry{Directory: n, Stored: vlog.Pointer(d.U64())})
	}
	for range d.Count("orphans", maxLists/9, 9) {
		p.Orphans = append(p.Orphans, table.Orphan{Page: table.Page(d.Uvarint("page", 0, 1<<41)), Stored: vlog.Pointer(d.U64())})
	}
	for range d.Count("snapshots", maxLists/31, 31) {
		s := Snapshot{ID: volume.SnapshotID(d.Bytes(28))}
		s.Position.Epoch = vlog.Epoch(d.Uvarint("snapshot's epoch", 1, uint64(vlog.MaxEpoch)))
		s.Position.Sequence = vlog.Sequence(d.Uvarint("snapshot's sequence", 0, uint64(vlog.MaxSequence)))
		s.Blocks = vlog.Block(d.Uvarint("snapshot's blocks", 0, uint64(vlog.MaxBlocks)))
		p.Snapshots = append(p.Snapshots, s)
	}
	return d.End()
}

// resolve makes a part whole, given the one that it adds to, or nil.
func (p *part) resolve(base *part) (*Checkpoint, error) {
	if base != nil {
		gone := map[uint32]bool{}
		for _, n := range p.removed {
			gone[n] = true
		}
		all := slices.Concat(slices.DeleteFunc(slices.Clone(base.Objects), func(o Object) bool { return gone[o.Number] }), p.Objects)
		slices.SortStableFunc(all, func(a, b Object) int { return int(a.Number) - int(b.Number) })
		p.Objects = all
	} else if len(p.removed) > 0 {
		return nil, fault.New(fault.Corrupt, "%s: %d objects are removed from no list", p.Key(), len(p.removed))
	}
	return &p.Checkpoint, p.validate(fault.Corrupt)
}

// checkKey verifies the part's authentication code, if the caller has a key.
func (p *part) checkKey(codec *frame.Codec, key *frame.DataKey) error {
	if codec == nil {
		return nil
	}
	c, err := codec.Cipher(vlog.CheckpointKind, p.Reign, key)
	if err != nil {
		return err
	}
	return c.CheckMAC(p.digest, p.mac, p.KeyID, p.Key())
}
