package nbd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

const diskBytes = 8 << 20

var discards = blockdev.Options{Discard: true}

func TestRequestsReachTheDisk(t *testing.T) {
	data := bytes.Repeat([]byte("holkas! "), 64)
	zeros := make([]byte, 512)
	for _, row := range []struct {
		name           string
		o              blockdev.Options
		command, flags uint16
		want           []string
		after          []byte
	}{
		{"write", discards, cmdWrite, 0, []string{"write"}, data},
		{"write and FUA", discards, cmdWrite, flagFUA, []string{"write", "flush"}, data},
		{"trim", discards, cmdTrim, 0, []string{"zero discard=true"}, zeros},
		{"trim and FUA", discards, cmdTrim, flagFUA, []string{"zero discard=true", "flush"}, zeros},
		{"trim without discard", blockdev.Options{}, cmdTrim, 0, nil, nil},
		{"zeroes", discards, cmdWriteZeroes, 0, []string{"zero discard=true"}, zeros},
		{"zeroes without a hole", discards, cmdWriteZeroes, flagNoHole, []string{"zero discard=false"}, zeros},
		{"zeroes and FUA", discards, cmdWriteZeroes, flagNoHole | flagFUA, []string{"zero discard=false", "flush"}, zeros},
		{"zeroes without discard", blockdev.Options{}, cmdWriteZeroes, 0, []string{"zero discard=false"}, zeros},
		{"read", discards, cmdRead, 0, []string{"read"}, nil},
		{"read and FUA", discards, cmdRead, flagFUA, []string{"read"}, nil},
	} {
		t.Run(row.name, func(t *testing.T) {
			disk := newRAM(diskBytes)
			for i := range disk.bytes {
				disk.bytes[i] = byte(i * 7)
			}
			before := bytes.Clone(disk.bytes[4608:5120])
			c := dial(t, newServer(disk, row.o))
			var payload []byte
			if row.command == cmdWrite {
				payload = data
			}
			code, read := c.ask(row.command, row.flags, 4608, 512, payload)
			if got := disk.took(); code != 0 || !slices.Equal(got, row.want) {
				t.Errorf("got error %d and %q, want 0 and %q", code, got, row.want)
			}
			if row.command == cmdRead && !bytes.Equal(read, before) {
				t.Error("read other bytes than are there")
			}
			if row.after == nil {
				row.after = before
			}
			if !bytes.Equal(disk.bytes[4608:5120], row.after) {
				t.Errorf("the disk has %q", disk.bytes[4608:5120])
			}
			if disk.bad != "" {
				t.Error(disk.bad)
			}
		})
	}
}

