package repository

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
)

const (
	// removalBound is how long after it has looked a process may delete.
	removalBound = time.Minute
	// takeoverAge is how old a removal is before another process may take it
	// over: long enough that its owner has surely stopped, whatever their clocks.
	takeoverAge = 5 * time.Minute
)

// Remove removes every revision of a subject, the oldest first. Absent is
// success. Precondition unless the newest revision has ended (a node: is
// retired); Busy if another writer changed it just now.
//
// It is for records that ended minutes ago or more, so that no writer is still
// at work with what it read before. From its first step on, the subject is
// NotFound. If it is interrupted, the rest is finished by a later List, or by
// the Append that makes the subject's next first revision.
func (l Ledger[T]) Remove(ctx context.Context, subject string) error {
	return fault.Wrap(l.remove(ctx, subject), "remove "+string(l.layout.kind), subject)
}

func (l Ledger[T]) remove(ctx context.Context, subject string) error {
	key, err := l.layout.keyOf(subject)
	if err != nil {
		return err
	}
	s, err := l.newest(ctx, key)
	switch {
	case err != nil || s.Number == 0:
		return err
	case s.removal():
		return l.takeOver(ctx, s)
	case l.permanent():
		return fault.New(fault.Precondition, "its kind of record is never removed")
	case !l.ended(s.Value):
		return fault.New(fault.Precondition, "its revision %d has not ended: want one that has", s.Number)
	}
	return l.erase(ctx, s)
}

// takeOver finishes a removal whose owner has surely stopped; a younger one is
// its owner's.
func (l Ledger[T]) takeOver(ctx context.Context, s stored[T]) error {
	if l.now().Sub(s.envelope.Written) < takeoverAge {
		return nil
	}
	if err := l.erase(ctx, s); !fault.Is(err, fault.Busy) {
		return err
	}
	return nil
}

// erase follows a revision with a removal, which one process can create, and
// then deletes all up to it.
func (l Ledger[T]) erase(ctx context.Context, s stored[T]) error {
	ctx, cancel := context.WithTimeout(ctx, removalBound)
	defer cancel()
	removal, err := l.append(ctx, s.envelope.Subject, s.Revision, envelope{Removed: true})
	if err != nil {
		return err
	}
	crashpoint.Here("repository: removal recorded")
	return l.deleteUpTo(ctx, removal.key, removal.Number)
}

// deleteUpTo deletes a record's revisions in ascending order up to a number. It
// gives up after removalBound.
func (l Ledger[T]) deleteUpTo(ctx context.Context, key string, number int64) error {
	ctx, cancel := context.WithTimeout(ctx, removalBound)
	defer cancel()
	numbers, err := l.numbers(ctx, key)
	if err != nil {
		return err
	}
	for _, n := range numbers {
		if n > number {
			break
		}
		if n == 1 && l.permanent() {
			continue
		}
		if err := l.store.Delete(ctx, l.layout.slot(key, n)); err != nil {
			return err
		}
		crashpoint.Here("repository: revision deleted")
	}
	return nil
}
