package freeze

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Freeze is the freezing of one volume's mounted filesystem.
type Freeze struct {
	id    volume.ID
	mount *os.File // its mount point, open so that no path is looked up while it is frozen
	guard *guard   // from Arm on

	mu    sync.Mutex
	state state
}

type state int

const (
	ready  state = iota
	frozen       // writers are blocked
	ended        // by its owner
	lapsed       // by another than its owner, or was never frozen
)

// Open prepares the freezing of a volume that is mounted: what is dirty is
// written. The caller makes the freeze's record durable behind it, and calls Close
// in the end.
func Open(id volume.ID, mountPoint string) (*Freeze, error) {
	m, err := os.Open(mountPoint)
	if err != nil {
		return nil, fault.New(fault.Transient, "mount point of volume %s: %w", id, err)
	}
	if err := unix.Syncfs(int(m.Fd())); err != nil {
		return nil, errors.Join(fault.New(fault.Transient, "sync %s: %w", mountPoint, err), m.Close())
	}
	return &Freeze{id: id, mount: m}, nil
}

// Volume returns the volume's id.
func (f *Freeze) Volume() volume.ID { return f.id }

// settleRounds and settled bound the writing before a freeze: another round
// makes the pause shorter only while a round takes longer than the freeze itself.
const (
	settleRounds = 3
	settled      = 2 * time.Millisecond
)

// Settle writes what became dirty since Open, so that little is left for Begin to
// write while writers wait.
func (f *Freeze) Settle() error {
	for range settleRounds {
		began := time.Now()
		if err := unix.Syncfs(int(f.mount.Fd())); err != nil {
			return fault.New(fault.Transient, "sync %s: %w", f.mount.Name(), err)
		}
		if time.Since(began) < settled {
			break
		}
	}
	return nil
}

// Arm starts the guard that thaws for a process which is gone. Precondition if it
// cannot be started: nothing is frozen without one.
func (f *Freeze) Arm(limit time.Duration) (err error) {
	f.guard, err = newGuard(f.mount, limit)
	return err
}

// Begin blocks writers until Thaw or Expire. Precondition if it expired already.
func (f *Freeze) Begin() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.state != ready {
		return fault.New(fault.Precondition, "volume %s: the pause had ended before all was frozen", f.id)
	}
	if err := freezeMount(f.mount); errors.Is(err, unix.EBUSY) {
		return fault.New(fault.Busy, "filesystem at %s: somebody else froze it: %w", f.mount.Name(), err)
	} else if err != nil {
		return fault.New(fault.Precondition, "filesystem at %s cannot be frozen: %w: ask for consistency %q", f.mount.Name(), err, volume.CrashConsistent)
	}
	f.state = frozen
	crashpoint.Here("freeze: filesystem frozen")
	return nil
}

// Thaw lets writers go on, and reports whether they were blocked from Begin until
// now. Called again it reports the same.
func (f *Freeze) Thaw(ctx context.Context) (held bool) { return f.end(ctx, ended) }

// Expire lets writers go on at the limit: the freeze has not held.
func (f *Freeze) Expire(ctx context.Context) { f.end(ctx, lapsed) }

func (f *Freeze) end(ctx context.Context, how state) (held bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch f.state {
	case ready:
		f.state = lapsed
	case frozen:
		f.state = how
		if err := thawMount(f.mount); err != nil {
			f.state = lapsed // somebody else thawed it: nothing vouches for what was cut
			klog.FromContext(ctx).Error(err, "Frozen filesystem was thawed by somebody else", "volumeID", f.id, "mountPoint", f.mount.Name())
		}
	}
	return f.state == ended
}

// Close ends the guard of a freeze that is over. The caller removes its record
// behind it.
func (f *Freeze) Close() error {
	var err error
	if f.guard != nil {
		err = f.guard.end()
	}
	return errors.Join(err, f.mount.Close())
}

// Watchdog ends a freeze after a limit, unless it is stopped before.
func (f *Freeze) Watchdog(ctx context.Context, limit time.Duration) (stop func()) {
	ctx = context.WithoutCancel(ctx)
	t := time.AfterFunc(limit, func() {
		f.Expire(ctx)
		klog.FromContext(ctx).Info("Pause reached its limit, writers go on", "limit", limit, "volumeID", f.id)
	})
	return func() { t.Stop() }
}

// The ioctls of linux/fs.h, _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

func freezeMount(f *os.File) error { return os.NewSyscallError("freeze", ioctl(f, fiFreeze)) }
func thawMount(f *os.File) error   { return os.NewSyscallError("thaw", ioctl(f, fiThaw)) }

func ioctl(f *os.File, request uintptr) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, 0); errno != 0 {
		return errno
	}
	return nil
}