// TestFlushCoversAllConnections: what was answered on one connection is on the
// disk before a flush on another one begins.
func TestFlushCoversAllConnections(t *testing.T) {
	disk := newRAM(diskBytes)
	s := newServer(disk, discards)
	one, other := dial(t, s), dial(t, s)
	one.ask(cmdWrite, 0, 0, 512, make([]byte, 512))
	if code, _ := other.ask(cmdFlush, 0, 0, 0, nil); code != 0 {
		t.Errorf("flush: error %d", code)
	}
	if got, want := disk.took(), []string{"write", "flush"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if s.flags()&canMultiConn == 0 {
		t.Error("it does not say so")
	}
}

func TestRefusedRequests(t *testing.T) {
	const size = 1 << 20
	for _, row := range []struct {
		name           string
		o              blockdev.Options
		command, flags uint16
		off            uint64
		length         uint32
		want           uint32
	}{
		{"odd offset", discards, cmdRead, 0, 100, 512, eInval},
		{"odd length", discards, cmdRead, 0, 0, 513, eInval},
		{"nothing", discards, cmdRead, 0, 0, 0, eInval},
		{"read beyond the end", discards, cmdRead, 0, size - 512, 1024, eInval},
		{"read far beyond", discards, cmdRead, 0, size + 512, 512, eInval},
		{"read around the end of numbers", discards, cmdRead, 0, 1<<64 - 512, 1024, eInval},
		{"read of too much", discards, cmdRead, 0, 0, maxPayload + 512, eInval},
		{"write of nothing", discards, cmdWrite, 0, 0, 0, eInval},
		{"write beyond the end", discards, cmdWrite, 0, size - 512, 1024, eNoSpc},
		{"write at an odd offset", discards, cmdWrite, 0, 1, 512, eInval},
		{"write to a read-only disk", blockdev.Options{ReadOnly: true}, cmdWrite, 0, 0, 512, ePerm},
		{"zeroes beyond the end", discards, cmdWriteZeroes, 0, 512, 1<<32 - 512, eNoSpc},
		{"zeroes to a read-only disk", blockdev.Options{ReadOnly: true}, cmdWriteZeroes, 0, 0, 512, ePerm},
		{"trim beyond the end", discards, cmdTrim, 0, 512, 1<<32 - 512, eInval},
		{"trim of a read-only disk", blockdev.Options{ReadOnly: true}, cmdTrim, 0, 0, 512, ePerm},
		{"trim with a flag of zeroes", discards, cmdTrim, flagNoHole, 0, 512, eInval},
		{"flush of a range", discards, cmdFlush, 0, 0, 512, eInval},
		{"unknown flag", discards, cmdRead, 1 << 9, 0, 512, eInval},
		{"unknown command", discards, 99, 0, 0, 512, eInval},
		{"block status", discards, 7, 0, 0, 512, eInval},
	} {
		t.Run(row.name, func(t *testing.T) {
			disk := newRAM(size)
			c := dial(t, newServer(disk, row.o))
			var payload []byte
			if row.command == cmdWrite {
				payload = make([]byte, row.length)
			}
			if code, _ := c.ask(row.command, row.flags, row.off, row.length, payload); code != row.want {
				t.Errorf("got error %d, want %d", code, row.want)
			}
			if got := disk.took(); len(got) > 0 {
				t.Errorf("it reached the disk: %q", got)
			}
			if code, _ := c.ask(cmdRead, 0, 0, 512, nil); code != 0 {
				t.Errorf("the next request: error %d", code)
			}
		})
	}
}

func TestMalformedEndsTheConnection(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"wrong magic":         make([]byte, requestBytes),
		"write of too much":   head(cmdWrite, 0, 1, 0, maxPayload+512),
		"cut in a head":       head(cmdRead, 0, 1, 0, 512)[:20],
		"cut in what follows": append(head(cmdWrite, 0, 1, 0, 4096), make([]byte, 4000)...),
	} {
		t.Run(name, func(t *testing.T) {
			disk := newRAM(diskBytes)
			c := dial(t, newServer(disk, discards))
			c.send(bytes)
			if name[:3] == "cut" {
				c.conn.Close()
			}
			if err := c.ended(); err == nil {
				t.Error("ended without an error")
			}
			if got := disk.took(); len(got) > 0 {
				t.Errorf("it reached the disk: %q", got)
			}
		})
	}
}

func TestErrorsOfTheDisk(t *testing.T) {
	for _, row := range []struct {
		err  error
		want uint32
	}{
		{errBad, eIO},
		{fault.New(fault.Fenced, "another writer"), eIO},
		{errors.New("no kind"), eIO},
		{fault.New(fault.Exhausted, "full"), eNoSpc},
		{fault.New(fault.OutOfRange, "beyond"), eInval},
		{fault.New(fault.Unsupported, "none"), eNotSup},
	} {
		disk := newRAM(diskBytes)
		disk.fail = row.err
		c := dial(t, newServer(disk, discards))
		for _, command := range []uint16{cmdRead, cmdWrite, cmdTrim, cmdWriteZeroes} {
			var data []byte
			if command == cmdWrite {
				data = make([]byte, 512)
			}
			if code, _ := c.ask(command, flagFUA, 0, 512, data); code != row.want {
				t.Errorf("command %d, %v: got error %d, want %d", command, row.err, code, row.want)
			}
		}
		if code, _ := c.ask(cmdFlush, 0, 0, 0, nil); code != row.want {
			t.Errorf("flush, %v: got error %d, want %d", row.err, code, row.want)
		}
	}
}

