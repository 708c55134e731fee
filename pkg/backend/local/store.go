package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend/local/internal/durable"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// store is an open pool.
type store struct {
	layout
	name   string
	pool   record.Pool
	medium medium
	// lock is the pool's folder with this process's lock on it. Open, it also
	// keeps the filesystem from being unmounted under us.
	lock  *os.File
	file  fs.FileInfo // of the pool's file, as it was opened
	space space
	cuts  cutTimes
	swept sweepTime
	calm  calm
}

// openStore opens the pool in a folder, and makes one where the folder holds
// nothing and no pool is expected. lastID, if not empty, is the id of the pool
// that must be there. Transient: it is not there now. InUse: another engine has
// it. Precondition: it cannot be a pool. Corrupt: its file cannot be read.
func openStore(root, name, lastID string, now time.Time) (*store, error) {
	l := layout(root)
	m, err := mediumAt(root)
	if err != nil {
		return nil, err
	}
	lock, err := lockFolder(root)
	if err != nil {
		return nil, err
	}
	s := &store{layout: l, name: name, medium: m, lock: lock}
	s.space.medium = m
	if err := s.identify(lastID, now); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// identify reads the pool's file, or makes the pool.
func (s *store) identify(lastID string, now time.Time) error {
	l := s.layout
	p, err := record.Read[record.Pool](l.poolFile())
	switch {
	case fault.Is(err, fault.NotFound) && lastID != "":
		return fault.New(fault.Transient, "%s is missing, so pool %s is not mounted here: mount it", l.poolFile(), lastID)
	case fault.Is(err, fault.NotFound):
		p, err = makePool(l, s.name, s.medium.poolType(), now)
	}
	if err != nil {
		return access(err)
	}
	if lastID != "" && p.ID != lastID {
		return fault.New(fault.Transient, "%s is of pool %s: want pool %s, which was here before: mount that one", l.poolFile(), p.ID, lastID)
	}
	if is := s.medium.poolType(); p.Type != is {
		return fault.New(fault.Corrupt, "%s says type %q, but the filesystem is %s: a copied pool is no pool", l.poolFile(), p.Type, is)
	}
	s.pool = p
	s.file, err = os.Stat(l.poolFile())
	return access(err)
}

// makePool turns an empty folder into a pool. The pool's file comes last; what a
// crash before it left is recognised as empty.
func makePool(l layout, name string, as volume.PoolType, now time.Time) (record.Pool, error) {
	entries, err := os.ReadDir(string(l))
	if err != nil {
		return record.Pool{}, err
	}
	for _, e := range entries {
		if !blank(l, e.Name()) {
			return record.Pool{}, fault.New(fault.Precondition, "%s holds %q and no %s: want a pool, or an empty folder to make one in", l, e.Name(), poolFile)
		}
	}
	if err := canShare(string(l)); err != nil {
		return record.Pool{}, err
	}
	for _, folder := range folders {
		if err := os.Mkdir(l.folder(folder), 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return record.Pool{}, err
		}
	}
	if err := durable.SyncDir(string(l)); err != nil {
		return record.Pool{}, err
	}
	crashpoint.Here("local: pool's folders made")
	id := strings.TrimPrefix(string(volume.NewID()), "v-")
	p := record.Pool{ID: id, Name: name, Type: as, CreatedAt: now.UTC()}
	return p, record.Write(l.poolFile(), p)
}

// blank reports whether an entry of a folder is nothing but the rest of an
// interrupted makePool or a filesystem's own.
func blank(l layout, entry string) bool {
	if entry == "lost+found" || entry == poolFile+".new" || entry == shareProbe {
		return true
	}
	inside, err := os.ReadDir(l.folder(entry))
	return slices.Contains(folders, entry) && err == nil && len(inside) == 0
}

// lockFolder keeps other engines out of a pool, also of one that is only being
// made, and by whatever path they come.
func lockFolder(path string) (*os.File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, access(err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fault.New(fault.InUse, "%s is locked: another engine uses this pool: stop it, or give this one a pool of its own", path)
	}
	return f, nil
}

// present reports that the pool's path no longer leads to the pool that was
// opened.
func (s *store) present() error {
	there, err := os.Stat(s.poolFile())
	if err != nil {
		return fmt.Errorf("it vanished: %w: mount it again", err)
	}
	if !os.SameFile(s.file, there) {
		return fmt.Errorf("%s is another file than the one that was opened: mount the pool again", s.poolFile())
	}
	return nil
}

// hasFolder reports that a folder of the pool is missing, where absence says
// nothing of what was in it.
func (s *store) hasFolder(path string) error {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return fault.New(fault.Corrupt, "%s is missing, but the pool is there: what was in it is not known to be gone: put it back", path)
	}
	return err
}

// writable reports that nothing can be written now.
func (s *store) writable() error {
	var st unix.Statfs_t
	if err := unix.Statfs(string(s.layout), &st); err != nil {
		return s.wrap(err)
	}
	if st.Flags&unix.ST_RDONLY != 0 {
		return fault.New(fault.Transient, "pool %s at %s is mounted read-only: look for errors of its disk in the kernel's log, and mount it read-write", s.name, s.layout)
	}
	return nil
}

// wrap gives an operating system's error its kind and names the pool.
func (s *store) wrap(err error) error {
	return fault.Wrap(access(err), "", fmt.Sprintf("pool %s at %s", s.name, s.layout))
}

// close gives the pool free, also where a process that was just forked still has
// the folder open.
func (s *store) close() {
	_ = unix.Flock(int(s.lock.Fd()), unix.LOCK_UN) // closing does the same, later
	s.lock.Close()
}

// access gives kinds to the errors that a disk or a filesystem gives; one that
// has a kind keeps it.
func access(err error) error {
	var typed *fault.Error
	switch {
	case err == nil || errors.As(err, &typed):
		return err
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT):
		return fault.As(fault.Exhausted, err)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	}
	// A disk that fails, a filesystem that went read-only or away: what was done
	// is unknown, and it may work again.
	return fault.As(fault.Transient, err)
}
