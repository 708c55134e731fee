package dir

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

const (
	// stagingName is the reserved folder; no key begins with a dot.
	stagingName = ".tmp"
	// staleAge is how old a temporary file must be to be what a crash left, and
	// not what another process is writing.
	staleAge = time.Hour
)

// Options of Open.
type Options struct {
	// Root is the directory of the store, an absolute path.
	Root string
	// Create makes a store where Root does not exist or is empty. Without it
	// Root must be a store already: a directory that is not mounted is not taken
	// for a new one.
	Create bool
}

// Validate reports all faults of the options, as Invalid.
func (o Options) Validate() error {
	if !filepath.IsAbs(o.Root) {
		return fault.New(fault.Invalid, "store directory %q: want an absolute path", o.Root)
	}
	return nil
}

// Store is an object store in a directory.
type Store struct {
	root string
	sys  system
}

var _ objstore.Store = (*Store)(nil)

// Open opens the store in a directory, and removes temporary files that a crash
// left there long ago. NotFound if the directory holds no store; Invalid if it
// holds something else; Unsupported if its filesystem cannot carry a store.
func Open(ctx context.Context, o Options) (*Store, error) {
	return open(ctx, o, kernel{})
}

func open(ctx context.Context, o Options, sys system) (*Store, error) {
	if err := errors.Join(o.Validate(), ctx.Err()); err != nil {
		return nil, fault.Wrap(err, "open store", o.Root)
	}
	s := &Store{root: filepath.Clean(o.Root), sys: sys}
	err := s.present()
	if o.Create && fault.Is(err, fault.Transient) {
		err = s.make()
	} else if fault.Is(err, fault.Transient) {
		err = fault.As(fault.NotFound, err)
	}
	if err == nil {
		err = s.probe()
	}
	if err == nil {
		err = s.sweep()
	}
	if err != nil {
		return nil, fault.Wrap(err, "open store", o.Root)
	}
	return s, nil
}

// path returns the file of a key or the folder of a prefix.
func (s *Store) path(key string) string { return filepath.Join(s.root, filepath.FromSlash(key)) }

func (s *Store) staging() string { return filepath.Join(s.root, stagingName) }

// present tells "no such object" from "no such store": Transient if the root is
// not a store, or not any more.
func (s *Store) present() error {
	info, err := os.Stat(s.staging())
	switch {
	case errors.Is(err, os.ErrNotExist), errors.Is(err, syscall.ENOTDIR), err == nil && !info.IsDir():
		return fault.New(fault.Transient, "directory %s holds no store (no folder %s): is its filesystem mounted?", s.root, stagingName)
	}
	return trouble(err)
}

// make makes the root, unless it exists and is empty, into a store.
func (s *Store) make() error {
	parent, err := s.sys.enter(filepath.Dir(s.root))
	if err != nil {
		return trouble(err)
	}
	defer parent.Close()
	if err := parent.mkdir(filepath.Base(s.root)); err != nil && !errors.Is(err, os.ErrExist) {
		return trouble(err)
	}
	if err := s.vacant(); err != nil {
		return err
	}
	if err := parent.Sync(); err != nil {
		return trouble(err)
	}
	root, err := s.sys.enter(s.root)
	if err != nil {
		return trouble(err)
	}
	defer root.Close()
	if settled, err := root.settled(); err != nil {
		return trouble(err)
	} else if !settled {
		if err := root.settle(); err != nil {
			return trouble(err)
		}
	}
	if err := root.mkdir(stagingName); err != nil && !errors.Is(err, os.ErrExist) {
		return trouble(err)
	}
	return trouble(root.Sync())
}

// vacant reports a root that holds anything that a new filesystem does not.
func (s *Store) vacant() error {
	entries, err := os.ReadDir(s.root)
	if errors.Is(err, syscall.ENOTDIR) {
		return fault.New(fault.Invalid, "want a directory")
	}
	harmless := []string{stagingName, "lost+found"} // the first: another process is making it a store
	for _, entry := range entries {
		if !slices.Contains(harmless, entry.Name()) {
			return fault.New(fault.Invalid, "it holds %q but no store: want an empty directory", entry.Name())
		}
	}
	return trouble(err)
}

// probe sees that the filesystem has what the store stands on: a hard link with
// one winner, and a folder's sticky bit.
func (s *Store) probe() error {
	staging, err := s.sys.enter(s.staging())
	if err != nil {
		return trouble(err)
	}
	defer staging.Close()
	from, name := s.temporary(), filepath.Base(s.temporary())
	f, err := s.sys.create(from)
	if err != nil {
		return trouble(err)
	}
	defer func() { _ = s.sys.remove(from) }()
	if err := f.Close(); err != nil {
		return trouble(err)
	}
	if err := staging.link(from, name); errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EOPNOTSUPP) {
		return fault.New(fault.Unsupported, "its filesystem must have hard links: %w", err)
	} else if err != nil {
		return trouble(err)
	}
	defer func() { _ = staging.unlink(name) }()
	if err := staging.link(from, name); err == nil {
		return fault.New(fault.Unsupported, "its filesystem must refuse a second link of one name")
	} else if !errors.Is(err, os.ErrExist) {
		return trouble(err)
	}
	return s.probeFolder(staging)
}

func (s *Store) probeFolder(staging folder) error {
	path := s.temporary()
	if err := staging.mkdir(filepath.Base(path)); err != nil {
		return trouble(err)
	}
	defer func() { _ = staging.rmdir(filepath.Base(path)) }()
	f, err := s.sys.enter(path)
	if err != nil {
		return trouble(err)
	}
	defer f.Close()
	settled, err := f.settled()
	if settled {
		return fault.New(fault.Unsupported, "its filesystem must keep a folder's sticky bit")
	}
	return trouble(err)
}

// sweep removes what crashes left in the staging folder.
func (s *Store) sweep() error {
	entries, err := os.ReadDir(s.staging())
	if err != nil {
		return trouble(err)
	}
	for _, entry := range entries {
		info, err := entry.Info()
		if err != nil || time.Since(info.ModTime()) < staleAge {
			continue // gone already, or still being written
		}
		if err := s.sys.remove(filepath.Join(s.staging(), entry.Name())); err != nil && !errors.Is(err, os.ErrNotExist) {
			return trouble(err)
		}
	}
	return nil
}

// trouble types an error of the operating system. Whatever it is, it is the
// filesystem's state, and may change; the message says what to look at.
func trouble(err error) error {
	switch {
	case err == nil, errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.Is(err, syscall.EROFS):
		return fault.New(fault.Transient, "the store's filesystem is mounted read-only: want it writable: %w", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return fault.New(fault.Transient, "the store's filesystem is full: free some space: %w", err)
	}
	return fault.As(fault.Transient, err)
}