func TestDisconnect(t *testing.T) {
	disk := newRAM(diskBytes)
	disk.gate = make(chan struct{})
	c := dial(t, newServer(disk, discards))
	c.send(head(cmdFlush, 0, 1, 0, 0), head(cmdDisconnect, 0, 2, 0, 0))
	eventually(t, "the flush is under way", func() bool { return disk.running() == 1 })
	close(disk.gate)
	// What came before it is answered.
	if code, cookie := c.reply(); code != 0 || cookie != 1 {
		t.Errorf("got error %d of %d", code, cookie)
	}
	if err := c.ended(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

// TestBounded: however much a client sends while the disk does not answer, the
// requests under way and their memory are bounded.
func TestBounded(t *testing.T) {
	for _, row := range []struct {
		length             uint32
		maxCalls, maxBytes int
	}{
		{512, maxRequests, maxRequests * 512},
		{1 << 20, budgetBytes >> 20, budgetBytes},
		{maxPayload, 1, maxPayload}, // one that is larger than the budget has it alone
	} {
		t.Run(fmt.Sprint(row.length), func(t *testing.T) {
			disk := newRAM(maxPayload)
			disk.gate = make(chan struct{})
			s := newServer(disk, discards)
			var clients sync.WaitGroup
			const each = 200
			n := max(3, min(each, (64<<20)/int(row.length)))
			for range 2 {
				c := dial(t, s)
				clients.Go(func() {
					for i := range n {
						if _, err := c.conn.Write(append(head(cmdWrite, 0, uint64(i), 0, row.length), make([]byte, row.length)...)); err != nil {
							t.Error(err)
							return
						}
					}
				})
				clients.Go(func() {
					for range n {
						if code, _ := c.reply(); code != 0 {
							t.Errorf("error %d", code)
						}
					}
				})
			}
			want := min(row.maxCalls*2, 2*n)
			if row.length > 512 {
				want = row.maxCalls
			}
			eventually(t, "all that may run runs", func() bool { return disk.running() >= want })
			close(disk.gate)
			clients.Wait()
			if bytes := disk.maxBytes; row.length > 512 && bytes > row.maxBytes || disk.maxCalls > want {
				t.Errorf("%d requests with %d bytes at once, want at most %d with %d", disk.maxCalls, bytes, want, row.maxBytes)
			}
		})
	}
}

// TestGivenUp: when the server is told to end at once, the disk's calls end, and
// the client learns of no error, so that it asks again.
func TestGivenUp(t *testing.T) {
	disk := newRAM(diskBytes)
	disk.gate = make(chan struct{})
	stream, in := io.Pipe()
	defer in.Close()
	client := recorded{stream: stream, replies: new(atomic.Int64)}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- newServer(disk, discards).connect(client).serve(ctx) }()
	_, err := in.Write(append(head(cmdRead, 0, 1, 0, 512), head(cmdFlush, 0, 2, 0, 0)...))
	must(t, err)
	eventually(t, "both are under way", func() bool { return disk.running() == 2 })
	cancel()
	eventually(t, "both are given up", func() bool { return disk.running() == 0 })
	in.Close()
	if err := <-served; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
	if n := client.replies.Load(); n > 0 {
		t.Errorf("the client was sent %d replies", n)
	}
}

// TestDrain: a connection that is ended in good order answers all that it was
// sent, what comes late included, and then ends. Nothing is answered while the
// client may still send.
func TestDrain(t *testing.T) {
	disk := newRAM(diskBytes)
	disk.gate = make(chan struct{})
	c := dial(t, newServer(disk, discards))
	c.send(head(cmdFlush, 0, 1, 0, 0), head(cmdRead, 0, 2, 0, 1<<20))
	eventually(t, "they are under way", func() bool { return disk.running() == 2 })
	drained := make(chan struct{})
	go func() {
		c.c.drain()
		close(drained)
	}()
	eventually(t, "replies are held", func() bool {
		c.c.writing.Lock()
		defer c.c.writing.Unlock()
		return c.c.holding
	})
	c.send(head(cmdTrim, 0, 3, 0, 512))
	eventually(t, "the late one is under way", func() bool { return disk.running() == 3 })
	close(disk.gate)
	<-drained
	if err := c.ended(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if _, err := c.conn.Write(head(cmdFlush, 0, 4, 0, 0)); err == nil {
		t.Error("it still takes requests")
	}
	// The client has not read until now, and yet all is there.
	answered := make(map[uint64]bool)
	for range 3 {
		code, cookie := c.reply()
		if code != 0 {
			t.Errorf("error %d of %d", code, cookie)
		}
		answered[cookie] = true
		if cookie == 2 {
			_, err := io.CopyN(io.Discard, c.conn, 1<<20)
			must(t, err)
		}
	}
	if len(answered) != 3 {
		t.Errorf("answered: %v", answered)
	}
	if n, err := c.conn.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("after the replies: %d bytes, %v; want the end", n, err)
	}
}

// TestDrainOfMuch: replies that take all memory are not held for ever.
func TestDrainOfMuch(t *testing.T) {
	c := dial(t, newServer(newRAM(diskBytes), discards))
	go func() {
		for i := range 40 {
			if _, err := c.conn.Write(head(cmdRead, 0, uint64(i), 0, 1<<20)); err != nil {
				return
			}
		}
	}()
	go func() { _, _ = io.Copy(io.Discard, c.conn) }()
	c.c.drain()
	if err := c.ended(); err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if free := c.c.server.budget.free; free != budgetBytes {
		t.Errorf("%d of %d bytes were given back", free, budgetBytes)
	}
}

func TestSettle(t *testing.T) {
	disk := newRAM(diskBytes)
	disk.gate = make(chan struct{})
	c := dial(t, newServer(disk, discards))
	must(t, c.c.settle(t.Context()))
	c.send(head(cmdFlush, 0, 1, 0, 0))
	eventually(t, "it is under way", func() bool { return disk.running() == 1 })
	for range 2 { // and the second time as well
		short, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		if err := c.c.settle(short); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a request under way: got %v", err)
		}
	}
	close(disk.gate)
	c.reply()
	must(t, c.c.settle(t.Context()))
	must(t, c.c.settle(t.Context()))
}

