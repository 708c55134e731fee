package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend/local/internal/durable"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
)

// build makes a volume or a snapshot: its folder under tmp/ with what fill puts
// there and its record, all of it durable, and then renamed into place. Until
// that rename nothing exists; an error undoes everything.
func build[R record.Record](s *store, id, dir string, fill func(tmp string) (R, error)) (r R, err error) {
	tmp := s.tmp(id)
	if err := s.medium.remove(tmp); err != nil { // of an earlier try
		return r, s.wrap(err)
	}
	defer func() {
		if err != nil {
			err = s.wrap(errors.Join(err, s.medium.remove(tmp)))
		}
	}()
	if err := os.Mkdir(tmp, 0o700); err != nil {
		return r, err
	}
	crashpoint.Here("local: folder made")
	if r, err = fill(tmp); err != nil {
		return r, err
	}
	crashpoint.Here("local: disk built")
	if err := syncFile(s.medium.disk(tmp)); err != nil {
		return r, err
	}
	if err := record.Write(meta(tmp), r); err != nil {
		return r, err
	}
	crashpoint.Here("local: record built")
	return r, durable.Rename(tmp, dir)
}

// discard removes a folder of a volume or a snapshot: its id is remembered as
// deleted, the folder moved out of sight, and its content removed. In a pool that
// is too full even for the tombstone, which the deletion is to mend, the record
// becomes the tombstone; if that is too much as well, the data goes first.
func (s *store) discard(id, dir string) error {
	err := durable.Touch(s.tombstone(id))
	if fault.Is(access(err), fault.Exhausted) {
		err = durable.Link(meta(dir), s.tombstone(id))
	}
	full := fault.Is(access(err), fault.Exhausted)
	if err != nil && !full {
		return s.wrap(err)
	}
	crashpoint.Here("local: tombstone written")
	if err := s.medium.remove(s.trash(id)); err != nil { // of an earlier try
		return s.wrap(err)
	}
	if err := durable.Rename(dir, s.trash(id)); err != nil {
		return s.wrap(err)
	}
	crashpoint.Here("local: moved to the trash")
	if err := s.removeTrash(id); err != nil {
		return err
	}
	if full {
		return s.bury(id)
	}
	return nil
}

// removeTrash removes a folder that is out of sight, beside no cut.
func (s *store) removeTrash(id string) error {
	defer s.calm.removal()()
	return s.wrap(s.medium.remove(s.trash(id)))
}

// bury remembers an id that was deleted before it came to exist.
func (s *store) bury(id string) error { return s.wrap(durable.Touch(s.tombstone(id))) }

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// grow extends a disk, with holes.
func grow(path string, sizeBytes int64) error {
	info, err := os.Stat(path)
	if err != nil || info.Size() >= sizeBytes {
		return err
	}
	return os.Truncate(path, sizeBytes)
}

// preallocate fills the holes of a disk from an offset on, and grows it to the
// size. What is there stays as it is.
func preallocate(path string, offset, sizeBytes int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	for {
		err = unix.Fallocate(int(f.Fd()), 0, offset, sizeBytes-offset)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		err = &fs.PathError{Op: "fallocate", Path: path, Err: err}
	}
	return errors.Join(err, f.Close())
}

// removeAll removes a folder and makes that durable.
func removeAll(dir string) error {
	if _, err := os.Lstat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	crashpoint.Here("local: removed")
	return durable.SyncDir(filepath.Dir(dir))
}
