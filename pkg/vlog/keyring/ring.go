package keyring

import (
	"crypto/rand"
	"encoding/hex"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Keys are a volume's data keys, open. They print as their ids.
type Keys struct {
	Own     *frame.DataKey   // of the volume itself
	Sources []*frame.DataKey // of the volumes that it was cloned from

	secrets [][]byte // of Own and Sources
}

// New makes a data key, and takes those of the source, if it has any, along.
func New(source Keys) (Keys, error) {
	secret := make([]byte, keyBytes)
	_, _ = rand.Read(secret) // never fails: crypto/rand ends the process instead
	return restore(append([][]byte{secret}, source.secrets...))
}

func restore(secrets [][]byte) (k Keys, err error) {
	for i, secret := range secrets {
		key, err := frame.NewDataKey(secret)
		if err != nil {
			return Keys{}, err
		}
		if i == 0 {
			k.Own = key
		} else {
			k.Sources = append(k.Sources, key)
		}
	}
	k.secrets = secrets
	return k, nil
}

// Export returns the secret bytes of the keys, the volume's own first: for a file
// in memory that outlives the process, and nowhere else.
func (k Keys) Export() [][]byte { return k.secrets }

// Import reads what Export returned. Invalid.
func Import(secrets [][]byte) (Keys, error) { return restore(secrets) }

// String renders the id of the volume's own key.
func (k Keys) String() string { return k.Own.String() }

// GoString renders the id of the volume's own key, for %#v.
func (k Keys) GoString() string { return k.String() }

// Ring is a volume's data keys, wrapped: part of its record. The zero Ring is of a
// volume that is not encrypted.
type Ring struct {
	// Fingerprint is of the user's key that opens it.
	Fingerprint Fingerprint `json:"fingerprint"`
	// Keys are the volume's own key and then those of its sources.
	Keys []Wrapped `json:"keys"`
}

// Wrapped is a data key, wrapped.
type Wrapped struct {
	ID  string `json:"id"`  // frame.KeyID: 32 hexadecimal digits
	Key []byte `json:"key"` // 60 bytes
}

// Wrap wraps the keys of a volume for a user's key.
func (k Keys) Wrap(user *UserKey, of volume.ID) Ring {
	nonces := make([]byte, nonceBytes*len(k.secrets))
	_, _ = rand.Read(nonces)
	return k.wrap(user, of, nonces)
}

const nonceBytes = 12

func (k Keys) wrap(user *UserKey, of volume.ID, nonces []byte) Ring {
	r := Ring{Fingerprint: user.fingerprint}
	for i, key := range append([]*frame.DataKey{k.Own}, k.Sources...) {
		nonce := nonces[i*nonceBytes : (i+1)*nonceBytes : (i+1)*nonceBytes]
		r.Keys = append(r.Keys, Wrapped{key.ID().String(), user.wrap.Seal(nonce, nonce, k.secrets[i], additional(of, key.ID()))})
	}
	return r
}

func additional(of volume.ID, id frame.KeyID) []byte {
	return append([]byte("holkas data key 1"+string(of)), id[:]...)
}

// Encrypted reports whether there is anything to open.
func (r Ring) Encrypted() bool { return r.Fingerprint != "" }

// Check reports whether a user's key is the one that opens the ring. Precondition
// if not, naming both.
func (r Ring) Check(user *UserKey) error {
	if user.fingerprint != r.Fingerprint {
		return fault.New(fault.Precondition, "it is encrypted for user key %s: got user key %s: want the Secret that has the first", r.Fingerprint, user.fingerprint)
	}
	return nil
}

// Open opens the ring of a volume. Precondition for another key than the one that
// it is wrapped for; Corrupt.
func (r Ring) Open(user *UserKey, of volume.ID) (Keys, error) {
	if err := r.Check(user); err != nil {
		return Keys{}, err
	}
	if len(r.Keys) == 0 {
		return Keys{}, fault.New(fault.Corrupt, "key ring of volume %s: no keys: want one or more", of)
	}
	var secrets [][]byte
	for _, w := range r.Keys {
		secret, err := w.open(user, of)
		if err != nil {
			return Keys{}, err
		}
		secrets = append(secrets, secret)
	}
	return restore(secrets)
}

func (w Wrapped) open(user *UserKey, of volume.ID) ([]byte, error) {
	var id frame.KeyID
	if n, err := hex.Decode(id[:], []byte(w.ID)); len(w.ID) != 2*len(id) || err != nil || n != len(id) || len(w.Key) != nonceBytes+keyBytes+16 {
		return nil, fault.New(fault.Corrupt, "key ring of volume %s: key %.40q of %d bytes: want 32 hexadecimal digits and %d bytes", of, w.ID, len(w.Key), nonceBytes+keyBytes+16)
	}
	secret, err := user.wrap.Open(nil, w.Key[:nonceBytes], w.Key[nonceBytes:], additional(of, id))
	if err != nil {
		return nil, fault.New(fault.Corrupt, "key ring of volume %s: key %s: it is not what was wrapped: %w", of, w.ID, err)
	}
	key, err := frame.NewDataKey(secret)
	if err == nil && key.ID() != id {
		err = fault.New(fault.Corrupt, "key ring of volume %s: got key %s, want %s", of, key.ID(), id)
	}
	return secret, err
}
