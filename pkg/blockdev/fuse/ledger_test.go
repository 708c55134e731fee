package fuse

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// memory is a disk that counts.
type memory struct {
	mu     sync.Mutex
	bytes  []byte
	writes int
	zeroes int
	flush  int
	err    error
}

func (m *memory) Size() int64 { return int64(len(m.bytes)) }

func (m *memory) ReadAt(_ context.Context, p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	copy(p, m.bytes[off:])
	return m.err
}

func (m *memory) WriteAt(_ context.Context, p []byte, off int64) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.writes++
	copy(m.bytes[off:], p)
	return m.err
}

func (m *memory) Zero(_ context.Context, off, length int64, _ bool) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.zeroes++
	clear(m.bytes[off : off+length])
	return m.err
}

func (m *memory) Flush(context.Context) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.flush++
	return m.err
}

// put makes a slot hold a request, as the kernel would put it there.
func put(s *slot, op uint32, args, data []byte) {
	b := s.head[slotRequest:]
	order.PutUint32(b[4:], op)
	order.PutUint64(b[8:], 77) // no such request: the kernel refuses the answer
	order.PutUint64(b[16:], fileNode)
	copy(b[requestHeader:], args)
	copy(s.payload, data)
	s.word(slotRequest).Store(uint32(requestHeader + argsLength + len(data)))
}

func writeArgs(off uint64, length uint32) []byte {
	b := make([]byte, argsLength)
	order.PutUint64(b[8:], off)
	order.PutUint32(b[16:], length)
	return b
}

func zeroArgs(off, length uint64, mode uint32) []byte {
	b := make([]byte, argsLength)
	order.PutUint64(b[8:], off)
	order.PutUint64(b[16:], length)
	order.PutUint32(b[24:], mode)
	return b
}

func testSession(t *testing.T, o blockdev.Options) *session {
	t.Helper()
	s, err := newSession("file", 1<<20, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.close)
	return s
}

// resumed serves a session until what it was left with is carried out.
func resumed(s *session, disk blockdev.Disk) {
	v := s.serve(context.Background(), disk)
	s.unmount() // ends it, once the slots are done
	v.readers.Wait()
	v.end()
}

// TestResume: a request that was taken and not answered is carried out; one that
// was carried out is not again, since a later one may have been as well.
func TestResume(t *testing.T) {
	ones := bytes.Repeat([]byte{1}, 4096)
	s, disk := testSession(t, blockdev.Options{}), &memory{bytes: make([]byte, 1<<20)}
	taken, answered, zero, flush := s.ledger.slot(3), s.ledger.slot(5), s.ledger.slot(0), s.ledger.slot(s.ledger.slots-1)
	put(taken, opWrite, writeArgs(4096, 4096), ones)
	put(answered, opWrite, writeArgs(8192, 4096), ones)
	answered.done(0)
	put(zero, opFallocate, zeroArgs(16384, 4096, fallocPunchHole|fallocKeepSize), nil)
	zero.done(0)
	put(flush, opFsync, nil, nil)
	resumed(s, disk)
	want := make([]byte, 1<<20)
	copy(want[4096:], ones)
	if disk.writes != 1 || disk.zeroes != 0 || disk.flush != 1 || !bytes.Equal(disk.bytes, want) {
		t.Errorf("%d writes, %d zeroings, %d flushes: want 1, 0, 1; or the bytes differ", disk.writes, disk.zeroes, disk.flush)
	}
	for i := range s.ledger.slots {
		if s.ledger.slot(i).taken() {
			t.Errorf("slot %d still has its request", i)
		}
	}
}

// TestGivenUp: what the disk gives up at the end stays for the next one.
func TestGivenUp(t *testing.T) {
	s := testSession(t, blockdev.Options{})
	put(s.ledger.slot(1), opWrite, writeArgs(0, 512), make([]byte, 512))
	put(s.ledger.slot(2), opFsync, nil, nil)
	put(s.ledger.slot(3), opRead, writeArgs(0, 512), nil)
	v := s.serve(context.Background(), absent{s.ledger})
	v.cancel()
	s.unmount()
	v.end()
	for i := 1; i <= 3; i++ {
		if _, done := s.ledger.slot(i).result(); done || !s.ledger.slot(i).taken() {
			t.Errorf("slot %d is not left as it was", i)
		}
	}
}

