package fault

import (
	"context"
	"errors"
	"fmt"
)

// Kind says what a caller can do about an error.
type Kind uint8

// The kinds. Their numbers travel in the internal API: never renumber one.
const (
	// Internal is a fault of Holkas itself; nothing of the work still runs.
	Internal Kind = 0
	// Invalid is input that can never succeed as it stands.
	Invalid Kind = 1
	// NotFound means that the subject does not exist.
	NotFound Kind = 2
	// Exists means that the subject exists and differs from what was asked.
	Exists Kind = 3
	// InUse means that the subject is held by someone who must let go first.
	InUse Kind = 4
	// Busy means that other work on the subject is under way: try again.
	Busy Kind = 5
	// Exhausted means that there is no room, or no suitable node; everything
	// that the attempt had done is undone.
	Exhausted Kind = 6
	// OutOfRange is a size or an offset beyond what is possible.
	OutOfRange Kind = 7
	// Transient means that it may succeed if tried again, and that the outcome
	// of this attempt may be unknown.
	Transient Kind = 8
	// Fenced means that another writer took over.
	Fenced Kind = 9
	// Corrupt means that stored bytes are not what was written.
	Corrupt Kind = 10
	// Unsupported is an operation that this backend does not have.
	Unsupported Kind = 11
	// Precondition means that the subject's state forbids the operation until
	// the user changes it; the message says how.
	Precondition Kind = 12
	// Canceled and Deadline are the caller's own context ending.
	Canceled Kind = 13
	Deadline Kind = 14
)

var kindNames = [...]string{
	"internal", "invalid", "not found", "exists", "in use", "busy", "exhausted",
	"out of range", "transient", "fenced", "corrupt", "unsupported",
	"precondition", "canceled", "deadline exceeded",
}

// String returns the kind in words.
func (k Kind) String() string {
	if int(k) < len(kindNames) {
		return kindNames[k]
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Error is an error with its kind, the operation that met it and its subject.
type Error struct {
	Kind    Kind
	Op      string // what was being done, in words: "create volume"
	Subject string // what it was done to: an id, a path, a key
	Err     error
}

// Error renders "op subject: cause", leaving out what is empty.
func (e *Error) Error() string {
	switch {
	case e.Op == "" && e.Subject == "":
		return e.Err.Error()
	case e.Subject == "":
		return e.Op + ": " + e.Err.Error()
	case e.Op == "":
		return e.Subject + ": " + e.Err.Error()
	}
	return e.Op + " " + e.Subject + ": " + e.Err.Error()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of a kind. The format may hold %w.
func New(kind Kind, format string, args ...any) error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// Wrap adds an operation and a subject to err and keeps its kind. It returns
// nil for nil.
func Wrap(err error, op, subject string) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: KindOf(err), Op: op, Subject: subject, Err: err}
}

// As gives err a kind that it did not have, or changes the one that it had. It
// returns nil for nil.
func As(kind Kind, err error) error {
	if err == nil {
		return nil
	}
	return &Error{Kind: kind, Err: err}
}

// KindOf returns the kind of the outermost typed error in err's chain, Canceled
// or Deadline for a context's end, and Internal for everything else.
func KindOf(err error) Kind {
	var e *Error
	switch {
	case errors.As(err, &e):
		return e.Kind
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return Deadline
	}
	return Internal
}

// Is reports whether err is of a kind. A nil error is of none.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }
