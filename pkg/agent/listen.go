package agent

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

// A socket is made under a hidden name and renamed, so that it is never seen
// before it has its mode and is answered.
const (
	socketPrefix = "."
	socketSuffix = ".new"
	lockSuffix   = ".lock"
)

// socket is a listening unix socket. A lock on a file beside it says that its
// owner lives: the kernel drops it at the owner's death, however it dies.
type socket struct {
	*net.UnixListener
	path string
	own  os.FileInfo
	lock *os.File
}

// listen opens an endpoint. InUse if somebody answers at a socket, Precondition
// if something that is no socket is in its place.
func listen(e Endpoint) (net.Listener, error) {
	if e.Network == "unix" {
		s, err := listenUnix(e.Address)
		if err != nil {
			return nil, fault.Wrap(err, "listen at", e.String())
		}
		return s, nil
	}
	l, err := net.Listen("tcp", e.Address)
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return nil, fault.Wrap(fault.As(fault.InUse, err), "listen at", e.String())
	case err != nil:
		return nil, fault.Wrap(fault.As(fault.Precondition, err), "listen at", e.String())
	}
	return l, nil
}

func listenUnix(path string) (*socket, error) {
	lock, err := lockSocket(path)
	if err != nil {
		return nil, err
	}
	s := &socket{path: path, lock: lock}
	if err := s.place(); err != nil {
		lock.Close()
		return nil, err
	}
	return s, nil
}

// lockSocket takes the lock of a path. The file stays behind: to remove it would
// let two processes lock two files of one name.
func lockSocket(path string) (*os.File, error) {
	lock, err := os.OpenFile(path+lockSuffix, os.O_CREATE|os.O_RDWR|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fault.As(fault.Precondition, err)
	}
	switch err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); {
	case errors.Is(err, unix.EWOULDBLOCK):
		lock.Close()
		return nil, fault.New(fault.InUse, "another process serves it: end that one, or use another path")
	case err != nil:
		lock.Close()
		return nil, fault.As(fault.Precondition, err)
	}
	return lock, nil
}

func (s *socket) place() error {
	if err := makeWay(s.path); err != nil {
		return err
	}
	made := filepath.Join(filepath.Dir(s.path), socketPrefix+filepath.Base(s.path)+socketSuffix)
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fault.As(fault.Precondition, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return fault.As(fault.Precondition, err)
	}
	l.SetUnlinkOnClose(false) // by then it has another name
	err = os.Chmod(made, 0o600)
	if err == nil {
		s.own, err = os.Lstat(made)
	}
	if err == nil {
		err = os.Rename(made, s.path)
	}
	if err != nil {
		l.Close()
		return fault.As(fault.Precondition, errors.Join(err, os.Remove(made)))
	}
	s.UnixListener = l
	return nil
}

// makeWay sees that a path is free, or has a socket at which nobody answers. A
// server that knows nothing of our lock is found by asking.
func makeWay(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.As(fault.Precondition, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fault.New(fault.Precondition, "it is not a socket: remove it, or use another path")
	}
	conn, err := net.Dial("unix", path)
	if err == nil {
		conn.Close()
		return fault.New(fault.InUse, "another program answers there: end it, or use another path")
	}
	if !errors.Is(err, unix.ECONNREFUSED) && !errors.Is(err, unix.ENOENT) {
		return fault.New(fault.InUse, "cannot tell whether another program serves it: %w", err)
	}
	return nil
}

// Close stops listening and removes the socket if it still is ours.
func (s *socket) Close() error {
	err := s.UnixListener.Close()
	if now, e := os.Lstat(s.path); e == nil && os.SameFile(now, s.own) {
		err = errors.Join(err, os.Remove(s.path))
	}
	return errors.Join(err, s.lock.Close())
}
