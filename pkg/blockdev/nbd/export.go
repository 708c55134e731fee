package nbd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Export offers a disk to NBD clients such as qemu-img, nbdcopy and fio, to
// measure and to look into it without the kernel. There is neither encryption
// nor a password: it is offered on this machine only.
type Export struct {
	Name    string // which clients may ask for; the empty name does as well
	Disk    blockdev.Disk
	Options blockdev.Options
}

// Bounds of an export.
const (
	maxConnections = 16
	handshakeLimit = 10 * time.Second
)

// Serve serves the clients of a listener until ctx ends, closes it, and returns
// when all of them are done: Canceled or Deadline then, Transient if the
// listener fails. The listener is a unix socket or bound to a loopback address:
// Invalid otherwise.
func (e Export) Serve(ctx context.Context, l net.Listener) error {
	if !local(l.Addr()) {
		return fault.New(fault.Invalid, "listen address %s: want a unix socket or a loopback address: an export has no protection", l.Addr())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	var clients sync.WaitGroup
	defer clients.Wait()
	s := newServer(e.Disk, e.Options)
	slots := make(chan struct{}, maxConnections)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return ctx.Err()
		}
		conn, err := l.Accept()
		if err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			cancel() // the clients end as well
			return fault.As(fault.Transient, fmt.Errorf("accept on %s: %w", l.Addr(), err))
		}
		clients.Go(func() {
			defer func() { <-slots }()
			// What a client does wrong ends its connection, and is its affair.
			_ = e.serveClient(ctx, s, conn)
		})
	}
}

func (e Export) serveClient(ctx context.Context, s *server, conn net.Conn) error {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(past) })
	defer stop()
	if err := conn.SetDeadline(time.Now().Add(handshakeLimit)); err != nil {
		conn.Close()
		return err
	}
	err := offer{e.Name, e.Disk.Size(), s.flags()}.handshake(conn)
	if err == nil {
		err = conn.SetDeadline(time.Time{})
	}
	if err == nil {
		err = ctx.Err() // which may have set its deadline before
	}
	if err != nil {
		conn.Close()
		if errors.Is(err, errAborted) {
			return nil
		}
		return err
	}
	return s.connect(conn).serve(ctx)
}

func local(a net.Addr) bool {
	switch a := a.(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		return a.IP.IsLoopback()
	}
	return false
}
