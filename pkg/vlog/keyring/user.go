package keyring

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Fingerprint names a user's key: 32 hexadecimal digits.
type Fingerprint string

// UserKey is a user's key. It prints as its fingerprint, never as itself.
type UserKey struct {
	fingerprint Fingerprint
	wrap        cipher.AEAD
}

const keyBytes = 32

// ParseUserKey reads a user's key as a Secret has it, under a name; spaces around
// it are passed over. Invalid if it is not 32 bytes; the message never has the
// value.
func ParseUserKey(name, text string) (*UserKey, error) {
	secret := decodeKey(strings.TrimSpace(text))
	if len(secret) != keyBytes {
		return nil, fault.New(fault.Invalid, "secret %s: want 32 random bytes as 64 hexadecimal digits or in base64, as of: head -c 32 /dev/urandom | base64", name)
	}
	k := &UserKey{}
	id, err := hkdf.Key(sha256.New, secret, nil, "holkas user key id 1", 16)
	if err != nil {
		return nil, fault.New(fault.Internal, "secret %s: derive its fingerprint: %w", name, err)
	}
	k.fingerprint = Fingerprint(hex.EncodeToString(id))
	wrapping, err := hkdf.Key(sha256.New, secret, nil, "holkas wrap 1", keyBytes)
	if err != nil {
		return nil, fault.New(fault.Internal, "secret %s: derive its wrapping key: %w", name, err)
	}
	block, err := aes.NewCipher(wrapping)
	if err == nil {
		k.wrap, err = cipher.NewGCM(block)
	}
	return k, fault.Wrap(err, "secret", name)
}

// decodeKey reads either spelling; nil for neither.
func decodeKey(text string) []byte {
	if b, err := hex.DecodeString(text); err == nil && len(b) == keyBytes {
		return b
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.RawStdEncoding, base64.URLEncoding, base64.RawURLEncoding} {
		if b, err := e.Strict().DecodeString(text); err == nil && len(b) == keyBytes {
			return b
		}
	}
	return nil
}

// Fingerprint names the key.
func (k *UserKey) Fingerprint() Fingerprint { return k.fingerprint }

// String renders the fingerprint.
func (k *UserKey) String() string { return "user key " + string(k.fingerprint) }

// GoString renders the fingerprint, for %#v.
func (k *UserKey) GoString() string { return k.String() }
