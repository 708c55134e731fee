package dir

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Get returns an object whole.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	if err := admit(ctx, key); err != nil {
		return nil, fault.Wrap(err, "get", key)
	}
	body, err := os.ReadFile(s.path(key))
	if err != nil {
		return nil, fault.Wrap(s.unread(err), "get", key)
	}
	return body, nil
}

// GetRange returns a part of an object.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	body, err := s.getRange(ctx, key, offset, length)
	return body, fault.Wrap(err, "get", key)
}

func (s *Store) getRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := objstore.ValidateRange(offset, length); err != nil {
		return nil, err
	}
	if err := admit(ctx, key); err != nil {
		return nil, err
	}
	f, err := os.Open(s.path(key))
	if err != nil {
		return nil, s.unread(err)
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, trouble(err)
	case info.IsDir():
		return nil, s.unread(os.ErrNotExist)
	case offset >= info.Size():
		return nil, fault.New(fault.OutOfRange, "offset %d: want less than its %d bytes", offset, info.Size())
	}
	// The file's bytes never change: a replaced object is another file.
	body := make([]byte, min(length, info.Size()-offset))
	if _, err := f.ReadAt(body, offset); err != nil && !errors.Is(err, io.EOF) {
		return nil, trouble(err)
	}
	return body, nil
}

// unread types an error of a read: an object that is absent is NotFound, but only
// if the store is there.
func (s *Store) unread(err error) error {
	if !isAbsent(err) {
		return trouble(err)
	}
	if err := s.present(); err != nil {
		return err
	}
	return fault.New(fault.NotFound, "no such object")
}
