package retry

import (
	"bytes"
	"context"
	"errors"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Get returns an object whole.
func (s *Store) Get(ctx context.Context, key string) (body []byte, err error) {
	err = s.call(ctx, 0, func(ctx context.Context) error {
		body, err = s.inner.Get(ctx, key)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// GetRange returns a part of an object.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) (body []byte, err error) {
	err = s.call(ctx, max(length, 0), func(ctx context.Context) error {
		body, err = s.inner.GetRange(ctx, key, offset, length)
		return err
	})
	if err != nil {
		return nil, err
	}
	return body, nil
}

// List returns a page of the objects.
func (s *Store) List(ctx context.Context, o objstore.ListOptions) (page objstore.Page, err error) {
	err = s.call(ctx, 0, func(ctx context.Context) error {
		page, err = s.inner.List(ctx, o)
		return err
	})
	if err != nil {
		return objstore.Page{}, err
	}
	return page, nil
}

// Put stores an object, replacing one that is there.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	return s.change(ctx, int64(len(body)), func(ctx context.Context, _ bool) error {
		return s.inner.Put(ctx, key, body)
	})
}

// Create stores an object if there is none.
func (s *Store) Create(ctx context.Context, key string, body []byte) error {
	return s.change(ctx, int64(len(body)), func(ctx context.Context, isUnknown bool) error {
		err := s.inner.Create(ctx, key, body)
		if fault.Is(err, fault.Exists) && isUnknown {
			return s.settle(ctx, key, body, err)
		}
		return err
	})
}

// settle tells, of an object that exists, whether it is what an earlier try of
// ours created.
func (s *Store) settle(ctx context.Context, key string, body []byte, exists error) error {
	stored, err := s.inner.Get(ctx, key)
	switch {
	case err != nil:
		return fault.As(fault.Transient, err) // gone, perhaps
	case bytes.Equal(stored, body):
		return nil
	}
	return exists
}

// maxDelete is how many keys are deleted by one call of the store, so that a try
// is of a bounded size.
const maxDelete = 1000

// Delete removes objects.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objstore.ValidateKey(key); err != nil {
			return fault.Wrap(err, "delete", key)
		}
	}
	for {
		batch := keys[:min(len(keys), maxDelete)]
		err := s.change(ctx, 0, func(ctx context.Context, _ bool) error { return s.inner.Delete(ctx, batch...) })
		if keys = keys[len(batch):]; err != nil || len(keys) == 0 {
			return err
		}
	}
}

// change calls an operation that changes the store. A try is told whether the
// outcome of an earlier one is unknown; then only success and a settled Exists are
// final.
func (s *Store) change(ctx context.Context, size int64, try func(ctx context.Context, isUnknown bool) error) error {
	isUnknown := false
	err := s.call(ctx, size, func(ctx context.Context) error {
		err := try(ctx, isUnknown)
		if passing(err) && !errors.Is(err, objstore.ErrRefused) {
			isUnknown = true
		}
		return err
	})
	if isUnknown && err != nil && !passing(err) && !fault.Is(err, fault.Exists) {
		return fault.As(fault.Transient, err)
	}
	return err
}
