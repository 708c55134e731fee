package vlog

import (
	"crypto/rand"
	"encoding/base32"
	"encoding/hex"
	"fmt"

	"github.com/holkas-io/holkas/pkg/fault"
)

// LogID names a log: 128 random bits, never reused. As text it is "l-" and 26
// lower-case base-32 letters. The zero LogID names none.
type LogID [16]byte

var letters = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewLogID returns a random log id.
func NewLogID() (id LogID) {
	_, _ = rand.Read(id[:]) // never fails: crypto/rand ends the process instead
	return id
}

// String renders the id as keys have it.
func (id LogID) String() string { return "l-" + letters.EncodeToString(id[:]) }

// ParseLogID reads a log id. NotFound if it is none that String can have made.
func ParseLogID(s string) (id LogID, err error) {
	if len(s) == 28 && s[:2] == "l-" {
		if n, err := letters.Decode(id[:], []byte(s[2:])); err == nil && n == len(id) && id.String() == s {
			return id, nil
		}
	}
	return LogID{}, fault.New(fault.NotFound, `log %.80q: no such id: want "l-" and 26 letters a-z2-7`, s)
}

// Nonce is 128 random bits that an epoch's claim carries. It tells the claimer's
// own objects from everybody else's, and it is part of every key and digest of
// the epoch.
type Nonce [16]byte

// NewNonce returns a random nonce.
func NewNonce() (n Nonce) {
	_, _ = rand.Read(n[:])
	return n
}

// String renders the nonce in hexadecimal.
func (n Nonce) String() string { return hex.EncodeToString(n[:]) }

// Epoch numbers the reigns of a log's writers, from 1.
type Epoch uint64

// Sequence numbers the slots of an epoch, from 1; 0 stands before the first.
type Sequence uint64

// What their digits in keys can hold.
const (
	MaxEpoch    Epoch    = 9_999_999_999
	MaxSequence Sequence = 999_999_999_999
)

// Position is how far a log is applied: everything up to and including the
// segment in this slot. {n, 0} is the state in which epoch n began.
type Position struct {
	Epoch    Epoch
	Sequence Sequence
}

// Compare returns -1, 0 or 1 as p is before, at or after q in the same log.
func (p Position) Compare(q Position) int {
	switch {
	case p == q:
		return 0
	case p.Epoch < q.Epoch, p.Epoch == q.Epoch && p.Sequence < q.Sequence:
		return -1
	}
	return 1
}

// Next returns the slot after p in the same epoch.
func (p Position) Next() Position { return Position{p.Epoch, p.Sequence + 1} }

// String renders the position as keys have it.
func (p Position) String() string { return fmt.Sprintf("%010d-%012d", p.Epoch, p.Sequence) }

// Valid reports whether p's numbers are within their bounds, sequence 0 included.
func (p Position) Valid() bool {
	return p.Epoch >= 1 && p.Epoch <= MaxEpoch && p.Sequence <= MaxSequence
}

// Block numbers the blocks of a volume, from 0.
type Block uint64

// Sizes that the formats are built on.
const (
	// BlockSize is the bytes of a block, the unit of the extent table.
	BlockSize = 4096
	// FrameBlocks is the most blocks of a frame.
	FrameBlocks = 16
	// Unit is what offsets and stored lengths of frames are multiples of.
	Unit = 16
	// MaxBlocks bounds the size of a volume: 64 TiB.
	MaxBlocks Block = 1 << 34
)

// LSN is a position in a journal: bytes of the endless log that its file is a
// window of.
type LSN uint64

// Incarnation tells one journal file from every other: 64 random bits. 0 stands
// for no journal.
type Incarnation uint64

// JournalRange is the journal records that a segment covers: from First to
// before End. It is empty, with both the same, for a segment that only moves.
type JournalRange struct {
	Incarnation Incarnation
	First, End  LSN
}
