package nbd

import (
	"context"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// attachment is a device that this process serves.
type attachment struct {
	number int
	server *server
	conn   *connection
	// settled is when the requests of an earlier server have come again.
	settled time.Time
	cancel  context.CancelFunc
	done    chan struct{} // closed when nothing of it runs any more
}

// pair makes a socketpair: an end for the kernel, which has to be closed once
// the kernel has it, and one for the server.
func pair() (kernelEnd *os.File, serverEnd *net.UnixConn, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, nil, fault.As(fault.Internal, os.NewSyscallError("socketpair", err))
	}
	file := os.NewFile(uintptr(fds[1]), "nbd server end")
	defer file.Close() // the connection has a copy
	conn, err := net.FileConn(file)
	if err != nil {
		unix.Close(fds[0])
		return nil, nil, fault.As(fault.Internal, err)
	}
	return os.NewFile(uintptr(fds[0]), "nbd kernel end"), conn.(*net.UnixConn), nil
}

// hungUp reports whether nobody holds the other end any more.
func hungUp(conn *net.UnixConn) (bool, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return false, err
	}
	fds := []unix.PollFd{{Events: unix.POLLRDHUP}}
	var n int
	if cerr := raw.Control(func(fd uintptr) {
		fds[0].Fd = int32(fd)
		err = retry(func() (err error) { n, err = unix.Poll(fds, 0); return err })
	}); cerr != nil {
		return false, cerr
	}
	return n > 0 && fds[0].Revents&(unix.POLLHUP|unix.POLLRDHUP) != 0, err
}

// serve begins to answer a device's requests, until ctx ends at the latest.
func serve(ctx context.Context, number int, disk blockdev.Disk, o blockdev.Options, conn net.Conn) *attachment {
	ctx, cancel := context.WithCancel(ctx)
	s := newServer(disk, o)
	a := &attachment{number: number, server: s, conn: s.connect(conn), cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(a.done)
		defer cancel()
		// However it ends, the device waits until it is attached again or
		// detached.
		_ = a.conn.serve(ctx)
	}()
	return a
}

// alive reports whether requests are answered.
func (a *attachment) alive() bool {
	select {
	case <-a.done:
		return false
	default:
		return true
	}
}

// stop ends the serving: what was read is answered, or given up when ctx ends,
// and what was not waits in the kernel.
func (a *attachment) stop(ctx context.Context) {
	if ctx.Err() == nil {
		a.conn.drain()
	}
	select {
	case <-a.done:
	case <-ctx.Done():
		a.cancel()
		<-a.done
	}
}
