package segment

import (
	"context"
	"crypto/sha256"
	"hash"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/internal/wire"
)

// TailBytes is how much of a segment's end ReadTail gets at first: the index of
// 8 MiB of random blocks and the foot fit in it several times.
const TailBytes = 64 << 10

// Tail is a segment without its frames.
type Tail struct {
	Info
	Index     Index
	Digest    vlog.Digest
	Chain     vlog.Chain // behind this segment
	SizeBytes int64
	foot      foot
}

// ReadTail gets the index of the segment in a slot, whose object has so many
// bytes, by one ranged read of its end, and a second one only if the index is
// larger than TailBytes. It verifies the index and the foot and that they are of
// the slot. cipher, if not nil, is of the segment's reign: its key is compared,
// and the authentication code verified. Corrupt; Unsupported; Precondition for
// another key; NotFound if there is no object.
func ReadTail(ctx context.Context, store objstore.Store, id Identity, sizeBytes int64, cipher *frame.Cipher) (Tail, error) {
	key := id.Key()
	if sizeBytes < MinBytes || sizeBytes > MaxBytes {
		return Tail{}, fault.New(fault.Corrupt, "%s: got an object of %d bytes, want a segment of %d to %d", key, sizeBytes, MinBytes, MaxBytes)
	}
	at := max(0, sizeBytes-TailBytes)
	b, err := get(ctx, store, key, at, sizeBytes)
	if err != nil {
		return Tail{}, err
	}
	f, err := readFoot(b, sizeBytes, key)
	if err != nil {
		return Tail{}, err
	}
	if want := int64(f.indexAt); want < at {
		if b, err = get(ctx, store, key, want, sizeBytes); err != nil {
			return Tail{}, err
		}
		at = want
	}
	return newTail(b[int64(f.indexAt)-at:], f, id, sizeBytes, cipher)
}

func get(ctx context.Context, store objstore.Store, key string, at, end int64) ([]byte, error) {
	b, err := store.GetRange(ctx, key, at, end-at)
	if fault.Is(err, fault.OutOfRange) || err == nil && int64(len(b)) != end-at {
		return nil, fault.New(fault.Corrupt, "%s: got %d bytes from %d on (%v), want %d", key, len(b), at, err, end-at)
	}
	return b, fault.Wrap(err, "read the end of", key)
}

// newTail decodes the index at the beginning of b.
func newTail(b []byte, f foot, id Identity, sizeBytes int64, cipher *frame.Cipher) (Tail, error) {
	key := id.Key()
	if f.Identity != id {
		return Tail{}, fault.New(fault.Corrupt, "%s foot: got segment %s of %s, nonce %s: want %s of %s, nonce %s", key, f.Position(), f.Log, f.Nonce, id.Position(), id.Log, id.Nonce)
	}
	b = b[:f.indexBytes]
	if got := wire.CRC32C(b); got != f.indexCRC {
		return Tail{}, fault.New(fault.Corrupt, "%s at %d: CRC32C of the index of %d bytes: got %08x, want %08x", key, f.indexAt, len(b), got, f.indexCRC)
	}
	if got := sha256.Sum256(b); got != f.index {
		return Tail{}, fault.New(fault.Corrupt, "%s at %d: SHA-256 of the index of %d bytes: got %x, want %x", key, f.indexAt, len(b), got, f.index)
	}
	if cipher != nil {
		if err := cipher.CheckMAC(f.digest, f.mac, f.KeyID, key); err != nil {
			return Tail{}, err
		}
	}
	index, frames, err := decodeIndex(b, f.Blocks, int64(f.indexAt), key+" index")
	if err == nil && frames != int(f.frames) {
		err = fault.New(fault.Corrupt, "%s at %d: index: got %d frames, want %d", key, f.indexAt, frames, f.frames)
	}
	if err != nil {
		return Tail{}, err
	}
	return Tail{Info: f.Info, Index: index, Digest: f.digest, Chain: f.Previous.Next(f.digest), SizeBytes: sizeBytes, foot: f}, nil
}

// Verify checks all of an object: every byte against a checksum, every frame's
// tag against the digest. Without a cipher, which is for copiers that have no
// key, the tags are taken as they stand: the digest then vouches that they are
// the writer's, and the checksums that the payloads are undamaged. With the
// cipher of the segment's reign every frame is opened too.
func Verify(object []byte, id Identity, cipher *frame.Cipher) (Tail, error) {
	key := id.Key()
	size := int64(len(object))
	if size < MinBytes || size > MaxBytes {
		return Tail{}, fault.New(fault.Corrupt, "%s: got an object of %d bytes, want a segment of %d to %d", key, size, MinBytes, MaxBytes)
	}
	f, err := readFoot(object, size, key)
	if err != nil {
		return Tail{}, err
	}
	t, err := newTail(object[f.indexAt:], f, id, size, cipher)
	if err != nil {
		return Tail{}, err
	}
	if head, err := ReadHead(object, key); err != nil || head != id {
		return Tail{}, fault.New(fault.Corrupt, "%s at 0: head of %s, nonce %s (%v): want what the foot says", key, head.Position(), head.Nonce, err)
	}
	tags, scratch := sha256.New(), make([]byte, 0, frame.MaxPayload)
	for _, e := range t.Index.Entries {
		if err := verifyFrame(object, e, id, cipher, tags, scratch); err != nil {
			return Tail{}, err
		}
	}
	if got := [32]byte(tags.Sum(nil)); got != f.tags {
		return Tail{}, fault.New(fault.Corrupt, "%s foot at 144: SHA-256 of %d tags: got %x, want %x", key, f.frames, got, f.tags)
	}
	return t, nil
}

func verifyFrame(object []byte, e Entry, id Identity, cipher *frame.Cipher, tags hash.Hash, scratch []byte) error {
	if e.Kind > Move {
		return nil
	}
	stored := object[e.Offset : e.Offset+e.Stored]
	h, err := frame.Parse(stored, id.Key())
	switch {
	case err != nil:
		return err
	case h.Blocks != int(e.Count) || h.FirstLow != uint32(e.First):
		return fault.New(fault.Corrupt, "%s at %d: frame: got %d blocks from %d (low 32 bits), want %d from %d", id.Key(), e.Offset, h.Blocks, h.FirstLow, e.Count, e.First)
	}
	_, _ = tags.Write(h.Tag[:])
	if cipher == nil {
		return nil
	}
	_, err = cipher.Open(scratch, stored, frame.Place{Sequence: id.Sequence, Offset: e.Offset, First: uint64(e.First)}, id.Key())
	return err
}
