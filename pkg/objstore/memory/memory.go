// Package memory is an object store in the memory of one process, for tests. It
// follows the contract of pkg/objstore, except that nothing outlives the process.
package memory

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"sync"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Store is an object store in memory. The zero value is empty and ready.
type Store struct {
	mu     sync.RWMutex
	keys   []string // ascending
	bodies map[string][]byte
}

var _ objstore.Store = (*Store)(nil)

// New returns an empty store.
func New() *Store { return new(Store) }

// Get returns a copy of an object.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	if err := admit(ctx, key); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	body, ok := s.bodies[key]
	if !ok {
		return nil, fault.New(fault.NotFound, "object %q: not found", key)
	}
	return bytes.Clone(body), nil
}

// GetRange returns a copy of a part of an object.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := objstore.ValidateRange(offset, length); err != nil {
		return nil, err
	}
	if err := admit(ctx, key); err != nil {
		return nil, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	body, ok := s.bodies[key]
	size := int64(len(body))
	switch {
	case !ok:
		return nil, fault.New(fault.NotFound, "object %q: not found", key)
	case offset >= size:
		return nil, fault.New(fault.OutOfRange, "object %q: offset %d: want less than its %d bytes", key, offset, size)
	}
	return bytes.Clone(body[offset : offset+min(length, size-offset)]), nil
}

// Put stores a copy of body.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	if err := admit(ctx, key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.storeLocked(key, body)
}

// Create stores a copy of body if there is no object yet.
func (s *Store) Create(ctx context.Context, key string, body []byte) error {
	if err := admit(ctx, key); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.bodies[key]; ok {
		return fault.New(fault.Exists, "object %q: exists", key)
	}
	return s.storeLocked(key, body)
}

func (s *Store) storeLocked(key string, body []byte) error {
	i, found := slices.BinarySearch(s.keys, key)
	if !found {
		if err := s.disjointLocked(key); err != nil {
			return err
		}
		s.keys = slices.Insert(s.keys, i, key)
	}
	if s.bodies == nil {
		s.bodies = map[string][]byte{}
	}
	s.bodies[key] = append([]byte{}, body...)
	return nil
}

// disjointLocked refuses a key that is both an object and a prefix of others.
func (s *Store) disjointLocked(key string) error {
	below := key + "/"
	if i, _ := slices.BinarySearch(s.keys, below); i < len(s.keys) && strings.HasPrefix(s.keys[i], below) {
		return fault.New(fault.Invalid, "object key %q: other keys begin with it and a slash", key)
	}
	for i := range key {
		if _, ok := s.bodies[key[:i]]; ok && key[i] == '/' {
			return fault.New(fault.Invalid, "object key %q: its beginning %q is an object", key, key[:i])
		}
	}
	return nil
}

// Delete removes objects.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := admit(ctx, keys...); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, key := range keys {
		if i, found := slices.BinarySearch(s.keys, key); found {
			s.keys = slices.Delete(s.keys, i, i+1)
			delete(s.bodies, key)
		}
	}
	return nil
}

// List returns a page of the objects.
func (s *Store) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	if err := o.Validate(); err != nil {
		return objstore.Page{}, err
	}
	if err := admit(ctx); err != nil {
		return objstore.Page{}, err
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	var page objstore.Page
	var last string
	start, _ := slices.BinarySearch(s.keys, max(o.Prefix, o.After))
	for _, key := range s.keys[start:] {
		if !strings.HasPrefix(key, o.Prefix) {
			break
		}
		entry := fold(key, o)
		if entry <= o.After || entry == last {
			continue
		}
		if len(page.Objects)+len(page.Prefixes) == o.PageSize() {
			page.Next = last
			break
		}
		if last = entry; entry == key {
			page.Objects = append(page.Objects, objstore.Object{Key: key, SizeBytes: int64(len(s.bodies[key]))})
		} else {
			page.Prefixes = append(page.Prefixes, entry)
		}
	}
	return page, nil
}

// fold returns the entry of a listing that a key belongs to.
func fold(key string, o objstore.ListOptions) string {
	rest := key[len(o.Prefix):]
	if i := strings.Index(rest, "/"); i >= 0 && o.Delimiter != "" {
		return key[:len(o.Prefix)+i+1]
	}
	return key
}

func admit(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objstore.ValidateKey(key); err != nil {
			return err
		}
	}
	return fault.Wrap(ctx.Err(), "", "object store")
}
