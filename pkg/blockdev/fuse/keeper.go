package fuse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// keeperSocket is the file where the keeper is reached.
const keeperSocket = "keeper"

// What a keeper is started with by an engine.
const (
	keeperListener = 3
	keeperLocked   = 4 // for as long as it lives
)

// idleLimit is how long a keeper that holds nothing waits for an engine.
const idleLimit = 5 * time.Second

// keep is a keeper that was started by an engine. It ends when there is nothing
// to hold and no engine.
func keep() error {
	unix.CloseOnExec(keeperListener)
	unix.CloseOnExec(keeperLocked)
	file := os.NewFile(keeperListener, keeperSocket)
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("descriptor %d: %w: want the socket with which an engine starts this process", keeperListener, err)
	}
	_ = file.Close()
	return holdings{}.keep(listener.(*net.UnixListener), true)
}

// stay is a keeper that was started by somebody else, for engines that are
// killed with all the processes that they started, as containers are. It does
// not end. If an engine has started one meanwhile, it waits for that to end.
func stay(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	folder, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer folder.Close()
	locked, err := lock(dir, keeperLock)
	if err != nil {
		return err
	}
	defer locked.Close()
	if err := flock(ctx, locked); err != nil {
		return err
	}
	listener, err := listen(folder)
	if err != nil {
		return err
	}
	defer listener.Close()
	return holdings{}.keep(listener, false)
}

// listen makes the keeper's socket. The caller has the keeper's lock.
func listen(dir *os.File) (*net.UnixListener, error) {
	at := socketIn(dir)
	_ = os.Remove(at.Name)
	listener, err := net.ListenUnix("unixpacket", at)
	if err == nil {
		listener.SetUnlinkOnClose(false)
	}
	return listener, err
}

// socketIn is the keeper's address, however long the folder's path is.
func socketIn(dir *os.File) *net.UnixAddr {
	return &net.UnixAddr{Net: "unixpacket", Name: fmt.Sprintf("/proc/self/fd/%d/%s", dir.Fd(), keeperSocket)}
}

// keep holds devices for the engines that come and go. It is the whole life of a
// keeper. Signals do not end it.
func (h holdings) keep(listener *net.UnixListener, ends bool) error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	// Where it is not allowed, there is nothing else to do.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0o644)
	for {
		deadline := time.Time{}
		if ends && len(h) == 0 {
			deadline = time.Now().Add(idleLimit)
		}
		_ = listener.SetDeadline(deadline)
		engine, err := listener.AcceptUnix()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		h.serve(engine)
		_ = engine.Close()
		if ends && len(h) == 0 {
			return nil
		}
	}
}

// holdings are the descriptors of devices, by volume.
type holdings map[string][]int

// serve answers one engine, until it closes the connection or dies: one at a
// time. It first gets all that is held.
func (h holdings) serve(engine *net.UnixConn) {
	for id, fds := range h {
		if send(engine, "held "+id, fds) != nil {
			return
		}
	}
	if send(engine, "all", nil) != nil {
		return
	}
	for {
		message, fds, err := receive(engine)
		if err != nil {
			return
		}
		id, isPut := strings.CutPrefix(message, "put ")
		if !isPut {
			id = strings.TrimPrefix(message, "drop ")
		}
		for _, fd := range h[id] {
			_ = unix.Close(fd)
		}
		delete(h, id)
		if isPut {
			h[id] = fds
		}
		if send(engine, "ok", nil) != nil {
			return
		}
	}
}

// send sends a message with descriptors.
func send(to *net.UnixConn, message string, fds []int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_, _, err := to.WriteMsgUnix([]byte(message), rights, nil)
	return err
}

// receive returns the next message, with descriptors that are the caller's.
func receive(from *net.UnixConn) (message string, fds []int, err error) {
	b, oob := make([]byte, 256), make([]byte, unix.CmsgSpace(3*4))
	n, oobn, _, _, err := from.ReadMsgUnix(b, oob)
	if err != nil {
		return "", nil, err
	}
	if n == 0 {
		return "", nil, net.ErrClosed
	}
	controls, err := unix.ParseSocketControlMessage(oob[:oobn])
	if err != nil {
		return "", nil, err
	}
	for i := range controls {
		more, err := unix.ParseUnixRights(&controls[i])
		if err != nil {
			return "", nil, err
		}
		fds = append(fds, more...)
	}
	return string(b[:n]), fds, nil
}
