package local

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend/local/internal/durable"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// freeze is the freezing of one volume's mounted filesystem.
type freeze struct {
	store     *store
	id        volume.ID
	mount     *os.File      // its mount point, open so that no path is looked up while it is frozen
	predicted time.Duration // for how long a cut will hold its writers
	guard     *guard        // from arm on

	mu    sync.Mutex
	state freezeState
}

type freezeState int

const (
	ready  freezeState = iota
	frozen             // writers are blocked
	ended              // by its owner
	lapsed             // by another than its owner, or was never frozen
)

// readyToFreeze prepares all that takes time: what is dirty is written, the pause
// is predicted, and the record made durable that lets the next process thaw
// what this one leaves frozen. Precondition if the pause would be too long. The
// caller calls forget in the end.
func (b *Backend) readyToFreeze(from place[record.Volume], mountPoint string) (*freeze, error) {
	s, id := from.store, from.record.ID
	m, err := os.Open(mountPoint)
	if err != nil {
		return nil, fault.New(fault.Transient, "mount point of volume %s: %w", id, err)
	}
	if err := unix.Syncfs(int(m.Fd())); err != nil {
		return nil, errors.Join(fault.New(fault.Transient, "sync %s: %w", mountPoint, err), m.Close())
	}
	if err := from.medium.quiet(); err != nil {
		return nil, errors.Join(s.wrap(err), m.Close())
	}
	predicted, err := predict(from, false, b.freezing.predict(), b.options.PauseLimit)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	f := &freeze{store: s, id: id, mount: m, predicted: predicted}
	now := b.options.Now().UTC().Round(0)
	if err := record.Write(s.frozenRecord(id), record.Frozen{Volume: id, MountPoint: mountPoint, Since: now}); err != nil {
		return nil, s.wrap(errors.Join(err, f.forget()))
	}
	crashpoint.Here("local: freeze recorded")
	return f, nil
}

// settleRounds and settled bound the writing before a freeze: another round
// makes the pause shorter only while a round takes longer than the freeze itself.
const (
	settleRounds = 3
	settled      = 2 * time.Millisecond
)

// settle writes what became dirty since readyToFreeze, so that little is left for
// freeze to write while writers wait.
func (f *freeze) settle() error {
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

// arm starts the guard that thaws for a process which is gone.
func (f *freeze) arm(limit time.Duration) (err error) {
	f.guard, err = newGuard(f.mount, limit)
	return err
}

// freeze blocks writers until thaw or expire. Precondition if it expired already.
func (f *freeze) freeze() error {
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
	crashpoint.Here("local: filesystem frozen")
	return nil
}

// thaw lets writers go on, and reports whether they were blocked from freeze
// until now. Called again it reports the same.
func (f *freeze) thaw(ctx context.Context) (held bool) { return f.end(ctx, ended) }

// expire lets writers go on at the limit: the freeze has not held.
func (f *freeze) expire(ctx context.Context) { f.end(ctx, lapsed) }

func (f *freeze) end(ctx context.Context, how freezeState) (held bool) {
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

// forget removes the record of a freeze that is over.
func (f *freeze) forget() error {
	var err error
	if f.guard != nil {
		err = f.guard.end()
	}
	return errors.Join(err, f.mount.Close(), durable.Remove(f.store.frozenRecord(f.id)))
}

// watchdog ends freezes after a limit, unless it is stopped before.
func watchdog(ctx context.Context, limit time.Duration, freezes []*freeze, then func()) (stop func()) {
	ctx = context.WithoutCancel(ctx)
	t := time.AfterFunc(limit, func() {
		var all sync.WaitGroup
		for _, f := range freezes { // at once: one that hangs must not keep the others frozen
			all.Go(func() { f.expire(ctx) })
		}
		all.Wait()
		klog.FromContext(ctx).Info("Pause reached its limit, writers go on", "limit", limit, "freezes", len(freezes))
		then()
	})
	return func() { t.Stop() }
}

// The ioctls of linux/fs.h, _IOWR('X', 119, int) and _IOWR('X', 120, int).
const (
	fiFreeze = 0xc0045877
	fiThaw   = 0xc0045878
)

func freezeMount(f *os.File) error { return os.NewSyscallError("freeze", ioctl(f, fiFreeze, nil)) }
func thawMount(f *os.File) error   { return os.NewSyscallError("thaw", ioctl(f, fiThaw, nil)) }
