package objstore

import (
	"context"
	"errors"
	"regexp"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Store keeps objects. All methods may be called from several goroutines and
// several processes. Errors are of package fault. A key or an option that breaks
// a rule is Invalid, and a context that had ended before the call is Canceled or
// Deadline: neither changes anything. A Transient, Canceled or Deadline error
// that comes later from Put, Create or Delete leaves the outcome unknown. Reads
// see every write that returned before they began, List included. A store that
// cannot be reached, or that refuses, is Transient, never NotFound or an empty
// page.
type Store interface {
	// Get returns an object whole. The caller owns the bytes. NotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// GetRange returns length bytes from offset on, fewer only where the object
	// ends. The caller owns the bytes. NotFound; OutOfRange if offset is at or
	// beyond the end; Invalid if offset is negative or length is not positive.
	GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// Put stores an object, replacing one that is there. When it returns nil the
	// object is durable; it is visible whole or not at all, and one that is
	// replaced never disappears. The store does not keep body.
	Put(ctx context.Context, key string, body []byte) error
	// Create stores an object if there is none; Exists if there is one, which is
	// then durable too. When it returns nil the object is durable; it is visible
	// whole or not at all. The store does not keep body.
	Create(ctx context.Context, key string, body []byte) error
	// Delete removes objects; absent ones are success. It stops at an invalid
	// key before it removes anything. When it fails later, any part of the work
	// may be done.
	Delete(ctx context.Context, keys ...string) error
	// List returns the objects under a prefix in ascending bytewise order of
	// key, a page at a time. What is created or deleted while pages are read may
	// be in them or not; everything else is in exactly one of them.
	List(ctx context.Context, o ListOptions) (Page, error)
}

// Two causes of a Transient error that say when to try again. They are found in
// it with errors.Is.
var (
	// ErrSlowDown means that the store asks for fewer requests.
	ErrSlowDown = errors.New("the store asks for fewer requests")
	// ErrRefused means that the store changed nothing, and will refuse again until
	// somebody mends what the error names: credentials, a policy, the bucket's
	// name, a clock.
	ErrRefused = errors.New("the store refuses")
)

// MaxPage bounds a page of a listing: objects and common prefixes together.
const MaxPage = 1000

// ListOptions says what to list. An entry is a key or, with a Delimiter, a
// common prefix; entries are ordered and compared bytewise by their names.
type ListOptions struct {
	// Prefix is what keys begin with: any string that a key can begin with.
	Prefix string
	// After, if not empty, is an entry, which need not exist: those whose names
	// are greater are listed. As a common prefix it skips all that it stands for.
	After string
	// Delimiter, "/" or empty, folds the keys that have it behind the prefix
	// into one common prefix each.
	Delimiter string
	// Limit bounds the entries of the page; 0 or more than MaxPage mean MaxPage.
	Limit int
}

// PageSize returns the number of entries that a page has at most.
func (o ListOptions) PageSize() int {
	if o.Limit == 0 {
		return MaxPage
	}
	return min(o.Limit, MaxPage)
}

// Validate reports options that break the rules, as Invalid.
func (o ListOptions) Validate() error {
	switch {
	case !beginsKey(o.Prefix):
		return fault.New(fault.Invalid, "list prefix %.80q: no key can begin so", o.Prefix)
	case !beginsKey(o.After):
		return fault.New(fault.Invalid, "list after %.80q: want a key or a common prefix", o.After)
	case o.Delimiter != "" && o.Delimiter != "/":
		return fault.New(fault.Invalid, `list delimiter %.80q: want "/" or none`, o.Delimiter)
	case o.Limit < 0:
		return fault.New(fault.Invalid, "list limit %d: want 0 or more", o.Limit)
	}
	return nil
}

func beginsKey(s string) bool {
	return s == "" || ValidateKey(s) == nil || ValidateKey(s+"a") == nil
}

// ValidateRange reports a range that GetRange refuses, as Invalid.
func ValidateRange(offset, length int64) error {
	if offset < 0 || length <= 0 {
		return fault.New(fault.Invalid, "range of %d bytes from %d: want 1 or more bytes from 0 or above", length, offset)
	}
	return nil
}

// Page is a part of a listing. It may be shorter than asked for.
type Page struct {
	Objects  []Object
	Prefixes []string // common prefixes, each ending with the delimiter
	// Next is what to pass as After to go on; empty at the end.
	Next string
}

// Object is an entry of a listing.
type Object struct {
	Key       string
	SizeBytes int64
}

// MaxKeyBytes is the longest key.
const MaxKeyBytes = 512

var validKey = regexp.MustCompile(`^[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,127}(/[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,127})*$`)

// ValidateKey reports a key that is not 1 to 512 bytes of slash-separated parts
// of 1 to 128 letters, digits, '.', '_', '=' and '-', none beginning with '.'.
// No key may be both an object and the beginning, up to a slash, of another; a
// store that notices one refuses it as Invalid, but need not notice.
func ValidateKey(key string) error {
	if len(key) > MaxKeyBytes || !validKey.MatchString(key) {
		return fault.New(fault.Invalid, "object key %.80q: want slash-separated parts of letters, digits, '.', '_', '=' and '-', none beginning with '.', at most %d bytes", key, MaxKeyBytes)
	}
	return nil
}
