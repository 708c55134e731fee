package fuse

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Options are a server's.
type Options struct {
	// Dir is the folder for what belongs to the running machine, an absolute path,
	// made if it is missing: /run/holkas/devices. One server at a time has it.
	Dir string
}

// Validate reports all that is wrong.
func (o Options) Validate() error {
	if !filepath.IsAbs(o.Dir) {
		return fault.New(fault.Invalid, "device folder %q: want an absolute path", o.Dir)
	}
	return nil
}

// Server gives devices to disks. Its methods may be called at once.
type Server struct {
	dir    *os.File
	locked *os.File
	hold   *hold
	quit   chan struct{} // closed at the end

	mu      sync.Mutex // guards what follows
	left    map[volume.ID]blockdev.Device
	volumes map[volume.ID]*attachment
	closed  bool
}

var errClosed = fault.New(fault.Canceled, "the server of devices is closed")

// Open opens the server of a folder, and waits, until ctx ends, for the process
// to be gone that had it before: then Busy. The devices that it left are paused
// until they are attached. The process's program must call Run when it is started
// with Command.
func Open(ctx context.Context, o Options) (s *Server, err error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if len(os.Args) > 1 && os.Args[1] == Command {
		return nil, fault.New(fault.Internal, "this process was started as %q: want its program to call Run", os.Args)
	}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	s = &Server{volumes: map[volume.ID]*attachment{}, left: map[volume.ID]blockdev.Device{}, quit: make(chan struct{})}
	if s.locked, err = lock(o.Dir, serverLock); err != nil {
		return nil, err
	}
	if err := flock(ctx, s.locked); err != nil {
		_ = s.locked.Close()
		return nil, fault.New(fault.Busy, "%s: another engine has the devices (%w): end it first", o.Dir, err)
	}
	if s.dir, err = os.Open(o.Dir); err != nil {
		_ = s.locked.Close()
		return nil, fault.As(fault.Internal, err)
	}
	var left holdings
	if s.hold, left, err = openHold(s.dir); err == nil {
		err = s.adopt(ctx, left)
	}
	if err != nil {
		return nil, errors.Join(err, s.Close(ctx))
	}
	beFlusher()
	return s, nil
}

// Find returns the devices that earlier servers of the folder left, and that were
// not attached since. They are paused until then.
func (s *Server) Find(ctx context.Context) (map[volume.ID]blockdev.Device, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return maps.Clone(s.left), ctx.Err()
}

// found says that a device is nobody's left any more.
func (s *Server) found(id volume.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.left, id)
}

// Attach gives a device to a volume's disk, or the disk to the device that an
// earlier server left, which then goes on. A volume that this server has
// attached keeps the disk that it has, which must be the same one. InUse if there
// is a device with other options, Exhausted if there is none to be had. After an
// error the disk is not used, but for a device that had it before.
func (s *Server) Attach(ctx context.Context, id volume.ID, disk blockdev.Disk, o blockdev.Options) (blockdev.Device, error) {
	a, release, err := s.acquire(ctx, id)
	if err != nil {
		return blockdev.Device{}, err
	}
	defer release()
	d, err := a.attach(ctx, disk, o)
	return d, fault.Wrap(err, "attach", string(id))
}

// Resize makes the device as large as its disk has become. NotFound if there is
// none. It may have to wait for a flush or a discard that is under way.
func (s *Server) Resize(ctx context.Context, id volume.ID) error {
	a, release, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(a.resize(ctx), "resize", string(id))
}

// Detach takes the volume's device away, whoever attached it. None is success.
// InUse if it is open elsewhere; it is then still attached. The disk is not used
// any more when it is gone.
func (s *Server) Detach(ctx context.Context, id volume.ID) error {
	a, release, err := s.acquire(ctx, id)
	if err != nil {
		return err
	}
	defer release()
	return fault.Wrap(a.detach(ctx), "detach", string(id))
}

// Close ends the service; the devices stay, and pause until the next server of
// the folder. Requests under way are left to it as well, as far as their disks
// give them up when their context ends. Close waits for the disks, until ctx
// ends: a disk may be closed when Close has returned nil. The second time it does
// nothing.
func (s *Server) Close(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	close(s.quit)
	var all []*attachment
	for _, a := range s.volumes {
		all = append(all, a)
	}
	s.mu.Unlock()
	ended := make(chan error, 1)
	go func() {
		errs := make([]error, len(all))
		var work sync.WaitGroup
		for i, a := range all {
			work.Go(func() { errs[i] = a.leave() })
		}
		work.Wait()
		if s.hold != nil {
			s.hold.close()
		}
		_ = s.dir.Close()
		_ = s.locked.Close() // now the next may begin
		ended <- errors.Join(errs...)
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
		return fault.Wrap(ctx.Err(), "close", "the devices")
	}
}

// acquire returns a volume's attachment, which is the caller's until release.
func (s *Server) acquire(ctx context.Context, id volume.ID) (a *attachment, release func(), err error) {
	if _, err := volume.ParseID(string(id)); err != nil {
		return nil, nil, err
	}
	s.mu.Lock()
	a = s.volumes[id]
	if a == nil {
		a = &attachment{server: s, id: id, turn: make(chan struct{}, 1)}
		s.volumes[id] = a
	}
	a.users++
	s.mu.Unlock()
	leave := func(mine bool) { // what is looked at changes for who has the turn
		s.mu.Lock()
		defer s.mu.Unlock()
		if a.users--; mine && a.users == 0 && a.session == nil && a.broken == nil {
			delete(s.volumes, id)
		}
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		leave(false)
		return nil, nil, fault.New(fault.Busy, "%s: other work on its device is under way: %w", id, ctx.Err())
	}
	s.mu.Lock()
	closed := s.closed
	s.mu.Unlock()
	release = func() {
		leave(true)
		<-a.turn
	}
	if closed {
		release()
		return nil, nil, fault.Wrap(errClosed, "", string(id))
	}
	return a, release, nil
}

// adopt takes what earlier servers left: the devices that the keeper has, and
// the records of those that died with it. What cannot be mended now is tried
// again when its volume is attached or detached.
func (s *Server) adopt(ctx context.Context, left holdings) error {
	for id, fds := range left {
		a := &attachment{server: s, id: volume.ID(id), turn: make(chan struct{}, 1)}
		s.volumes[a.id] = a
		if err := a.adopt(fds); err != nil {
			klog.FromContext(ctx).Error(err, "Device of an earlier engine", "volumeID", id)
		}
	}
	entries, err := s.dir.ReadDir(-1)
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	for _, e := range entries {
		id, err := volume.ParseID(e.Name())
		if err != nil || left[e.Name()] != nil {
			continue
		}
		if err := s.bury(id); err != nil {
			klog.FromContext(ctx).Error(err, "Dead device of an earlier engine", "volumeID", id)
		}
	}
	return nil
}

// beFlusher says to the kernel that this process's threads carry out I/O: when
// it is short of memory they do not wait for I/O that they would have to do. Not
// every process may, and with C code in it none can.
func beFlusher() {
	_, _, _ = syscall.AllThreadsSyscall(unix.SYS_PRCTL, unix.PR_SET_IO_FLUSHER, 1, 0)
}
