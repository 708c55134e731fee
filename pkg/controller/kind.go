package controller

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
)

// kind is the life of one kind of thing that has a CSI name: volumes, snapshots,
// group snapshots. The package comment tells the protocol.
type kind[R any] struct {
	what    string // "volume", for messages
	names   repository.Ledger[repository.Name]
	records repository.Ledger[R]
	now     func() time.Time

	// facts tells a record's id, its name (empty for a group's member), its
	// state and when it changed.
	facts func(R) facts
	// ended makes the record that is left of a thing, leaving the one of a
	// thing that is being deleted.
	ended   func(id, name string) R
	leaving func(R) R
	// undo erases on the nodes whatever an intent may have made, dispose what a
	// record stands for. Both may be repeated.
	undo    func(context.Context, repository.Name) error
	dispose func(context.Context, R) error
}

type facts struct {
	id, name string
	state    repository.State
	changed  time.Time
}

// phase is how far a creation has come.
type phase int

const (
	free  phase = iota // nothing has the name
	begun              // there is an intent, and no record
	made               // there is a Ready record
)

// found is what a name stands for now.
type found[R any] struct {
	phase  phase
	name   repository.Revision[repository.Name]
	record R
}

// find looks a name up, and finishes an undo that was left. Busy while the thing
// is being deleted.
func (k kind[R]) find(ctx context.Context, subject string) (found[R], error) {
	name, err := k.names.Latest(ctx, subject)
	switch {
	case fault.Is(err, fault.NotFound):
		return found[R]{}, nil
	case err != nil:
		return found[R]{}, err
	case name.Value.Ended:
		return found[R]{name: name}, nil
	}
	record, err := k.records.Latest(ctx, name.Value.ID)
	if fault.Is(err, fault.NotFound) {
		return found[R]{phase: begun, name: name}, k.missing(name.Value)
	}
	if err != nil {
		return found[R]{}, err
	}
	switch k.facts(record.Value).state {
	case repository.Ready:
		completed, err := k.complete(ctx, name.Value)
		if err == nil && completed.Value.ID == name.Value.ID && !completed.Value.Ended {
			return found[R]{made, completed, record.Value}, nil
		}
		if err == nil || fault.Is(err, fault.NotFound) {
			return k.find(ctx, subject) // it was deleted meanwhile
		}
		return found[R]{}, err
	case repository.Ended:
		if err := k.finishUndo(ctx, name.Value); err != nil {
			return found[R]{}, err
		}
		return k.find(ctx, subject)
	}
	return found[R]{}, fault.New(fault.Busy, "%s %s of this name is being deleted: try again later", k.what, name.Value.ID)
}

// take stores the intent of a creation behind what find found. Busy if another
// controller was faster.
func (k kind[R]) take(ctx context.Context, previous repository.Revision[repository.Name], n repository.Name) (repository.Name, error) {
	n.Created = k.now()
	taken, err := k.names.Append(ctx, n.Name, previous, n)
	crashpoint.Here("controller: " + k.what + " intent stored")
	return taken.Value, err
}

// renew makes an intent young again, so that it isn't undone under a retry.
func (k kind[R]) renew(ctx context.Context, n repository.Name) error {
	_, err := k.names.Update(ctx, n.Name, func(current repository.Name) (repository.Name, error) {
		if current.ID != n.ID || current.Ended {
			return current, fault.New(fault.Busy, "another controller ended this attempt: try again")
		}
		current.Created = k.now()
		return current, nil
	})
	return err
}

// commit creates a record's first revision, which is what completes a creation.
// If another was faster, its outcome counts.
func (k kind[R]) commit(ctx context.Context, n repository.Name, record R) (R, error) {
	var none R
	committed, err := k.records.Append(ctx, n.ID, repository.Revision[R]{}, record)
	if fault.Is(err, fault.Busy) {
		record, ok, err := k.outcome(ctx, n)
		if err == nil && !ok {
			err = fault.New(fault.Busy, "another controller undid this attempt: try again")
		}
		return record, err
	}
	if err != nil {
		return none, err
	}
	crashpoint.Here("controller: " + k.what + " record created")
	// A writer that slept until even the Ended record was removed finds that
	// the name does not stand for its id any more.
	current, err := k.complete(ctx, n)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return none, err
	}
	if err == nil && current.Value.ID == n.ID && !current.Value.Ended {
		return committed.Value, nil
	}
	if err := k.delete(ctx, n.ID, func(R) error { return nil }); err != nil {
		return none, err
	}
	return none, fault.New(fault.Busy, "the name ended while this attempt slept: try again")
}

// complete notes in a name that its record is there, if it still stands for the
// id. It comes before anybody is told of it.
func (k kind[R]) complete(ctx context.Context, n repository.Name) (repository.Revision[repository.Name], error) {
	return k.names.Update(ctx, n.Name, func(current repository.Name) (repository.Name, error) {
		if current.ID == n.ID && !current.Ended {
			current.Completed = true
		}
		return current, nil
	})
}