// TestResults: what the kernel is told.
func TestResults(t *testing.T) {
	data := make([]byte, 4096)
	for _, c := range []struct {
		name     string
		op       uint32
		args     []byte
		readOnly bool
		err      error
		want     unix.Errno
	}{
		{"write", opWrite, writeArgs(4096, 4096), false, nil, 0},
		{"an error", opWrite, writeArgs(4096, 4096), false, errors.New("no"), unix.EIO},
		{"an error of no space", opWrite, writeArgs(4096, 4096), false, fault.New(fault.Exhausted, "full"), unix.EIO},
		{"read-only", opWrite, writeArgs(4096, 4096), true, nil, unix.EROFS},
		{"beyond the end", opWrite, writeArgs(1<<20-512, 1024), false, nil, unix.EINVAL},
		{"far beyond it", opWrite, writeArgs(1<<63-512, 1024), false, nil, unix.EINVAL},
		{"between sectors", opWrite, writeArgs(100, 512), false, nil, unix.EINVAL},
		{"half a sector", opWrite, writeArgs(0, 100), false, nil, unix.EINVAL},
		{"more than a slot holds", opWrite, writeArgs(0, payload+512), false, nil, unix.EINVAL},
		{"discard", opFallocate, zeroArgs(0, 8192, fallocPunchHole|fallocKeepSize), false, nil, 0},
		{"zeros", opFallocate, zeroArgs(0, 8192, fallocZeroRange|fallocKeepSize), false, nil, 0},
		{"discard, read-only", opFallocate, zeroArgs(0, 8192, fallocPunchHole|fallocKeepSize), true, nil, unix.EROFS},
		{"discard beyond the end", opFallocate, zeroArgs(1<<20, 4096, fallocPunchHole|fallocKeepSize), false, nil, unix.EINVAL},
		{"allocate", opFallocate, zeroArgs(0, 8192, 0), false, nil, unix.EOPNOTSUPP},
		{"discard that fails", opFallocate, zeroArgs(0, 8192, fallocPunchHole|fallocKeepSize), false, errors.New("no"), unix.EIO},
	} {
		s := testSession(t, blockdev.Options{ReadOnly: c.readOnly})
		slot := s.ledger.slot(0)
		put(slot, c.op, c.args, data)
		resumed(s, &memory{bytes: make([]byte, 1<<20), err: c.err})
		reply := slot.reply()
		if got := unix.Errno(-int32(order.Uint32(reply[4:]))); got != c.want || order.Uint64(reply[8:]) != 77 {
			t.Errorf("%s: got %v, want %v", c.name, got, c.want)
		}
	}
}

// TestLayout pins what one version of the program leaves to another.
func TestLayout(t *testing.T) {
	l, err := makeLedger("a name", flagReadOnly|flagDiscard, 0x123456)
	if err != nil {
		t.Fatal(err)
	}
	defer l.close()
	put(l.slot(1), opWrite, writeArgs(0x1000, 0x200), []byte("data"))
	l.slot(1).done(5)
	for _, c := range []struct {
		at   int
		want string
	}{
		{0, "686f6c6b61736664" + "01000000" + "48000000" + "00000200" + "03000000" + "5634120000000000" + "61206e616d65" + "00"},
		{4096 + 512, "01000000" + "05000000" + "0000"},
		{4096 + 512 + 64, "54000000" + "10000000" + "4d00000000000000" + "0200000000000000"},
		{4096 + 512 + 64 + 40 + 8, "0010000000000000" + "00020000"},
		{4096 + 9*4096 + 128<<10, "64617461"},
	} {
		if got := hex.EncodeToString(l.mem[c.at : c.at+len(c.want)/2]); got != c.want {
			t.Errorf("at %d: got %s, want %s", c.at, got, c.want)
		}
	}
	fd, err := unix.FcntlInt(uintptr(l.fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	again, err := openLedger(fd)
	if err != nil {
		t.Fatal(err)
	}
	defer again.close()
	if errno, done := again.slot(1).result(); again.name != l.name || again.flags != l.flags || again.size() != 0x123456 || !again.slot(1).taken() || !done || errno != 5 {
		t.Errorf("got %+v", again)
	}
}

// TestForeign: memory that is not understood is refused.
func TestForeign(t *testing.T) {
	for name, spoil := range map[string]func(l *ledger){
		"magic":   func(l *ledger) { l.mem[0]++ },
		"version": func(l *ledger) { l.mem[8]++ },
		"slots":   func(l *ledger) { l.mem[12]++ },
		"payload": func(l *ledger) { l.mem[16]++ },
		"length":  func(l *ledger) { _ = unix.Ftruncate(l.fd, 4096) },
		"empty":   func(l *ledger) { _ = unix.Ftruncate(l.fd, 0) },
	} {
		l, err := makeLedger("a", 0, 4096)
		if err != nil {
			t.Fatal(err)
		}
		spoil(l)
		if _, err := openLedger(l.fd); err == nil || fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v, want an error", name, err)
		}
		l.close()
	}
}
