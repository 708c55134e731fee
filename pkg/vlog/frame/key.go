package frame

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"sync"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// KeyID names a data key by a fingerprint that tells nothing of it. The zero
// KeyID says that there is no encryption.
type KeyID [16]byte

// String renders the id in hexadecimal.
func (id KeyID) String() string { return hex.EncodeToString(id[:]) }

// DataKey is a volume's data key. It prints as its id, never as itself. A nil
// *DataKey stands for no encryption.
type DataKey struct {
	secret [32]byte
	id     KeyID
}

// NewDataKey makes a key of 32 secret bytes, which it copies. Invalid for
// another length.
func NewDataKey(secret []byte) (*DataKey, error) {
	if len(secret) != 32 {
		return nil, fault.New(fault.Invalid, "data key of %d bytes: want 32", len(secret))
	}
	id, err := hkdf.Key(sha256.New, secret, nil, "holkas key id 1", len(KeyID{}))
	if err != nil {
		return nil, fault.New(fault.Internal, "derive the id of a data key: %w", err)
	}
	return &DataKey{secret: [32]byte(secret), id: KeyID(id)}, nil
}

// ID returns the key's fingerprint; zero for nil.
func (k *DataKey) ID() KeyID {
	if k == nil {
		return KeyID{}
	}
	return k.id
}

// String renders the key's id.
func (k *DataKey) String() string { return "data key " + k.ID().String() }

// GoString renders the key's id, for %#v.
func (k *DataKey) GoString() string { return k.String() }

// Reign is one writer's time over a log.
type Reign struct {
	Log   vlog.LogID
	Epoch vlog.Epoch
	Nonce vlog.Nonce
}

// Cipher opens the frames of one kind of object of one reign, and seals them on
// the side that reigns. All methods may be called at once.
type Cipher struct {
	codec *Codec
	kind  vlog.Kind
	reign Reign
	keyID KeyID
	aead  cipher.AEAD // nil: not encrypted
	mac   []byte

	mu   sync.Mutex
	last vlog.Sequence // highest that was opened for sealing
}

// Cipher returns the cipher of a kind of object of a reign; a nil key means that
// it is not encrypted.
func (c *Codec) Cipher(kind vlog.Kind, r Reign, key *DataKey) (*Cipher, error) {
	made := &Cipher{codec: c, kind: kind, reign: r, keyID: key.ID()}
	if key == nil {
		return made, nil
	}
	info := binary.LittleEndian.AppendUint32(nil, uint32(kind))
	info = append(info, r.Log[:]...)
	info = binary.LittleEndian.AppendUint64(info, uint64(r.Epoch))
	info = append(info, r.Nonce[:]...)
	secret, err := hkdf.Key(sha256.New, key.secret[:], nil, "holkas frame 1"+string(info), 32)
	if err == nil {
		made.mac, err = hkdf.Key(sha256.New, key.secret[:], nil, "holkas mac 1"+string(info), 32)
	}
	var block cipher.Block
	if err == nil {
		block, err = aes.NewCipher(secret)
	}
	if err == nil {
		made.aead, err = cipher.NewGCM(block)
	}
	return made, fault.Wrap(err, "derive the frame key of", r.Log.String())
}

// Kind returns the kind of object that the cipher is for.
func (c *Cipher) Kind() vlog.Kind { return c.kind }

// Reign returns the reign that the cipher is for.
func (c *Cipher) Reign() Reign { return c.reign }

// KeyID returns the id of the data key, zero if there is none.
func (c *Cipher) KeyID() KeyID { return c.keyID }

// MAC authenticates a digest: HMAC-SHA256 under a key of this kind and reign, or
// zeros where there is no key.
func (c *Cipher) MAC(digest vlog.Digest) (sum [32]byte) {
	if c.mac == nil {
		return sum
	}
	h := hmac.New(sha256.New, c.mac)
	_, _ = h.Write(digest[:])
	h.Sum(sum[:0])
	return sum
}

// CheckMAC verifies what MAC made with the data key id. Precondition if that is
// not the cipher's own, naming both; Corrupt.
func (c *Cipher) CheckMAC(digest vlog.Digest, got [32]byte, id KeyID, what string) error {
	if id != c.keyID {
		return fault.New(fault.Precondition, "%s: sealed with data key %s: got data key %s", what, id, c.keyID)
	}
	if want := c.MAC(digest); !hmac.Equal(want[:], got[:]) {
		return fault.New(fault.Corrupt, "%s: authentication code: got %x, want another", what, got)
	}
	return nil
}
