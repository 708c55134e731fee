package vlog

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
)

// Digest is a SHA-256 that vouches for one object; what exactly it covers is
// said by the format of the object.
type Digest [32]byte

// String renders the digest in hexadecimal.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Chain is a SHA-256 that vouches for the whole history of a log up to a
// position: two logs with the same chain at a position have the same content up
// to there. A log that starts from nothing starts from the zero Chain, one with a
// base from the base's chain.
type Chain [32]byte

// String renders the chain in hexadecimal.
func (c Chain) String() string { return hex.EncodeToString(c[:]) }

// Begin returns the chain at {n, 0} from c, the chain where the epoch before
// ended:
//
//	SHA-256("holkas epoch" | c | log | u64 n | nonce of the claim)
//
// A segment of an epoch thus follows only what its writer had found.
func (c Chain) Begin(log LogID, n Epoch, nonce Nonce) Chain {
	b := append([]byte("holkas epoch"), c[:]...)
	b = append(b, log[:]...)
	b = binary.LittleEndian.AppendUint64(b, uint64(n))
	return sha256.Sum256(append(b, nonce[:]...))
}

// Next returns the chain after a segment: SHA-256("holkas next" | c | digest).
func (c Chain) Next(segment Digest) Chain {
	b := append([]byte("holkas next"), c[:]...)
	return sha256.Sum256(append(b, segment[:]...))
}

// Head is a position and the chain there.
type Head struct {
	Position
	Chain Chain
}
