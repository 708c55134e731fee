package fuse

import (
	"context"
	"errors"
	"sync"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
)

// spare is how many readers wait for requests at most; all others have one.
const spare = 3

// session is one filesystem: what the kernel, the keeper and the engine have of
// one device.
type session struct {
	device int // /dev/fuse
	root   int // the mounted folder
	ledger *ledger
}

// newSession mounts one.
func newSession(name string, sizeBytes int64, o blockdev.Options) (*session, error) {
	var flags uint32
	if o.ReadOnly {
		flags |= flagReadOnly
	}
	if o.Discard {
		flags |= flagDiscard
	}
	l, err := makeLedger(name, flags, sizeBytes)
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	device, root, err := mount(l.payload)
	if err != nil {
		l.close()
		return nil, err
	}
	return &session{device: device, root: root, ledger: l}, nil
}

func (s *session) readOnly() bool { return s.ledger.flags&flagReadOnly != 0 }

func (s *session) options() blockdev.Options {
	return blockdev.Options{ReadOnly: s.readOnly(), Discard: s.ledger.flags&flagDiscard != 0}
}

// unmount lets go of the folder. The last one who does unmounts it.
func (s *session) unmount() {
	_ = unix.Close(s.root)
	s.root = -1
}

// close lets go of the rest. Nobody may be serving it.
func (s *session) close() {
	if s.root >= 0 {
		s.unmount()
	}
	_ = unix.Close(s.device)
	s.ledger.close()
}

// service answers the requests of a session with a disk. Each reader takes one
// request at a time into a slot of its own and carries it out; when the last one
// that waits has got a request, another one is started.
type service struct {
	*session
	disk    blockdev.Disk
	ctx     context.Context //nolint:containedctx // of the requests, which have no caller
	cancel  context.CancelFunc
	readers sync.WaitGroup

	mu       sync.Mutex // guards what follows
	waiting  int        // readers
	unused   []*slot
	stopping bool
}

// serve starts to answer, first what an earlier process had taken and had not
// answered.
func (s *session) serve(ctx context.Context, disk blockdev.Disk) *service {
	v := &service{session: s, disk: disk}
	v.ctx, v.cancel = context.WithCancel(context.WithoutCancel(ctx))
	v.mu.Lock()
	defer v.mu.Unlock()
	for i := s.ledger.slots - 1; i >= 0; i-- {
		if slot := s.ledger.slot(i); slot.taken() {
			v.readers.Go(func() { v.resume(slot) })
		} else {
			v.unused = append(v.unused, slot)
		}
	}
	v.startReader()
	return v
}

// stop ends the service, and leaves the filesystem to the next one: with the
// requests that the disk gives up, since their context ends, and those that nobody
// takes. It returns false, and stops nothing, if there is no device on the file.
func (v *service) stop() bool {
	// Each of these makes a request, which ends one reader. The kernel makes them
	// for a file that it knows, as that of a device.
	note := make([]byte, replyHeader+32)
	putHeader(note, 0, notifyRetrieve, 32)
	order.PutUint64(note[replyHeader+8:], fileNode)
	v.mu.Lock()
	woken := true
	for range v.waiting {
		if _, err := unix.Write(v.device, note); err != nil {
			woken = false
			break
		}
	}
	v.stopping = woken
	v.mu.Unlock()
	if woken {
		v.cancel()
		v.readers.Wait()
	}
	return woken
}

// end waits for the end of the service, whose filesystem is gone.
func (v *service) end() {
	v.mu.Lock()
	v.stopping = true
	v.mu.Unlock()
	v.cancel()
	v.readers.Wait()
}

// startReader starts a reader if there is a slot for it. The caller holds mu.
func (v *service) startReader() {
	if n := len(v.unused); n > 0 && !v.stopping {
		slot := v.unused[n-1]
		v.unused = v.unused[:n-1]
		v.waiting++
		v.readers.Go(func() { v.read(slot) })
	}
}

// took says that a reader that was waiting has a request.
func (v *service) took() {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waiting--; v.waiting == 0 {
		v.startReader()
	}
}

// gone says that there is nothing left to wait for.
func (v *service) gone() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.waiting--
	v.stopping = true
}

// again says that a reader is free, and reports whether it is to wait for
// another request; otherwise it has given back its slot.
func (v *service) again(s *slot) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.stopping || v.waiting >= spare {
		v.unused = append(v.unused, s)
		return false
	}
	v.waiting++
	return true
}

// resume carries out a request that an earlier process left, and then reads on.
func (v *service) resume(s *slot) {
	if v.carryOut(s) && v.again(s) {
		v.read(s)
	}
}

// read takes requests and carries them out.
func (v *service) read(s *slot) {
	for {
		if err := v.receive(s); err != nil {
			v.gone()
			return
		}
		v.took()
		if !v.carryOut(s) || !v.again(s) {
			return
		}
	}
}

// receive waits for a request. An error means that the filesystem is gone.
func (v *service) receive(s *slot) error {
	for {
		s.prepare()
		s.parts[0].Base, s.parts[1].Base = &s.head[slotRequest], &s.payload[0]
		s.parts[0].SetLen(requestHeader + argsLength)
		s.parts[1].SetLen(len(s.payload))
		_, _, errno := unix.Syscall(unix.SYS_READV, uintptr(v.device), uintptr(unsafe.Pointer(&s.parts)), 2)
		if errno == 0 {
			return nil
		}
		s.free()
		// The kernel gives up a request that its process does not wait for any more.
		if !errors.Is(errno, unix.EINTR) && !errors.Is(errno, unix.EAGAIN) && !errors.Is(errno, unix.ENOENT) && !errors.Is(errno, unix.EIO) {
			return errno
		}
	}
}

// send answers the slot's request. It makes no difference to an answer that the
// kernel has had it, or does not wait for it any more.
func (v *service) send(unique uint64, s *slot, errno int32, body int, data []byte) {
	if errno != 0 {
		body, data = 0, nil
	}
	b := s.reply()
	putHeader(b, unique, -errno, body+len(data))
	s.parts[0].Base = &b[0]
	s.parts[0].SetLen(replyHeader + body)
	count := uintptr(1)
	if len(data) > 0 {
		s.parts[1].Base, count = &data[0], 2
		s.parts[1].SetLen(len(data))
	}
	_, _, _ = unix.Syscall(unix.SYS_WRITEV, uintptr(v.device), uintptr(unsafe.Pointer(&s.parts)), count)
}
