package nbd

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Bounds of what is under way.
const (
	// maxRequests is how many requests of a connection are served at once: as
	// many as the kernel sends.
	maxRequests = 128
	// budgetBytes bounds the memory of all requests of one disk: as much as
	// maxRequests of the size that the kernel sends by itself.
	budgetBytes = 16 << 20
)

// server serves one disk to any number of connections.
type server struct {
	disk   blockdev.Disk
	o      blockdev.Options
	pool   pool
	budget *budget
	// discard may change while requests are served.
	discard atomic.Bool
}

func newServer(disk blockdev.Disk, o blockdev.Options) *server {
	s := &server{disk: disk, o: o, budget: newBudget(budgetBytes)}
	s.discard.Store(o.Discard)
	return s
}

// flags are what the server says of itself. A flush covers what was answered on
// any connection, since that is what Disk.Flush does.
func (s *server) flags() uint16 {
	flags := uint16(hasFlags | sendFlush | sendFUA | sendWriteZeroes | canMultiConn)
	if s.o.ReadOnly {
		flags |= readOnly
	}
	if s.o.Discard {
		flags |= sendTrim
	}
	return flags
}

// connection is one stream of requests.
type connection struct {
	server *server
	conn   net.Conn
	in     *bufio.Reader
	slots  chan struct{}
	work   sync.WaitGroup
	// running counts the requests under way, in one of two ledgers: see settle.
	running [2]atomic.Int64
	ledger  atomic.Int32

	taken    atomic.Int64 // requests that were read
	draining atomic.Bool
	readOut  chan struct{} // closed when nothing is read any more

	writing sync.Mutex // held for one reply at a time
	broken  bool
	holding bool // replies are kept in held: see drain
	held    []reply
}

// reply is one that is to be sent, and what gives its memory back.
type reply struct {
	bytes []byte
	done  func()
}

func (s *server) connect(conn net.Conn) *connection {
	return &connection{
		server: s, conn: conn,
		// Several small requests come at once; what is larger goes from the socket
		// to its place.
		in:      bufio.NewReaderSize(conn, 32<<10),
		slots:   make(chan struct{}, maxRequests),
		readOut: make(chan struct{}),
	}
}

// serve answers requests until the client ends, the stream breaks or drain is
// called, and returns when all that was under way is done. Once ctx has ended,
// the disk's calls are given up and nothing is answered any more: the client
// does not learn an error that is none of the disk's. The connection is closed
// last, so that what a client sends again when it sees that never meets its own
// first try.
func (c *connection) serve(ctx context.Context) error {
	// Whoever waits in the connection is woken.
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(past) })
	defer stop()

	err := c.read(ctx)
	close(c.readOut)
	if err != nil && !c.draining.Load() {
		c.breakOff() // nobody is there to be answered
	}
	c.work.Wait()
	c.release()
	c.conn.Close()
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, io.EOF), c.draining.Load():
		return nil
	}
	return err
}

// past is a deadline that has passed.
var past = time.Unix(1, 0)

// breakOff gives the client up: it is neither read nor answered any more.
func (c *connection) breakOff() {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.broken = true
	_ = c.conn.SetReadDeadline(past)
}

// settle waits until every request is answered that was under way when it was
// called. One caller at a time.
func (c *connection) settle(ctx context.Context) error {
	wait := func(ledger int32) error {
		for c.running[ledger].Load() > 0 {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(5 * time.Millisecond): // poll
			}
		}
		return nil
	}
	current := c.ledger.Load()
	// One that gave up has left the other in use.
	if err := wait(1 - current); err != nil {
		return err
	}
	c.ledger.Store(1 - current)
	return wait(current)
}

// read starts the requests as they come. It returns nil when the client says
// that it ends.
func (c *connection) read(ctx context.Context) error {
	var head [requestBytes]byte
	for {
		if _, err := io.ReadFull(c.in, head[:]); err != nil {
			return err
		}
		r, err := parseRequest(&head)
		if err != nil {
			return err
		}
		c.taken.Add(1)
		if r.command == cmdDisconnect {
			return nil
		}
		if err := c.begin(ctx, r); err != nil {
			return err
		}
	}
}

// begin reads what belongs to a request and has it served.
func (c *connection) begin(ctx context.Context, r request) error {
	c.slots <- struct{}{}
	done := func() { <-c.slots }
	code := r.check(c.server.disk.Size(), c.server.o.ReadOnly)
	var b *buffer
	if bytes := r.payloadBytes(code); bytes > 0 {
		taken := c.server.budget.take(bytes)
		b = c.server.pool.get(bytes)
		done = func() {
			c.server.pool.put(b)
			c.server.budget.give(taken)
			<-c.slots
		}
	}
	if r.command == cmdWrite && b != nil {
		if _, err := io.ReadFull(c.in, b.payload(r.length)); err != nil {
			done()
			return noEOF(err)
		}
	}
	running := &c.running[c.ledger.Load()]
	running.Add(1)
	c.work.Go(func() {
		defer running.Add(-1)
		if code == 0 {
			code = c.server.do(ctx, r, b)
		}
		out := make([]byte, replyBytes)
		if r.command == cmdRead && code == 0 {
			out = b.reply(r.length)
		}
		putReply(out, code, r.cookie)
		c.answer(ctx, reply{out, done})
	})
	return nil
}

// payloadBytes is how much memory a request takes. What a refused write brings
// has to be read too.
func (r request) payloadBytes(code uint32) uint32 {
	if r.command == cmdWrite || r.command == cmdRead && code == 0 {
		return r.length
	}
	return 0
}

// noEOF makes an end in the middle of a request an error.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// do has the disk do a request that was checked, and returns the error for the
// client.
func (s *server) do(ctx context.Context, r request, b *buffer) uint32 {
	var err error
	off, length := int64(r.offset), int64(r.length)
	switch r.command {
	case cmdRead:
		return code(s.disk.ReadAt(ctx, b.payload(r.length), off))
	case cmdWrite:
		err = s.disk.WriteAt(ctx, b.payload(r.length), off)
	case cmdTrim:
		if s.discard.Load() {
			err = s.disk.Zero(ctx, off, length, true)
		}
	case cmdWriteZeroes:
		err = s.disk.Zero(ctx, off, length, r.flags&flagNoHole == 0 && s.discard.Load())
	}
	if err == nil && (r.command == cmdFlush || r.flags&flagFUA != 0) {
		err = s.disk.Flush(ctx)
	}
	return code(err)
}

// answer sends a reply. A client that does not take it loses the connection.
func (c *connection) answer(ctx context.Context, r reply) {
	c.writing.Lock()
	defer c.writing.Unlock()
	switch {
	case c.broken || ctx.Err() != nil:
	case c.holding:
		c.held = append(c.held, r)
		return
	default:
		if _, err := c.conn.Write(r.bytes); err != nil {
			c.broken = true
			_ = c.conn.SetReadDeadline(past)
		}
	}
	r.done()
}

// code is the protocol's number for a disk's error.
func code(err error) uint32 {
	if err == nil {
		return 0
	}
	switch fault.KindOf(err) {
	case fault.Invalid, fault.OutOfRange:
		return eInval
	case fault.Exhausted:
		return eNoSpc
	case fault.Unsupported:
		return eNotSup
	}
	return eIO
}
