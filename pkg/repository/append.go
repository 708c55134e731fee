package repository

import (
	"context"
	"errors"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
)

const (
	keptRevisions = 16
	// tries bounds how often one creation is tried, or looked after, when the
	// store says that it may succeed; firstPause doubles between them.
	tries      = 6
	firstPause = 5 * time.Millisecond
)

// Append creates the revision that follows previous (the zero Revision: the
// first) and returns it as it is stored. Busy if another took its place; a retry
// after a lost reply recognises its own. After a Transient, Canceled or Deadline
// error the outcome is unknown. Revisions older than the last 16 are removed now
// and then.
func (l Ledger[T]) Append(ctx context.Context, subject string, previous Revision[T], value T) (Revision[T], error) {
	encoded, err := encodeValue(value)
	if err != nil {
		return Revision[T]{}, fault.Wrap(err, "write "+string(l.layout.kind), subject)
	}
	s, err := l.append(ctx, subject, previous, envelope{Value: encoded})
	return s.Revision, fault.Wrap(err, "write "+string(l.layout.kind), subject)
}

func (l Ledger[T]) append(ctx context.Context, subject string, previous Revision[T], e envelope) (stored[T], error) {
	key, err := l.layout.keyOf(subject)
	if err != nil {
		return stored[T]{}, fault.As(fault.Invalid, err)
	}
	if previous.Number == 0 && !l.permanent() {
		if err := l.clearWay(ctx, key); err != nil {
			return stored[T]{}, err
		}
	}
	e.Subject, e.Revision, e.Nonce = subject, previous.Number+1, newNonce()
	e.Previous, e.Written = previous.hash, l.now()
	object, err := encode(l.layout.kind, e)
	if err != nil {
		return stored[T]{}, err
	}
	// What is returned is what a reader would get, so that a reply and its
	// repetition agree.
	s, err := l.parse(key, e.Revision, object)
	if err != nil {
		return stored[T]{}, fault.As(fault.Invalid, err)
	}
	if err := l.create(ctx, s, object); err != nil {
		return stored[T]{}, err
	}
	if s.Number%keptRevisions == 0 {
		l.clean(ctx, s)
	}
	return s, nil
}

// clearWay sees that a first revision can be made. Busy if there is a record.
func (l Ledger[T]) clearWay(ctx context.Context, key string) error {
	s, err := l.newest(ctx, key)
	if err == nil && s.Number != 0 && s.removal() {
		if err = l.takeOver(ctx, s); err == nil {
			s, err = l.newest(ctx, key)
		}
	}
	switch {
	case err != nil:
		return err
	case s.Number != 0 && s.removal():
		return fault.New(fault.Busy, "it is being removed: try again")
	case s.Number != 0:
		return fault.New(fault.Busy, "it exists with revision %d", s.Number)
	}
	return nil
}

// create makes the object of a revision, or finds that an earlier try of its own
// did, and sees that it counts.
func (l Ledger[T]) create(ctx context.Context, s stored[T], object []byte) error {
	slot := l.layout.slot(s.key, s.Number)
	lost := false // an earlier try may have made it
	var err error
	for try := range tries {
		if try > 0 && !pause(ctx, firstPause<<(try-1)) {
			return err
		}
		err = l.store.Create(ctx, slot, object)
		switch {
		case err == nil:
			crashpoint.Here("repository: revision created")
			err = l.counts(ctx, s, lost)
		case fault.Is(err, fault.Exists) && !lost:
			return fault.New(fault.Busy, "revision %d was taken by another", s.Number)
		case fault.Is(err, fault.Exists):
			err = l.mine(ctx, s)
		}
		if !fault.Is(err, fault.Transient) || errors.Is(err, errUnknown) {
			return err
		}
		lost = true
	}
	return err
}

// mine finds out whether the object in a slot is the one that an earlier try
// made. Busy if not.
func (l Ledger[T]) mine(ctx context.Context, s stored[T]) error {
	object, err := l.store.Get(ctx, l.layout.slot(s.key, s.Number))
	switch {
	case fault.Is(err, fault.NotFound):
		return unknown(s.Number)
	case err != nil:
		return err
	case digest(object) == s.hash:
		return l.counts(ctx, s, true)
	case s.Number == 1:
		return fault.New(fault.Busy, "revision 1 was taken by another")
	}
	// As long as the predecessor is there the slot was never cleaned, and its
	// first owner still has it.
	if err := l.follows(ctx, s); fault.Is(err, fault.NotFound) || fault.Is(err, fault.Corrupt) {
		return unknown(s.Number)
	} else if err != nil {
		return err
	}
	return fault.New(fault.Busy, "revision %d was taken by another", s.Number)
}

// counts sees that a revision that this process made is part of the record, and
// not left in a slot that was used and cleaned away before.
func (l Ledger[T]) counts(ctx context.Context, s stored[T], lost bool) error {
	switch {
	case s.Number == 1 && l.permanent():
		return nil
	case s.Number == 1:
		return l.countsFirst(ctx, s)
	}
	err := l.follows(ctx, s)
	if !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.Corrupt) {
		return err
	}
	// The predecessor is gone: before this revision was made, or because so
	// many followed it since. Cleaning ascends, so if this one is still there
	// with no successor, none ever followed.
	next, err := l.read(ctx, s.key, s.Number+1)
	if err == nil && next.envelope.Previous == s.hash {
		return nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	slot := l.layout.slot(s.key, s.Number)
	object, err := l.store.Get(ctx, slot)
	switch {
	case fault.Is(err, fault.NotFound):
		return unknown(s.Number)
	case err != nil:
		return err
	case digest(object) != s.hash:
		return unknown(s.Number)
	}
	if err := l.store.Delete(ctx, slot); err != nil {
		return err
	}
	if lost { // the first try may have counted, and this be what a later one left
		return unknown(s.Number)
	}
	return fault.New(fault.Busy, "revision %d was written and cleaned away meanwhile", s.Number)
}

// countsFirst is counts for a first revision, which has no predecessor: what
// else is there must have followed it.
func (l Ledger[T]) countsFirst(ctx context.Context, s stored[T]) error {
	numbers, err := l.numbers(ctx, s.key)
	if err != nil || len(numbers) == 0 || numbers[len(numbers)-1] == 1 {
		return err
	}
	next, err := l.read(ctx, s.key, 2)
	if err == nil && next.envelope.Previous == s.hash {
		return nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	return unknown(1)
}

// clean removes revisions older than the last that are kept.
func (l Ledger[T]) clean(ctx context.Context, s stored[T]) {
	if err := l.deleteUpTo(ctx, s.key, s.Number-keptRevisions); err != nil {
		klog.FromContext(ctx).V(4).Info("Left old revisions for the next cleaning", "key", s.key, "err", err)
	}
}

// errUnknown marks an outcome that no further try can find out.
var errUnknown = errors.New("the outcome is unknown: read the record again")

func unknown(number int64) error {
	return fault.New(fault.Transient, "revision %d: %w", number, errUnknown)
}

// pause waits, and reports whether ctx lived through it.
func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
