package csi

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

// maxSocketBytes is what the kernel takes as a socket's path.
const maxSocketBytes = 107

// socketPath reads an endpoint, "unix:///path". Invalid if it is not one.
func socketPath(endpoint string) (string, error) {
	path, ok := strings.CutPrefix(endpoint, "unix://")
	if !ok || !filepath.IsAbs(path) || filepath.Clean(path) != path || path == "/" || strings.ContainsRune(path, 0) {
		return "", fault.New(fault.Invalid, `endpoint: %q: want "unix://" and the absolute path of a socket`, endpoint)
	}
	if hidden := hiddenPath(path); len(hidden) > maxSocketBytes {
		return "", fault.New(fault.Invalid, "endpoint: %q: the socket's path would have %d bytes: want at most %d", endpoint, len(hidden), maxSocketBytes)
	}
	return path, nil
}

// hiddenPath is where a socket is made before it gets its name.
func hiddenPath(path string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
}

// socket is a listening socket in the filesystem.
type socket struct {
	*net.UnixListener
	path string
	own  os.FileInfo
}

// listen makes a socket with mode 0600 in the place of one that a dead process
// left. InUse if a process answers there, or if the place is held by something
// else than a socket. The socket appears by a rename, so nobody finds it before
// it is answered; the directory is locked for that moment, so that of two
// processes that start at once the second finds the first.
func listen(ctx context.Context, path string) (*socket, error) {
	unlock, err := lockDirectory(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := makeWay(ctx, path); err != nil {
		return nil, err
	}
	made := hiddenPath(path)
	if err := os.Remove(made); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fault.As(fault.Precondition, err)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: made, Net: "unix"})
	if err != nil {
		return nil, fault.As(fault.Precondition, err)
	}
	l.SetUnlinkOnClose(false) // the name may be somebody else's by then
	s := &socket{UnixListener: l, path: path}
	if err := s.appear(made); err != nil {
		l.Close()
		return nil, fault.As(fault.Precondition, err)
	}
	return s, nil
}

func (s *socket) appear(made string) (err error) {
	if err := os.Chmod(made, 0o600); err != nil {
		return err
	}
	if s.own, err = os.Lstat(made); err != nil {
		return err
	}
	return os.Rename(made, s.path)
}

// remove takes the socket's name away, if it is still this socket's. It must
// still be open: a closed one's inode number may be that of a newer socket.
func (s *socket) remove() {
	if now, err := os.Lstat(s.path); err == nil && os.SameFile(now, s.own) {
		_ = os.Remove(s.path) // what is left is replaced at the next start
	}
}

// lockDirectory holds a directory against other processes that make sockets in
// it. The lock ends with the process.
func lockDirectory(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return nil, fault.As(fault.Precondition, err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fault.As(fault.Precondition, err)
	}
	for {
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		f.Close()
		return nil, fault.As(fault.Precondition, &fs.PathError{Op: "lock", Path: dir, Err: err})
	}
	return func() { f.Close() }, nil
}

// makeWay sees that nothing but a dead socket is replaced.
func makeWay(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fault.As(fault.Precondition, err)
	case info.Mode().Type() != fs.ModeSocket:
		return fault.New(fault.InUse, "%s is not a socket: want it removed, or another endpoint", path)
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	switch {
	case err == nil:
		conn.Close()
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, fs.ErrNotExist):
		return nil
	}
	return fault.New(fault.InUse, "%s is served by another process: want that ended, or another endpoint", path)
}
