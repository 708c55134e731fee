package claim

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Deletion is a deletion of a subject that was asked for.
type Deletion struct {
	Subject Subject
	Number  uint64
	Since   time.Time // by the clock of who asked
	Verdict Verdict
}

// String names the deletion, for errors.
func (d Deletion) String() string { return fmt.Sprintf("deletion %d of %s", d.Number, d.Subject) }

func (d Deletion) record(w what, v Verdict, now time.Time) record {
	return record{what: w, verdict: v, number: d.Number, time: now.UTC(), subject: d.Subject}
}

// Trash asks for the deletion of a subject. It joins one that is under way, one
// with a verdict to delete included, and may be called again: the deletion is
// durable when it returns nil. NotFound if the subject was deleted before. holder
// says for people who asks.
func (c Claims) Trash(ctx context.Context, s Subject, holder string) (Deletion, error) {
	for {
		last, err := c.Trashed(ctx, s)
		switch {
		case err == nil && last.Verdict != Restore:
			return last, nil
		case err != nil && !fault.Is(err, fault.NotFound):
			return Deletion{}, err
		}
		switch there, err := c.there(ctx, s.condemned()); {
		case err != nil:
			return Deletion{}, err
		case there:
			return Deletion{}, fault.New(fault.NotFound, "trash %s: it was deleted before", s)
		}
		next := Deletion{Subject: s, Number: last.Number + 1}
		r := next.record(trashed, Undecided, c.Now())
		r.holder = holder
		if err := r.validate(); err != nil {
			return Deletion{}, err
		}
		// If it exists, this call's or another one's, it is found above.
		if err := c.Store.Create(ctx, r.key(), r.encode()); err != nil && !fault.Is(err, fault.Exists) {
			return Deletion{}, fault.Wrap(err, "trash", r.key())
		}
	}
}

// Trashed returns the newest deletion of a subject. NotFound if it has none.
func (c Claims) Trashed(ctx context.Context, s Subject) (Deletion, error) {
	if err := s.Validate(); err != nil {
		return Deletion{}, err
	}
	keys, err := c.list(ctx, s.trash())
	if err != nil {
		return Deletion{}, err
	}
	for i := len(keys) - 1; i >= 0; i-- {
		if strings.HasSuffix(keys[i], verdictSuffix) {
			continue
		}
		d := Deletion{Subject: s}
		if d.Number, err = s.parseNumber(keys[i]); err != nil {
			return Deletion{}, err
		}
		r, err := c.read(ctx, keys[i])
		if err != nil {
			return Deletion{}, err
		}
		d.Since = r.time
		d.Verdict, err = c.verdict(ctx, d)
		return d, err
	}
	return Deletion{}, fault.New(fault.NotFound, "%s: it is not in the trash", s)
}

func (c Claims) verdict(ctx context.Context, d Deletion) (Verdict, error) {
	r, err := c.read(ctx, d.record(decided, Delete, time.Time{}).key())
	if fault.Is(err, fault.NotFound) {
		return Undecided, nil
	}
	return r.verdict, err
}

// decide creates a verdict if there is none, and returns the one that there is.
// One that agrees is this call's own or as good: it is never known whose.
func (c Claims) decide(ctx context.Context, d Deletion, v Verdict) (Verdict, error) {
	r := d.record(decided, v, c.Now())
	if err := r.validate(); err != nil {
		return Undecided, err
	}
	err := c.Store.Create(ctx, r.key(), r.encode())
	if !fault.Is(err, fault.Exists) {
		return v, fault.Wrap(err, "decide", r.key())
	}
	there, err := c.read(ctx, r.key())
	return there.verdict, err
}

// Restore ends a deletion: when it returns nil it deletes nothing, now or later.
// NotFound if it was decided before that the subject goes.
func (c Claims) Restore(ctx context.Context, d Deletion) error {
	v, err := c.decide(ctx, d, Restore)
	gone := v != Restore
	if err == nil && !gone {
		gone, err = c.there(ctx, d.Subject.condemned()) // its verdict may be forgotten
	}
	if err == nil && gone {
		err = fault.New(fault.NotFound, "it is decided that it is deleted")
	}
	return fault.Wrap(err, "restore", d.String())
}

// Condemn carries a deletion on, once the grace period since it was asked for is
// over: it decides that the subject is deleted, and condemns it. When it returns
// nil no claim on the subject can be taken any more, for ever. Busy within the
// grace period; Precondition if it was restored.
func (c Claims) Condemn(ctx context.Context, d Deletion, grace time.Duration) error {
	now := c.Now()
	if since := now.Sub(d.Since); since < grace && d.Verdict != Delete {
		return fault.New(fault.Busy, "condemn %s: it was asked for %s ago: want %s", d, since.Round(time.Second), grace)
	}
	v, err := c.decide(ctx, d, Delete)
	if err == nil && v != Delete {
		if there, e := c.there(ctx, d.Subject.condemned()); e != nil || there {
			return e // the verdict came after the true one was forgotten
		}
		err = fault.New(fault.Precondition, "it was restored")
	}
	if err != nil {
		return fault.Wrap(err, "condemn", d.String())
	}
	r := d.record(condemned, Undecided, now)
	if err := c.Store.Create(ctx, r.key(), r.encode()); err != nil && !fault.Is(err, fault.Exists) {
		return fault.Wrap(err, "condemn", r.key())
	}
	return nil
}

// LetGo is nil if a subject is condemned and no claim on it counts: its data may
// be deleted, now and for ever. Precondition if it is not condemned; InUse, naming
// one that claims it, until the last is released.
func (c Claims) LetGo(ctx context.Context, s Subject) error {
	if err := s.Validate(); err != nil {
		return err
	}
	switch there, err := c.there(ctx, s.condemned()); {
	case err != nil:
		return err
	case !there:
		return fault.New(fault.Precondition, "let %s go: it is not condemned", s)
	}
	live, err := c.Live(ctx, s)
	if err == nil && len(live) > 0 {
		err = fault.New(fault.InUse, "let %s go: %d claims, the first of %s (%s): want none", s, len(live), live[0].Dependent, live[0].Holder)
	}
	return err
}

// Forget removes what a subject that was let go, and whose data is gone, leaves in
// the trash and among the claims. That it is condemned stays.
func (c Claims) Forget(ctx context.Context, s Subject) error {
	if err := c.LetGo(ctx, s); err != nil {
		return err
	}
	for _, prefix := range []string{s.trash(), s.claims()} {
		keys, err := c.list(ctx, prefix)
		if err != nil {
			return err
		}
		for len(keys) > 0 {
			n := min(len(keys), 1000)
			if err := c.Store.Delete(ctx, keys[:n]...); err != nil {
				return fault.Wrap(err, "forget", prefix)
			}
			keys = keys[n:]
		}
	}
	return nil
}
