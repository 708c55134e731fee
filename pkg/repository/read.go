package repository

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// stored is a revision as it lies in the store. The zero value: none.
type stored[T any] struct {
	Revision[T]
	key      string // its subject's
	envelope envelope
}

func (s stored[T]) removal() bool { return s.envelope.Removed }

// slot returns the object key of a revision.
func (l layout) slot(key string, number int64) string {
	return fmt.Sprintf("%s%s%s%010d", l.base, key, l.tail, number)
}

// newest reads the newest revision and sees that it follows its predecessor.
//
// A revision that was listed may be gone when it is read, and so may its
// predecessor, but only if something newer exists by then, or nothing at all:
// another look finds that. What stands without its predecessor at two looks was
// not made by a ledger, or has lost it. A removal may stand alone, since its
// predecessors go first.
func (l Ledger[T]) newest(ctx context.Context, key string) (stored[T], error) {
	suspect := int64(0)
	for {
		numbers, err := l.numbers(ctx, key)
		if err != nil || len(numbers) == 0 {
			return stored[T]{}, err
		}
		n := numbers[len(numbers)-1]
		s, err := l.read(ctx, key, n)
		if err == nil && n > 1 && !(s.removal() && len(numbers) == 1) {
			err = l.follows(ctx, s)
		}
		if !fault.Is(err, fault.NotFound) {
			return s, err
		}
		if n == suspect {
			return stored[T]{}, fault.New(fault.Corrupt, "object %q: it or its predecessor is missing: %w", l.layout.slot(key, n), err)
		}
		suspect = n
	}
}

// numbers lists a record's revisions in ascending order.
func (l Ledger[T]) numbers(ctx context.Context, key string) ([]int64, error) {
	var numbers []int64
	o := objstore.ListOptions{Prefix: l.layout.base + key + l.layout.tail}
	for {
		page, err := l.store.List(ctx, o)
		if err != nil {
			return nil, err
		}
		for _, object := range page.Objects {
			number, err := strconv.ParseInt(object.Key[len(o.Prefix):], 10, 64)
			if err != nil || object.Key != l.layout.slot(key, number) || number < 1 {
				return nil, fault.New(fault.Corrupt, "object %q: want a revision of 10 digits as its name", object.Key)
			}
			numbers = append(numbers, number)
		}
		if o.After = page.Next; o.After == "" {
			return numbers, nil
		}
	}
}

// read reads a revision. NotFound; Corrupt.
func (l Ledger[T]) read(ctx context.Context, key string, number int64) (stored[T], error) {
	slot := l.layout.slot(key, number)
	object, err := l.store.Get(ctx, slot)
	if err != nil {
		return stored[T]{}, err
	}
	s, err := l.parse(key, number, object)
	return s, fault.Wrap(err, "object", slot)
}

// parse reads the bytes of a revision, and sees that they belong where they lie.
func (l Ledger[T]) parse(key string, number int64, object []byte) (stored[T], error) {
	e, err := decode(l.layout.kind, object)
	if err != nil {
		return stored[T]{}, err
	}
	s := stored[T]{Revision: Revision[T]{Number: number, hash: digest(object)}, key: key, envelope: e}
	of, err := l.layout.keyOf(e.Subject)
	switch {
	case err != nil || of != key:
		return stored[T]{}, fault.New(fault.Corrupt, "subject %.80q: it does not belong under %q", e.Subject, key)
	case e.Revision != number:
		return stored[T]{}, fault.New(fault.Corrupt, "revision %d: want %d", e.Revision, number)
	case (number == 1) != (e.Previous == ""):
		return stored[T]{}, fault.New(fault.Corrupt, "previous %.80q: want it in every revision but the first", e.Previous)
	case e.Removed:
		return s, nil
	case len(e.Value) == 0 || string(e.Value) == "null":
		return stored[T]{}, fault.New(fault.Corrupt, "value: missing")
	}
	if err := json.Unmarshal(e.Value, &s.Value); err != nil {
		return stored[T]{}, fault.New(fault.Corrupt, "value: %w", err)
	}
	return s, nil
}

// follows sees that a revision's predecessor is there and is the one that it
// names. NotFound; Corrupt.
func (l Ledger[T]) follows(ctx context.Context, s stored[T]) error {
	slot := l.layout.slot(s.key, s.Number-1)
	object, err := l.store.Get(ctx, slot)
	if err != nil {
		return err
	}
	if got := digest(object); got != s.envelope.Previous {
		return fault.New(fault.Corrupt, "object %s: hash %s: want %s, which its successor names", slot, got, s.envelope.Previous)
	}
	return nil
}

func encodeValue(value any) ([]byte, error) {
	encoded, err := json.Marshal(value)
	if err != nil {
		return nil, fault.New(fault.Invalid, "value: %w", err)
	}
	return encoded, nil
}
