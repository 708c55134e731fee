package fuse

import (
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

// listenerFD is the keeper's socket, as it is started with it.
const listenerFD = 3

// idleLimit is how long a keeper that holds nothing waits for an engine.
const idleLimit = 5 * time.Second

// keep holds devices for the engines that come and go, until there is nothing to
// hold and no engine. It is the keeper's whole life. Signals do not end it.
func keep() error {
	signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP, syscall.SIGPIPE)
	unix.CloseOnExec(listenerFD)
	file := os.NewFile(listenerFD, keeperSocket)
	listener, err := net.FileListener(file)
	if err != nil {
		return fmt.Errorf("descriptor %d: %w: want the socket with which an engine starts this process", listenerFD, err)
	}
	_ = file.Close()
	// Where it is not allowed, there is nothing else to do.
	_ = os.WriteFile("/proc/self/oom_score_adj", []byte("-1000"), 0o644)
	held := holdings{}
	for {
		deadline := time.Time{}
		if len(held) == 0 {
			deadline = time.Now().Add(idleLimit)
		}
		l := listener.(*net.UnixListener)
		_ = l.SetDeadline(deadline)
		engine, err := l.AcceptUnix()
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			return nil
		case err != nil:
			return err
		}
		held.serve(engine)
		_ = engine.Close()
		if len(held) == 0 {
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
