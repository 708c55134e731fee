package vlog

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Kind is what an object of a log is. Its number is part of keys and digests.
type Kind uint8

// The kinds. Their numbers are stored: never renumber one.
const (
	SegmentKind    Kind = 1
	TableKind      Kind = 2
	CheckpointKind Kind = 3
	SweptKind      Kind = 4 // in keys only
)

var folders = map[Kind]string{SegmentKind: "segments", TableKind: "tables", CheckpointKind: "checkpoints", SweptKind: "swept"}

// String returns the folder of the kind, in the plural.
func (k Kind) String() string {
	if name, ok := folders[k]; ok {
		return name
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Keys forms the keys of one log's objects.
type Keys struct{ Log LogID }

// All returns the prefix of every object of the log.
func (k Keys) All() string { return "logs/" + k.Log.String() + "/" }

// Base returns the key of the object that says what the log starts from.
func (k Keys) Base() string { return k.All() + "base" }

// Epochs returns the prefix of the claims.
func (k Keys) Epochs() string { return k.All() + "epochs/" }

// Epoch returns the key of a claim.
func (k Keys) Epoch(n Epoch) string { return fmt.Sprintf("%s%010d", k.Epochs(), n) }

// Folder returns the prefix of the objects of a kind.
func (k Keys) Folder(kind Kind) string { return k.All() + kind.String() + "/" }

// OfEpoch returns the prefix of the objects of a kind in an epoch.
func (k Keys) OfEpoch(kind Kind, n Epoch) string {
	return fmt.Sprintf("%s%010d-", k.Folder(kind), n)
}

// Object returns the key of an object of a kind.
func (k Keys) Object(kind Kind, p Position) string { return k.Folder(kind) + p.String() }

// Segment returns the key of a slot.
func (k Keys) Segment(p Position) string { return k.Object(SegmentKind, p) }

// Checkpoint returns the key of a checkpoint.
func (k Keys) Checkpoint(p Position) string { return k.Object(CheckpointKind, p) }

// ParseEpoch reads an epoch out of a key of Epochs. Corrupt if it has none.
func (k Keys) ParseEpoch(key string) (Epoch, error) {
	digits, found := strings.CutPrefix(key, k.Epochs())
	n, err := number(digits, 10)
	if !found || err != nil || n == 0 {
		return 0, fault.New(fault.Corrupt, "object %q: want %sNNNNNNNNNN from 1", key, k.Epochs())
	}
	return Epoch(n), nil
}

// ParseObject reads the position out of a key of Folder(kind). Corrupt if it has
// none.
func (k Keys) ParseObject(kind Kind, key string) (Position, error) {
	name, found := strings.CutPrefix(key, k.Folder(kind))
	epoch, sequence, cut := strings.Cut(name, "-")
	e, err1 := number(epoch, 10)
	s, err2 := number(sequence, 12)
	if !found || !cut || err1 != nil || err2 != nil || e == 0 {
		return Position{}, fault.New(fault.Corrupt, "object %q: want %sNNNNNNNNNN-NNNNNNNNNNNN", key, k.Folder(kind))
	}
	return Position{Epoch(e), Sequence(s)}, nil
}

// number reads exactly so many decimal digits.
func number(s string, digits int) (uint64, error) {
	if len(s) != digits || strings.Trim(s, "0123456789") != "" {
		return 0, strconv.ErrSyntax
	}
	return strconv.ParseUint(s, 10, 64)
}