// missing is what is wrong with a name whose record is missing: nothing, unless the
// creation was completed. Then somebody has data under that id, and what was not
// lost of it must not be taken for the rest of an attempt.
func (k kind[R]) missing(n repository.Name) error {
	if !n.Completed {
		return nil
	}
	return fault.New(fault.Corrupt, "the record of %s %s is missing, though its creation was completed: put its objects back into the repository; nothing of it is touched until then", k.what, n.ID)
}

// fail ends an attempt that met a cause. If the work may still run the intent
// stays, for a retry to go on with; otherwise everything is undone first. A
// record is returned if another controller completed the creation meanwhile.
func (k kind[R]) fail(ctx context.Context, n repository.Name, cause error) (R, error) {
	var none R
	if mayRun(cause) {
		return none, cause
	}
	record, ok, err := k.abandon(ctx, n)
	switch {
	case err != nil && mayRun(err):
		return none, fault.New(fault.KindOf(err), "not undone yet: %w (after: %w)", err, cause)
	case err != nil:
		return none, fault.New(fault.Transient, "not undone yet: %w (after: %w)", err, cause)
	case ok:
		return record, nil
	case fault.Is(cause, fault.Fenced), fault.Is(cause, fault.Exists):
		return none, fault.New(fault.Busy, "this attempt was undone: try again: %w", cause)
	}
	return none, cause
}

// abandon takes an intent back: nobody can complete it after the first revision
// of its record says Ended. If somebody did before, the record is returned.
func (k kind[R]) abandon(ctx context.Context, n repository.Name) (record R, ok bool, err error) {
	_, err = k.records.Append(ctx, n.ID, repository.Revision[R]{}, k.ended(n.ID, n.Name))
	if fault.Is(err, fault.Busy) {
		return k.outcome(ctx, n)
	}
	if err != nil {
		return record, false, err
	}
	crashpoint.Here("controller: " + k.what + " undo decided")
	return record, false, k.finishUndo(ctx, n)
}

// outcome finds out what a first revision decided that somebody else created,
// and finishes the undo if it was one. Busy while the thing is being deleted.
func (k kind[R]) outcome(ctx context.Context, n repository.Name) (record R, ok bool, err error) {
	current, err := k.records.Latest(ctx, n.ID)
	if err != nil && !fault.Is(err, fault.NotFound) {
		return record, false, err
	}
	if err == nil && k.facts(current.Value).state == repository.Ready {
		return current.Value, true, nil
	}
	if err == nil && k.facts(current.Value).state == repository.Deleting {
		return record, false, fault.New(fault.Busy, "%s %s is being deleted: try again later", k.what, n.ID)
	}
	return record, false, k.finishUndo(ctx, n)
}

func (k kind[R]) finishUndo(ctx context.Context, n repository.Name) error {
	if err := k.undo(ctx, n); err != nil {
		return err
	}
	crashpoint.Here("controller: " + k.what + " undone on its node")
	return k.endName(ctx, n.Name, n.ID)
}

// delete takes a record by way of Deleting to Ended. allow may refuse it while it
// is Ready. Absent and Ended are success.
func (k kind[R]) delete(ctx context.Context, id string, allow func(R) error) error {
	record, err := k.records.Update(ctx, id, func(r R) (R, error) {
		if k.facts(r).state != repository.Ready {
			return r, nil
		}
		return k.leaving(r), allow(r)
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	if err != nil || k.facts(record.Value).state == repository.Ended {
		return err
	}
	crashpoint.Here("controller: " + k.what + " record says deleting")
	return k.finishDelete(ctx, record.Value)
}

// finishDelete does what is left to do for a Deleting record.
func (k kind[R]) finishDelete(ctx context.Context, record R) error {
	if err := k.dispose(ctx, record); err != nil {
		return err
	}
	crashpoint.Here("controller: " + k.what + " deleted on its node")
	f := k.facts(record)
	if err := k.endName(ctx, f.name, f.id); err != nil {
		return err
	}
	crashpoint.Here("controller: " + k.what + " name ended")
	_, err := k.records.Update(ctx, f.id, func(r R) (R, error) {
		if k.facts(r).state == repository.Ended {
			return r, nil
		}
		return k.ended(f.id, f.name), nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}

// endName ends a name if it still stands for an id.
func (k kind[R]) endName(ctx context.Context, subject, id string) error {
	if subject == "" {
		return nil
	}
	_, err := k.names.Update(ctx, subject, func(n repository.Name) (repository.Name, error) {
		if n.ID != id || n.Ended {
			return n, nil
		}
		return repository.Name{Name: n.Name, ID: n.ID, Ended: true, Created: k.now()}, nil
	})
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
