package nbd

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ram is a disk in memory that notes what is asked of it.
type ram struct {
	mu    sync.Mutex
	bytes []byte
	log   []string // what it did, in order
	fail  error    // of every call
	// Most that was asked for at once.
	calls, bytesNow, maxCalls, maxBytes int
	bad                                 string // what no front-end may ask for
	// gate, if there is one, holds every call until it is closed or ctx ends.
	gate chan struct{}
}

func newRAM(size int) *ram { return &ram{bytes: make([]byte, size)} }

func (r *ram) Size() int64 { return int64(len(r.bytes)) }

func (r *ram) do(ctx context.Context, what string, p []byte, off, length int64, f func()) error {
	r.mu.Lock()
	if off < 0 || length < 0 || off%512 != 0 || length%512 != 0 || off+length > r.Size() {
		r.bad = fmt.Sprintf("%s of %d at %d", what, length, off)
	}
	if len(p) > 0 && uintptr(unsafe.Pointer(unsafe.SliceData(p)))%4096 != 0 {
		r.bad = what + " with memory that is not aligned"
	}
	r.calls++
	r.bytesNow += len(p)
	r.maxCalls, r.maxBytes = max(r.maxCalls, r.calls), max(r.maxBytes, r.bytesNow)
	gate := r.gate
	r.mu.Unlock()
	defer func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.calls--
		r.bytesNow -= len(p)
	}()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log = append(r.log, what)
	if r.fail != nil {
		return r.fail
	}
	if r.bad == "" && f != nil {
		f()
	}
	return nil
}

func (r *ram) ReadAt(ctx context.Context, p []byte, off int64) error {
	return r.do(ctx, "read", p, off, int64(len(p)), func() { copy(p, r.bytes[off:]) })
}

func (r *ram) WriteAt(ctx context.Context, p []byte, off int64) error {
	return r.do(ctx, "write", p, off, int64(len(p)), func() { copy(r.bytes[off:], p) })
}

func (r *ram) Zero(ctx context.Context, off, length int64, discard bool) error {
	return r.do(ctx, fmt.Sprintf("zero discard=%t", discard), nil, off, length, func() { clear(r.bytes[off : off+length]) })
}

func (r *ram) Flush(ctx context.Context) error { return r.do(ctx, "flush", nil, 0, 0, nil) }

func (r *ram) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	log := r.log
	r.log = nil
	return log
}

func (r *ram) running() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.calls
}

// client is the other side of a connection.
type client struct {
	t      testing.TB
	conn   net.Conn
	served chan error
	c      *connection
	cancel context.CancelFunc
}

// dial connects a client to a server by a socketpair.
func dial(t testing.TB, s *server) *client {
	t.Helper()
	far, near, err := pair()
	must(t, err)
	conn, err := net.FileConn(far)
	must(t, err)
	far.Close()
	ctx, cancel := context.WithCancel(t.Context())
	c := &client{t, conn, make(chan error, 1), s.connect(near), cancel}
	go func() { c.served <- c.c.serve(ctx) }()
	t.Cleanup(func() {
		conn.Close()
		cancel()
	})
	must(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	return c
}

func head(command, flags uint16, cookie, off uint64, length uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, requestMagic)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, command)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, off)
	return binary.BigEndian.AppendUint32(b, length)
}

func (c *client) send(parts ...[]byte) {
	c.t.Helper()
	for _, p := range parts {
		if _, err := c.conn.Write(p); err != nil {
			c.t.Fatal(err)
		}
	}
}

// reply reads the head of a reply.
func (c *client) reply() (code uint32, cookie uint64) {
	c.t.Helper()
	var b [replyBytes]byte
	if _, err := io.ReadFull(c.conn, b[:]); err != nil {
		c.t.Fatal(err)
	}
	if magic := binary.BigEndian.Uint32(b[:]); magic != replyMagic {
		c.t.Fatalf("reply begins with %#x", magic)
	}
	return binary.BigEndian.Uint32(b[4:]), binary.BigEndian.Uint64(b[8:])
}

// ask sends a request and returns the error in its reply and what was read.
func (c *client) ask(command, flags uint16, off uint64, length uint32, data []byte) (code uint32, read []byte) {
	c.t.Helper()
	c.send(head(command, flags, 77, off, length), data)
	code, cookie := c.reply()
	if cookie != 77 {
		c.t.Fatalf("reply with cookie %d, want 77", cookie)
	}
	if command == cmdRead && code == 0 {
		read = make([]byte, length)
		if _, err := io.ReadFull(c.conn, read); err != nil {
			c.t.Fatal(err)
		}
	}
	return code, read
}

// ended waits until the server is done with the connection.
func (c *client) ended() error {
	c.t.Helper()
	select {
	case err := <-c.served:
		return err
	case <-time.After(20 * time.Second):
		c.t.Fatal("the server goes on")
		return nil
	}
}

// eventually waits until something is so.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !so(); time.Sleep(time.Millisecond) { // poll
		if time.Now().After(deadline) {
			t.Fatal("it never came about: " + what)
		}
	}
}

// recorded is a connection to a client that has sent what its stream has, and
// only counts replies. Its deadlines do nothing.
type recorded struct {
	net.Conn
	stream  io.Reader
	replies *atomic.Int64
}

func (r recorded) Read(p []byte) (int, error)    { return r.stream.Read(p) }
func (r recorded) Write(p []byte) (int, error)   { r.replies.Add(1); return len(p), nil }
func (recorded) Close() error                    { return nil }
func (recorded) SetDeadline(time.Time) error     { return nil }
func (recorded) SetReadDeadline(time.Time) error { return nil }

var (
	_      blockdev.Disk = (*ram)(nil)
	errBad               = fault.New(fault.Corrupt, "bad block")
)

func tempDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "nbd-test-") // short enough for a socket's name
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}
