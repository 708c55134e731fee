package nbd

import (
	"net"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// quietTime is for how long no request comes before a drain takes it that the
	// client has none to send.
	quietTime = 20 * time.Millisecond
	// drainLimit is how long a drain tries to end well.
	drainLimit = time.Second
)

// drain ends a connection so that, if possible, no request is lost that the
// kernel has sent: it would look for it only after a while. When it meets the
// end of the connection in sending, it reads no reply any more that comes later.
// So replies are kept until it sends no more, since all who might ask wait for
// one; then the end is made, what came meanwhile is carried out, and all replies
// are sent at once. serve returns after that. It takes drainLimit twice at most.
func (c *connection) drain() {
	c.writing.Lock()
	c.holding = true
	c.writing.Unlock()
	c.awaitQuiet()
	c.draining.Store(true)
	if end, ok := c.conn.(interface{ CloseRead() error }); ok {
		_ = end.CloseRead()
	} else {
		_ = c.conn.SetReadDeadline(past)
	}
	select {
	case <-c.readOut:
	case <-time.After(drainLimit):
		// It waits for the memory of what is held.
		c.release()
		_ = c.conn.SetReadDeadline(past)
	}
}

func (c *connection) awaitQuiet() {
	deadline := time.Now().Add(drainLimit)
	for seen := int64(-1); time.Now().Before(deadline); {
		now := c.taken.Load()
		if now == seen && c.running[0].Load()+c.running[1].Load() == 0 {
			return
		}
		seen = now
		select {
		case <-c.readOut:
			return
		case <-time.After(quietTime): // poll
		}
	}
}

// release sends the replies that are held, in one piece where the socket has
// room for it.
func (c *connection) release() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.holding = false
	var all net.Buffers
	total := 0
	for _, r := range c.held {
		all = append(all, r.bytes)
		total += len(r.bytes)
	}
	if total > 0 && !c.broken {
		makeRoom(c.conn, total)
		_, err := all.WriteTo(c.conn)
		c.broken = err != nil
	}
	for _, r := range c.held {
		r.done()
	}
	c.held = nil
}

// makeRoom has a socket take so many bytes without anybody reading them.
func makeRoom(conn net.Conn, bytes int) {
	if u, ok := conn.(*net.UnixConn); ok {
		if raw, err := u.SyscallConn(); err == nil {
			_ = raw.Control(func(fd uintptr) {
				// The kernel counts what it needs itself too.
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 2*bytes+1<<20)
			})
		}
	}
}
