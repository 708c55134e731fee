package dir

import (
	"context"
	"crypto/rand"
	"errors"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Create stores an object if there is none.
func (s *Store) Create(ctx context.Context, key string, body []byte) error {
	return fault.Wrap(s.store(ctx, key, body, folder.link), "create", key)
}

// Put stores an object, replacing one that is there.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	replace := func(f folder, from, name string) error {
		if err := f.lock(ctx, unix.LOCK_EX); err != nil {
			return err
		}
		defer f.unlock()
		return f.rename(from, name)
	}
	return fault.Wrap(s.store(ctx, key, body, replace), "put", key)
}

// store writes the body to a temporary file and gives that its name.
func (s *Store) store(ctx context.Context, key string, body []byte, name func(f folder, from, name string) error) error {
	if err := admit(ctx, key); err != nil {
		return err
	}
	temporary, err := s.stage(body)
	if temporary != "" {
		defer func() { _ = s.sys.remove(temporary) }()
	}
	if err != nil {
		return err
	}
	crashpoint.Here("dir: temporary file written")
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		again, err := s.place(key, func(f folder) error { return name(f, temporary, path.Base(key)) })
		if !again {
			return err
		}
		if _, err := os.Lstat(temporary); err != nil {
			return s.lost(err)
		}
	}
}

// stage writes a body to a temporary file, durably. It returns the file's path
// if there is a file.
func (s *Store) stage(body []byte) (string, error) {
	temporary := s.temporary()
	f, err := s.sys.create(temporary)
	if err != nil {
		return "", s.lost(err)
	}
	_, err = f.Write(body)
	if err == nil {
		err = f.Sync()
	}
	return temporary, trouble(errors.Join(err, f.Close()))
}

// lost types an error about a temporary file, which may mean that the whole store
// is gone.
func (s *Store) lost(err error) error {
	if err := s.present(); err != nil {
		return err
	}
	return trouble(err)
}

func (s *Store) temporary() string { return filepath.Join(s.staging(), rand.Text()) }

// place enters the folder of a key, gives a file its name there, and makes that
// durable. The folder may be removed by another process in between: again.
func (s *Store) place(key string, name func(folder) error) (again bool, err error) {
	f, err := s.folder(path.Dir(key))
	if err != nil {
		return errors.Is(err, os.ErrNotExist), err
	}
	defer f.Close()
	err = name(f)
	switch {
	case err == nil:
		crashpoint.Here("dir: object named")
	case errors.Is(err, os.ErrNotExist):
		return true, err
	case s.isFolder(key):
		return false, fault.New(fault.Invalid, "other keys begin with it and a slash")
	case !errors.Is(err, os.ErrExist):
		return false, trouble(err)
	}
	// An object that is there may be another's that is not durable yet, or our
	// caller's own, of a try whose sync failed.
	if err := f.Sync(); err != nil {
		return false, trouble(err)
	}
	if err != nil {
		return false, fault.As(fault.Exists, err)
	}
	return false, nil
}

// folder opens the folder of a prefix, and makes it, and sees that it is durable.
// An error that is os.ErrNotExist is another process removing it meanwhile.
func (s *Store) folder(prefix string) (folder, error) {
	f, err := s.sys.enter(s.path(prefix))
	if errors.Is(err, os.ErrNotExist) && prefix != "." {
		if err := s.within(path.Dir(prefix), func(parent folder) error { return parent.mkdir(path.Base(prefix)) }); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, err
		}
		crashpoint.Here("dir: folder made")
		f, err = s.sys.enter(s.path(prefix))
	}
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return nil, fault.New(fault.Invalid, "its beginning %q is an object", prefix)
	case err != nil:
		return nil, trouble(err)
	case prefix == ".":
		return f, nil
	}
	if err := s.settle(f, prefix); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// settle makes a folder's name durable, unless it is.
func (s *Store) settle(f folder, prefix string) error {
	settled, err := f.settled()
	if settled || err != nil {
		return trouble(err)
	}
	if err := s.within(path.Dir(prefix), folder.Sync); err != nil {
		return err
	}
	return trouble(f.settle())
}

func (s *Store) within(prefix string, do func(folder) error) error {
	f, err := s.folder(prefix)
	if err != nil {
		return err
	}
	defer f.Close()
	return trouble(do(f))
}

func (s *Store) isFolder(key string) bool {
	info, err := os.Lstat(s.path(key))
	return err == nil && info.IsDir()
}

// Delete removes objects, and the folders that become empty.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	if err := admit(ctx, keys...); err != nil {
		return fault.Wrap(err, "delete", "")
	}
	for _, key := range keys {
		if err := ctx.Err(); err != nil {
			return fault.Wrap(err, "delete", key)
		}
		if err := s.delete(key); err != nil {
			return fault.Wrap(err, "delete", key)
		}
	}
	return fault.Wrap(s.present(), "delete", "")
}

func (s *Store) delete(key string) error {
	prefix := path.Dir(key)
	f, err := s.sys.enter(s.path(prefix))
	if isAbsent(err) {
		return nil // a folder goes only after its objects went durably
	}
	if err != nil {
		return trouble(err)
	}
	defer f.Close()
	if err := f.unlink(path.Base(key)); err != nil && !isAbsent(err) {
		return trouble(err)
	}
	crashpoint.Here("dir: object unlinked")
	if err := f.Sync(); err != nil {
		return trouble(err)
	}
	s.prune(prefix)
	return nil
}

// prune removes empty folders upwards. A folder that stays, or comes back with a
// power loss, is only untidy.
func (s *Store) prune(prefix string) {
	for ; prefix != "."; prefix = path.Dir(prefix) {
		parent, err := s.sys.enter(s.path(path.Dir(prefix)))
		if err != nil {
			return
		}
		err = parent.rmdir(path.Base(prefix))
		parent.Close()
		if err != nil {
			return
		}
	}
}

// isAbsent reports an error that means that no object has such a key: nothing is
// there, or a part of the key is an object, or the key is a folder.
func isAbsent(err error) bool {
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.EISDIR)
}

func admit(ctx context.Context, keys ...string) error {
	for _, key := range keys {
		if err := objstore.ValidateKey(key); err != nil {
			return err
		}
	}
	return ctx.Err()
}