// TestClientDies: a client that is gone in the middle of requests, or that does
// not take its replies, costs its connection only.
func TestClientDies(t *testing.T) {
	disk := newRAM(diskBytes)
	s := newServer(disk, discards)
	for range 20 {
		c := dial(t, s)
		for i := range 50 {
			c.send(head(cmdRead, 0, uint64(i), 0, 64<<10))
			if i == 30 {
				c.conn.Close()
				break
			}
		}
		_ = c.ended()
	}
	deaf := dial(t, s)
	go func() {
		for i := range 1000 {
			if _, err := deaf.conn.Write(head(cmdRead, 0, uint64(i), 0, 1<<20)); err != nil {
				return
			}
		}
	}()
	eventually(t, "its replies wait", func() bool {
		s.budget.mu.Lock()
		defer s.budget.mu.Unlock()
		return s.budget.free < budgetBytes/2
	})
	deaf.cancel()
	_ = deaf.ended()
	if s.budget.free != budgetBytes {
		t.Errorf("%d of %d bytes of memory were given back", s.budget.free, budgetBytes)
	}
}

// TestConcurrent compares what is read with a model, over several connections
// with many requests each. A client has a part of the disk to itself, in which
// its own requests that are under way do not overlap.
func TestConcurrent(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	const clients, depth, part = 3, 16, 64 << 10
	rounds := 60
	if os.Getenv("HOLKAS_SOAK") != "" {
		rounds = 2000
	}
	disk := newRAM(clients * depth * part)
	s := newServer(disk, discards)
	var all sync.WaitGroup
	for i := range clients {
		c := dial(t, s)
		var turn sync.Mutex // of writing to the connection
		waiting := make([]chan []byte, depth)
		for j := range waiting {
			waiting[j] = make(chan []byte, 1)
		}
		lengths := make([]uint32, depth)
		go func() { // hands replies out
			for {
				var b [replyBytes]byte
				if _, err := io.ReadFull(c.conn, b[:]); err != nil {
					return
				}
				j := b[15]
				if b[7] != 0 {
					t.Errorf("error %d", b[7])
				}
				data := make([]byte, lengths[j])
				if _, err := io.ReadFull(c.conn, data); err != nil {
					t.Error(err)
				}
				waiting[j] <- data
			}
		}()
		var workers sync.WaitGroup
		for j := range depth {
			random := rand.New(rand.NewPCG(seed, uint64(i*depth+j)))
			model := make([]byte, part)
			base := (i*depth + j) * part
			workers.Go(func() {
				for range rounds {
					off := random.IntN(part/512) * 512
					n := (random.IntN((part-off)/512) + 1) * 512
					command, flags, data := uint16(cmdRead), uint16(0), []byte(nil)
					want := 0
					switch random.IntN(4) {
					case 0, 1:
						command, data = cmdWrite, make([]byte, n)
						for k := range data {
							data[k] = byte(random.Uint32())
						}
						copy(model[off:], data)
					case 2:
						command = cmdWriteZeroes
						clear(model[off : off+n])
					default:
						want = n
					}
					if command != cmdRead && random.IntN(4) == 0 {
						flags = flagFUA
					}
					turn.Lock()
					lengths[j] = uint32(want)
					_, err := c.conn.Write(append(head(command, flags, uint64(j), uint64(base+off), uint32(n)), data...))
					turn.Unlock()
					if err != nil {
						t.Error(err)
						return
					}
					if got := <-waiting[j]; want > 0 && !bytes.Equal(got, model[off:off+n]) {
						t.Errorf("client %d, worker %d: %d bytes at %d are not what was written", i, j, n, off)
						return
					}
				}
			})
		}
		all.Go(func() {
			workers.Wait()
			c.conn.Close()
			_ = c.ended()
		})
	}
	all.Wait()
	if disk.bad != "" {
		t.Error(disk.bad)
	}
}

// FuzzRequests: whatever a client sends, the server ends without a panic, and
// the disk is asked for nothing that is not in it.
func FuzzRequests(f *testing.F) {
	f.Add(head(cmdRead, 0, 1, 0, 512))
	f.Add(append(head(cmdWrite, flagFUA, 1, 512, 1024), make([]byte, 1024)...))
	f.Add(slices.Concat(head(cmdTrim, 0, 1, 0, 4096), head(cmdWriteZeroes, flagNoHole, 2, 4096, 512), head(cmdFlush, 0, 3, 0, 0), head(cmdDisconnect, 0, 4, 0, 0)))
	f.Add(head(cmdRead, 0, 1, 1<<64-512, 512))
	f.Fuzz(func(t *testing.T, stream []byte) {
		disk := newRAM(64 << 10)
		_ = newServer(disk, discards).connect(recorded{stream: bytes.NewReader(stream), replies: new(atomic.Int64)}).serve(t.Context())
		if disk.bad != "" {
			t.Error(disk.bad)
		}
	})
}
