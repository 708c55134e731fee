package repository

import (
	"context"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Revision is one revision of a record. The zero value stands before the first.
type Revision[T any] struct {
	Number int64 // 1, 2, ...
	Value  T
	hash   string // of its bytes; its successor holds it
}

// Ledger keeps records as numbered revisions, each created if absent and each
// holding its predecessor's hash: a compare-and-swap from that one primitive.
// All methods may be called at once, from any number of processes.
type Ledger[T any] struct {
	store  objstore.Store
	now    func() time.Time
	layout layout
	// ended says whether a record with this value may be removed. Nil: none of the
	// ledger's ever is, and its first revision is never cleaned away, so that who
	// creates it needs no second look.
	ended func(T) bool
}

// permanent reports that no record of the ledger is ever removed.
func (l Ledger[T]) permanent() bool { return l.ended == nil }

// Latest returns the newest revision of a subject. NotFound; Corrupt if that
// revision cannot be read or does not follow the one before it.
func (l Ledger[T]) Latest(ctx context.Context, subject string) (Revision[T], error) {
	key, err := l.layout.keyOf(subject)
	if err != nil {
		return Revision[T]{}, err
	}
	s, err := l.newest(ctx, key)
	if err != nil {
		return Revision[T]{}, fault.Wrap(err, "read "+string(l.layout.kind), subject)
	}
	if s.Number == 0 || s.removal() {
		return Revision[T]{}, fault.New(fault.NotFound, "%s %q: no such record", l.layout.kind, subject)
	}
	return s.Revision, nil
}

// List returns the newest revisions of up to limit subjects (1000 for 0) in
// ascending order of their key, those after the key that a previous call
// returned as next; next is empty at the end. For names the key is a hash, for
// others it is the subject. A page may be short or empty before the end, since
// what vanishes meanwhile is passed over. A record that cannot be read fails the
// whole list, so that nobody takes it for deleted. Removals that were
// interrupted long ago are finished on the way.
func (l Ledger[T]) List(ctx context.Context, after string, limit int) (page []Revision[T], next string, err error) {
	o := objstore.ListOptions{Prefix: l.layout.base, Delimiter: "/", Limit: limit}
	if after != "" {
		o.After = l.layout.base + after + "/"
	}
	listed, err := l.store.List(ctx, o)
	if err != nil {
		return nil, "", fault.Wrap(err, "list", l.layout.base)
	}
	if len(listed.Objects) > 0 {
		return nil, "", fault.New(fault.Corrupt, "list %s: object %q: want folders only", l.layout.base, listed.Objects[0].Key)
	}
	for _, prefix := range listed.Prefixes {
		s, err := l.newest(ctx, l.keyIn(prefix))
		switch {
		case err != nil:
			return nil, "", fault.Wrap(err, "list", l.layout.base)
		case s.Number == 0:
		case s.removal():
			if err := l.takeOver(ctx, s); err != nil {
				klog.FromContext(ctx).V(4).Info("Left a removal unfinished", "key", s.key, "err", err)
			}
		default:
			page = append(page, s.Revision)
		}
	}
	return page, l.keyIn(listed.Next), nil
}

// keyIn returns a subject's key from its common prefix.
func (l Ledger[T]) keyIn(prefix string) string {
	return strings.TrimSuffix(strings.TrimPrefix(prefix, l.layout.base), "/")
}

// Update applies change to the newest revision until it wins, within ctx. change
// may be called several times; an error from it ends the update and is returned
// as it is. When change returns a value that is stored in the same bytes,
// nothing is written. NotFound if there is no record. After a Transient error it
// is unknown whether the change was made.
func (l Ledger[T]) Update(ctx context.Context, subject string, change func(T) (T, error)) (Revision[T], error) {
	for {
		current, err := l.Latest(ctx, subject)
		if err != nil {
			return Revision[T]{}, err
		}
		before, err := encodeValue(current.Value) // now: change may share maps and slices with it
		if err != nil {
			return Revision[T]{}, err
		}
		value, err := change(current.Value)
		if err != nil {
			return Revision[T]{}, err
		}
		after, err := encodeValue(value)
		if err != nil {
			return Revision[T]{}, err
		}
		if string(before) == string(after) {
			return current, nil
		}
		next, err := l.Append(ctx, subject, current, value)
		if !fault.Is(err, fault.Busy) {
			return next, err
		}
	}
}
