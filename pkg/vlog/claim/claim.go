package claim

import (
	"context"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Claims are the claims and deletions of a repository. Methods may be called at
// once, by any number of processes.
type Claims struct {
	Store objstore.Store
	Now   func() time.Time
}

// Claim says that a dependent needs a subject.
type Claim struct {
	Subject   Subject
	Dependent string     // an id that is never used again: a log's, a snapshot's, a repository's
	Nonce     vlog.Nonce // of this try, from the dependent's durable intent
	Holder    string     // for people: who to ask
	// From is, in a claim on a log, the position of the checkpoint from which on
	// all of it is needed; zero if it is not to be collected at all.
	From vlog.Position
	// Ends, if not zero, is when the claim counts no longer.
	Ends time.Time
}

func (c Claim) record(w what, now time.Time) record {
	r := record{what: w, nonce: c.Nonce, time: now.UTC(), subject: c.Subject, dependent: c.Dependent, holder: c.Holder}
	if w == claimed {
		r.from, r.ends = c.From, instant(nanoseconds(c.Ends))
	}
	return r
}

func (r record) claim() Claim {
	return Claim{Subject: r.subject, Dependent: r.dependent, Nonce: r.nonce, Holder: r.holder, From: r.from, Ends: r.ends}
}

// Take claims a subject. When it returns nil the subject's data stays until the
// claim is released or ends. It may be called again, with the same claim. present
// looks whether the subject is there: NotFound if not; for a claim on a log from
// a position, whether that is the newest checkpoint's still (garbage.Newest).
//
// NotFound if the subject is condemned or gone, and Precondition if the claim was
// released: nothing of the claim counts then. Exists if the claim is another one.
// After any other error it may count: it is to be taken again, or released.
func (c Claims) Take(ctx context.Context, of Claim, present func(context.Context) error) error {
	r := of.record(claimed, c.Now())
	if err := r.validate(); err != nil {
		return err
	}
	key := r.key()
	err := c.Store.Create(ctx, key, r.encode())
	if fault.Is(err, fault.Exists) {
		there, e := c.read(ctx, key)
		switch {
		case fault.Is(e, fault.NotFound): // released in between
			err = nil
		case e != nil:
			return e
		case there.claim() != r.claim():
			return fault.Wrap(err, "claim", key)
		default:
			err = nil
		}
	}
	if err != nil {
		return fault.Wrap(err, "claim", key)
	}
	return fault.Wrap(c.look(ctx, of, present), "claim", key)
}

// look is what follows the creation of a claim.
func (c Claims) look(ctx context.Context, of Claim, present func(context.Context) error) error {
	switch there, err := c.there(ctx, of.record(released, time.Time{}).key()); {
	case err != nil:
		return err
	case there:
		return c.withdraw(ctx, of, fault.New(fault.Precondition, "it was released: want a claim with a nonce of its own"))
	}
	switch there, err := c.there(ctx, of.Subject.condemned()); {
	case err != nil:
		return err
	case there:
		return c.withdraw(ctx, of, fault.New(fault.NotFound, "%s is condemned", of.Subject))
	}
	err := present(ctx)
	if fault.Is(err, fault.NotFound) {
		return c.withdraw(ctx, of, err)
	}
	return err
}

// withdraw releases a claim that came to nothing, and returns why it did.
func (c Claims) withdraw(ctx context.Context, of Claim, why error) error {
	if err := c.Release(ctx, of); err != nil {
		return err
	}
	return why
}

// Release gives a claim back, taken or not: when it returns nil it does not count
// and never will, whatever requests for it are under way. It may be called again.
func (c Claims) Release(ctx context.Context, of Claim) error {
	r := of.record(released, c.Now())
	if err := r.validate(); err != nil {
		return err
	}
	if err := c.Store.Create(ctx, r.key(), r.encode()); err != nil && !fault.Is(err, fault.Exists) {
		return fault.Wrap(err, "release", r.key())
	}
	r.what = claimed
	return fault.Wrap(c.Store.Delete(ctx, r.key()), "release", r.key())
}

// Live returns the claims on a subject that count. It costs a listing of the
// subject's claims, and a read of each.
func (c Claims) Live(ctx context.Context, s Subject) ([]Claim, error) {
	if err := s.Validate(); err != nil {
		return nil, err
	}
	keys, err := c.list(ctx, s.claims())
	if err != nil {
		return nil, err
	}
	gone := map[string]bool{}
	for _, key := range keys {
		if name, ok := strings.CutSuffix(key, releasedSuffix); ok {
			gone[name] = true
		}
	}
	var live []Claim
	now := c.Now()
	for _, key := range keys {
		if gone[key] || strings.HasSuffix(key, releasedSuffix) {
			continue
		}
		r, err := c.read(ctx, key)
		switch {
		case fault.Is(err, fault.NotFound): // released in between: only that deletes it
			continue
		case err != nil:
			return nil, err
		case r.what != claimed:
			return nil, fault.New(fault.Corrupt, "%s: got a record of kind %d, want a claim", key, r.what)
		}
		if r.ends.IsZero() || now.Before(r.ends) {
			live = append(live, r.claim())
		}
	}
	return live, nil
}

func (c Claims) read(ctx context.Context, key string) (record, error) {
	object, err := c.Store.Get(ctx, key)
	if err != nil {
		return record{}, fault.Wrap(err, "read", key)
	}
	return decode(object, key)
}

// there reports whether a record exists. What exists but is damaged exists.
func (c Claims) there(ctx context.Context, key string) (bool, error) {
	_, err := c.Store.Get(ctx, key)
	switch {
	case fault.Is(err, fault.NotFound):
		return false, nil
	case err != nil:
		return false, fault.Wrap(err, "look", key)
	}
	return true, nil
}

func (c Claims) list(ctx context.Context, prefix string) (keys []string, err error) {
	o := objstore.ListOptions{Prefix: prefix}
	for {
		page, err := c.Store.List(ctx, o)
		if err != nil {
			return nil, fault.Wrap(err, "list", prefix)
		}
		for _, object := range page.Objects {
			keys = append(keys, object.Key)
		}
		if page.Next == "" {
			return keys, nil
		}
		o.After = page.Next
	}
}
