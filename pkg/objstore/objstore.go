package objstore

import (
	"context"
	"regexp"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Store keeps objects. All methods may be called from several goroutines and
// several processes. Errors are of package fault; a Transient one from Put,
// Create or Delete leaves the outcome unknown. Reads see every write that
// returned before they began, List included.
type Store interface {
	// Get returns an object whole. The caller owns the bytes. NotFound.
	Get(ctx context.Context, key string) ([]byte, error)
	// GetRange returns length bytes from offset on, fewer only where the object
	// ends. NotFound; OutOfRange if offset is at or beyond the end.
	GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error)
	// Put stores an object, replacing one that is there. It is durable, and
	// visible whole or not at all. The store does not keep body.
	Put(ctx context.Context, key string, body []byte) error
	// Create stores an object if there is none; Exists if there is one. It is
	// durable, and visible whole or not at all. The store does not keep body.
	Create(ctx context.Context, key string, body []byte) error
	// Delete removes objects; absent ones are success.
	Delete(ctx context.Context, keys ...string) error
	// List returns the objects under a prefix in ascending bytewise order of
	// key, a page at a time.
	List(ctx context.Context, o ListOptions) (Page, error)
}

// ListOptions says what to list.
type ListOptions struct {
	// Prefix is what keys begin with: any string that a key can begin with.
	Prefix string
	// After, if not empty, is a key or common prefix: what follows it is listed.
	After string
	// Delimiter, "/" or empty, folds the keys that have it behind the prefix
	// into one common prefix each.
	Delimiter string
	// Limit bounds objects and common prefixes together; 0 means 1000.
	Limit int
}

// Page is a part of a listing.
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
// No key may be both an object and the beginning, up to a slash, of another.
func ValidateKey(key string) error {
	if len(key) > MaxKeyBytes || !validKey.MatchString(key) {
		return fault.New(fault.Invalid, "object key %.80q: want slash-separated parts of letters, digits, '.', '_', '=' and '-', none beginning with '.', at most %d bytes", key, MaxKeyBytes)
	}
	return nil
}
