package fuse

import (
	"context"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
)

// answerLimit is how long the keeper may take to answer. It waits for nothing.
const answerLimit = 30 * time.Second

// hold is the engine's side of the keeper. A keeper that dies while the engine
// lives is replaced: the engine has all descriptors itself.
type hold struct {
	dir *os.File

	mu     sync.Mutex // guards what follows
	held   holdings   // what the keeper is to hold
	conn   *net.UnixConn
	ended  chan struct{} // closed when conn is
	answer chan string
	closed bool

	quit chan struct{}  // closed at the end
	work sync.WaitGroup // the goroutines
}

// openHold reaches the keeper, started if there is none, and returns what it
// holds from earlier engines. The descriptors are the caller's.
func openHold(dir *os.File) (h *hold, left holdings, err error) {
	h = &hold{dir: dir, held: holdings{}, quit: make(chan struct{})}
	h.mu.Lock()
	defer h.mu.Unlock()
	left, err = h.connect()
	if err != nil {
		return nil, nil, err
	}
	maps.Copy(h.held, left)
	return h, left, nil
}

// put makes the keeper hold a volume's descriptors, which stay the caller's too.
// When it returns, they outlive this process.
func (h *hold) put(id string, fds []int) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.held[id] = fds
	return h.tell("put "+id, fds)
}

// drop makes the keeper let go.
func (h *hold) drop(id string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.held, id)
	return h.tell("drop "+id, nil)
}

// close leaves the keeper with what it holds.
func (h *hold) close() {
	h.mu.Lock()
	h.closed = true
	close(h.quit)
	_ = h.conn.Close()
	h.mu.Unlock()
	h.work.Wait()
}

// tell has something done, by another keeper if need be: one that is started is
// told everything. The caller holds mu.
func (h *hold) tell(message string, fds []int) error {
	if h.closed {
		return errClosed
	}
	if h.ask(message, fds) == nil {
		return nil
	}
	return h.replace()
}

// replace finds a keeper and has it hold everything. The caller holds mu.
func (h *hold) replace() error {
	_ = h.conn.Close()
	left, err := h.connect()
	if err != nil {
		return err
	}
	for id, fds := range left { // the keeper is the same
		closeAll(fds)
		if _, wanted := h.held[id]; !wanted {
			if err := h.ask("drop "+id, nil); err != nil {
				return err
			}
		}
	}
	for id, fds := range h.held {
		if err := h.ask("put "+id, fds); err != nil {
			return err
		}
	}
	return nil
}

// ask waits for the answer of the keeper that there is. The caller holds mu.
func (h *hold) ask(message string, fds []int) error {
	_ = h.conn.SetDeadline(time.Now().Add(answerLimit))
	if err := send(h.conn, message, fds); err != nil {
		return fault.New(fault.Transient, "the keeper of devices: %w", err)
	}
	select {
	case <-h.answer:
		return h.conn.SetDeadline(time.Time{})
	case <-h.ended:
		return fault.New(fault.Transient, "the keeper of devices ended")
	}
}

// connect reaches a keeper. The caller holds mu.
func (h *hold) connect() (left holdings, err error) {
	for deadline := time.Now().Add(answerLimit); ; {
		conn, err := net.DialUnix("unixpacket", nil, socketIn(h.dir))
		if err == nil {
			if left, err = greeting(conn); err == nil {
				h.conn, h.ended, h.answer = conn, make(chan struct{}), make(chan string)
				ended, answer := h.ended, h.answer
				h.work.Go(func() { h.listen(conn, answer, ended) })
				return left, nil
			}
			_ = conn.Close() // it was about to end
		}
		if err = h.start(); err != nil && !fault.Is(err, fault.Busy) || time.Now().After(deadline) {
			return nil, fault.New(fault.Transient, "the keeper of devices: %w", err)
		}
	}
}

// greeting returns what the keeper holds.
func greeting(conn *net.UnixConn) (holdings, error) {
	left := holdings{}
	_ = conn.SetDeadline(time.Now().Add(answerLimit))
	for {
		message, fds, err := receive(conn)
		switch {
		case err != nil:
			for _, fds := range left {
				closeAll(fds)
			}
			return nil, err
		case message == "all":
			return left, conn.SetDeadline(time.Time{})
		}
		left[message[len("held "):]] = fds
	}
}

// listen passes the keeper's answers on, and replaces it when it ends.
func (h *hold) listen(conn *net.UnixConn, answer chan<- string, ended chan<- struct{}) {
	for {
		message, _, err := receive(conn)
		if err != nil {
			break
		}
		answer <- message
	}
	close(ended)
	for wait := time.Duration(0); ; wait = time.Second {
		select {
		case <-h.quit:
			return
		case <-time.After(wait):
		}
		h.mu.Lock()
		if h.closed || h.conn != conn {
			h.mu.Unlock()
			return // as it was to be, or done already
		}
		err := h.replace()
		current := h.conn
		h.mu.Unlock()
		if err == nil {
			klog.Background().Info("The keeper of devices ended and was started anew")
			return
		}
		klog.Background().Error(err, "No keeper of devices: they would not outlive the engine", "retryIn", time.Second)
		conn = current
	}
}

// start starts a keeper, detached: in a session of its own, with nothing of the
// engine's but its socket and the lock that makes it the only one. Busy if there
// is one.
func (h *hold) start() error {
	locked, err := lock(h.dir.Name(), keeperLock)
	if err != nil {
		return err
	}
	defer locked.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := flock(ctx, locked); err != nil {
		return fault.New(fault.Busy, "there is a keeper, and it does not answer: %w", err)
	}
	listener, err := listen(h.dir)
	if err != nil {
		return err
	}
	defer listener.Close()
	socket, err := listener.File()
	if err != nil {
		return err
	}
	defer socket.Close()
	cmd := exec.Command("/proc/self/exe")
	cmd.Args = []string{os.Args[0], Command, runKeep, h.dir.Name()} // the folder for people to see
	cmd.Env, cmd.Dir = []string{"GOMAXPROCS=1"}, "/"
	cmd.ExtraFiles = []*os.File{socket, locked}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return err
	}
	go func() { _ = cmd.Wait() }() // for as long as this process lives
	return nil
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// The locks of a folder: the server's and the keeper's.
const (
	serverLock = "lock"
	keeperLock = "keeper.lock"
)

// lock opens a lock's file.
func lock(dir, name string) (*os.File, error) {
	file, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o600)
	return file, fault.As(fault.Internal, err)
}

// flock locks a file, and waits for it until ctx ends.
func flock(ctx context.Context, file *os.File) error {
	for {
		err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(5 * time.Millisecond):
		}
	}
}
