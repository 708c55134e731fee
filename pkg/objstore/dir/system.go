package dir

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// system is the few system calls by which a store changes its filesystem. Tests
// stand in between.
type system interface {
	// create makes a file that does not exist yet.
	create(path string) (file, error)
	// enter opens a folder.
	enter(path string) (folder, error)
	// remove unlinks a temporary file.
	remove(path string) error
}

type file interface {
	Write(p []byte) (int, error)
	Sync() error
	Close() error
}

// folder is an open folder: what is done in it is done in the folder that was
// opened, whatever its path leads to by now.
type folder interface {
	// settled reports whether the folder's own name is known to be durable, and
	// settle says that it is.
	settled() (bool, error)
	settle() error
	// lock keeps replacements and readings of the folder apart, see package doc.
	lock(ctx context.Context, how int) error
	unlock()
	// names reads the folder.
	names() ([]os.DirEntry, error)
	mkdir(name string) error
	rmdir(name string) error
	link(from, name string) error
	rename(from, name string) error
	unlink(name string) error
	Sync() error
	Close() error
}

// unsettled marks a new folder until its name is durable.
const unsettled = unix.S_ISVTX

// lockPause is the time between two tries for a folder's lock, which is held for
// one system call or for one reading of the folder.
const lockPause = time.Millisecond

type kernel struct{}

func (kernel) create(path string) (file, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (kernel) enter(path string) (folder, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, err
	}
	return openFolder{f}, nil
}

func (kernel) remove(path string) error { return os.Remove(path) }

type openFolder struct{ *os.File }

func (f openFolder) fd() int { return int(f.Fd()) }

func (f openFolder) fault(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &os.PathError{Op: op, Path: filepath.Join(f.Name(), name), Err: err}
}

// names returns what the folder holds now. Without the rewinding it could be
// what it held when it was opened, before it was locked.
func (f openFolder) names() ([]os.DirEntry, error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return f.ReadDir(-1)
}

func (f openFolder) settled() (bool, error) {
	var stat unix.Stat_t
	err := unix.Fstat(f.fd(), &stat)
	return stat.Mode&unsettled == 0, f.fault("stat", "", err)
}

func (f openFolder) settle() error {
	return f.fault("chmod", "", unix.Fchmod(f.fd(), 0o700))
}

// lock takes the folder's lock, unix.LOCK_SH or unix.LOCK_EX, within ctx. Its
// process lets go of it by unlock, by Close, or by dying.
func (f openFolder) lock(ctx context.Context, how int) error {
	for {
		err := unix.Flock(f.fd(), how|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return f.fault("flock", "", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lockPause):
		}
	}
}

func (f openFolder) unlock() { _ = unix.Flock(f.fd(), unix.LOCK_UN) }

func (f openFolder) mkdir(name string) error {
	return f.fault("mkdir", name, unix.Mkdirat(f.fd(), name, 0o700|unsettled))
}

func (f openFolder) rmdir(name string) error {
	return f.fault("rmdir", name, unix.Unlinkat(f.fd(), name, unix.AT_REMOVEDIR))
}

func (f openFolder) link(from, name string) error {
	return f.fault("link", name, unix.Linkat(unix.AT_FDCWD, from, f.fd(), name, 0))
}

func (f openFolder) rename(from, name string) error {
	return f.fault("rename", name, unix.Renameat(unix.AT_FDCWD, from, f.fd(), name))
}

func (f openFolder) unlink(name string) error {
	return f.fault("unlink", name, unix.Unlinkat(f.fd(), name, 0))
}
