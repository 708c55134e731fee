package fuse

import (
	"errors"
	"os"
	"strings"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

const (
	magic         = "holkasfd"
	ledgerVersion = 1

	// background is how many reads and writes the kernel has under way; a few
	// slots more are for what it waits for meanwhile: a flush, a size.
	background = 64
	slots      = background + 8
	// payload is the most that one read or write carries. Larger ones were not
	// faster, and each reader that waits has touched as much memory.
	payload = 128 << 10

	headerSize = 4096
	slotStride = 512
	blockSize  = 4096

	flagReadOnly = 1 << 0
	flagDiscard  = 1 << 1
)

var pageSize = os.Getpagesize()

// ledger is the memory in which the requests of one device are that were taken
// from the kernel and not answered. It outlives the process: see doc.go for its
// layout.
type ledger struct {
	fd  int
	mem []byte

	slots, payload int
	name           string // of the file
	flags          uint32
}

// makeLedger makes an empty one.
func makeLedger(name string, flags uint32, sizeBytes int64) (*ledger, error) {
	fd, err := unix.MemfdCreate("holkas-device", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3
		fd, err = unix.MemfdCreate("holkas-device", unix.MFD_CLOEXEC)
	}
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	l := &ledger{fd: fd, slots: slots, payload: payload, name: name, flags: flags}
	if err := unix.Ftruncate(fd, int64(l.length())); err != nil {
		l.close()
		return nil, os.NewSyscallError("ftruncate", err)
	}
	if err := l.mapIn(); err != nil {
		l.close()
		return nil, err
	}
	copy(l.mem, magic)
	order.PutUint32(l.mem[8:], ledgerVersion)
	order.PutUint32(l.mem[12:], slots)
	order.PutUint32(l.mem[16:], payload)
	order.PutUint32(l.mem[20:], flags)
	copy(l.mem[32:128], name)
	l.setSize(sizeBytes)
	return l, nil
}

// openLedger opens the one that an earlier process left. It owns fd from then on
// if there is no error.
func openLedger(fd int) (*ledger, error) {
	head := make([]byte, headerSize)
	if n, err := unix.Pread(fd, head, 0); err != nil || n != headerSize {
		return nil, fault.New(fault.Corrupt, "the memory of a device: %d bytes of %d, %w", n, headerSize, err)
	}
	version := order.Uint32(head[8:])
	if string(head[:8]) != magic || version != ledgerVersion {
		return nil, fault.New(fault.Unsupported, "the memory of a device: %q of version %d: want %q of version %d: start the engine that made it, and let it detach the device", head[:8], version, magic, ledgerVersion)
	}
	l := &ledger{
		fd: fd, slots: int(order.Uint32(head[12:])), payload: int(order.Uint32(head[16:])), flags: order.Uint32(head[20:]),
		name: strings.TrimRight(string(head[32:128]), "\x00"),
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || l.slots < 1 || l.slots > 1<<10 || l.payload > 1<<20 || l.payload%blockSize != 0 || st.Size != int64(l.length()) {
		return nil, fault.New(fault.Corrupt, "the memory of a device: %d bytes for %d slots of %d: want %d, %w", st.Size, l.slots, l.payload, l.length(), err)
	}
	return l, l.mapIn()
}

func (l *ledger) payloadsAt() int {
	return (headerSize + l.slots*slotStride + blockSize - 1) / blockSize * blockSize
}

// length is a multiple of every machine's page.
func (l *ledger) length() int {
	const page = 64 << 10
	return (l.payloadsAt() + l.slots*l.payload + page - 1) / page * page
}

// mapIn maps the memory. What is touched of it stays in memory: the kernel puts
// requests there while it may be short of it.
func (l *ledger) mapIn() (err error) {
	l.mem, err = unix.Mmap(l.fd, 0, l.length(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return os.NewSyscallError("mmap", err)
	}
	// Where it is not allowed, there is seldom swap either.
	_, _, _ = unix.Syscall(unix.SYS_MLOCK2, uintptr(unsafe.Pointer(&l.mem[0])), uintptr(len(l.mem)), unix.MLOCK_ONFAULT)
	return nil
}

// close gives the memory back to the system, once the keeper lets go as well.
func (l *ledger) close() {
	if l.mem != nil {
		_ = unix.Munmap(l.mem)
	}
	_ = unix.Close(l.fd)
}

func (l *ledger) size() int64 { return (*atomic.Int64)(unsafe.Pointer(&l.mem[24])).Load() }
func (l *ledger) setSize(sizeBytes int64) {
	(*atomic.Int64)(unsafe.Pointer(&l.mem[24])).Store(sizeBytes)
}

// slot has room for one request and its reply.
type slot struct {
	head    []byte
	payload []byte
	ready   bool // its pages are in this process's tables
	parts   [2]unix.Iovec
}

func (l *ledger) slot(i int) *slot {
	head, at := headerSize+i*slotStride, l.payloadsAt()+i*l.payload
	return &slot{head: l.mem[head : head+slotStride : head+slotStride], payload: l.mem[at : at+l.payload : at+l.payload]}
}

const (
	slotState   = 0
	slotResult  = 4
	slotRequest = 64
	slotReply   = 256

	// stateDone says that the request was carried out, with slotResult, and must
	// not be again: what was asked for later may have been carried out as well.
	stateDone = 1
)

func (s *slot) word(off int) *atomic.Uint32 { return (*atomic.Uint32)(unsafe.Pointer(&s.head[off])) }

// taken reports whether the slot holds a request. The first word of a request is
// its length, which is not 0.
func (s *slot) taken() bool { return s.word(slotRequest).Load() != 0 }

// free forgets the slot's request, which was answered.
func (s *slot) free() {
	s.word(slotRequest).Store(0)
	s.word(slotState).Store(0)
}

// done says what came of the request, before the kernel is told.
func (s *slot) done(errno int32) {
	s.word(slotResult).Store(uint32(errno))
	s.word(slotState).Store(stateDone)
}

// result is what came of the request, if an earlier process came as far as that.
func (s *slot) result() (errno int32, done bool) {
	return int32(s.word(slotResult).Load()), s.word(slotState).Load() == stateDone
}

// prepare makes the slot ready for a request. Its pages are touched, so that the
// kernel finds them: when it has to fetch one for a process that is being killed
// it gives up, and with it the request, which fails.
func (s *slot) prepare() {
	s.word(slotState).Store(0)
	if s.ready {
		return
	}
	for i := 0; i < len(s.payload); i += blockSize {
		s.payload[i] = 0
	}
	s.ready = true
}

func (s *slot) request() request {
	b := s.head[slotRequest:]
	return request{
		op: order.Uint32(b[4:]), unique: order.Uint64(b[8:]), node: order.Uint64(b[16:]),
		args: b[requestHeader : requestHeader+argsLength], rest: s.payload,
	}
}

// reply is the room for a reply: header and body.
func (s *slot) reply() []byte { return s.head[slotReply:] }
