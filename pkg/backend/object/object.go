package object

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/internal/keylock"
	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Backend keeps volumes in the repository. See the package's documentation for the
// order of its locks.
type Backend struct {
	options  Options
	locks    keylock.Locks[volume.ID]
	cutLocks keylock.Locks[volume.SnapshotID]
	pauses   pause.Pauses[*member]
	home     home
	collect  collecting

	ctx    context.Context // of what runs in the background
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu struct {
		sync.Mutex
		lives map[volume.ID]*live
		cuts  map[volume.SnapshotID]*cut // that this process made and that are not complete
		last  map[volume.ID]time.Time    // of the newest snapshot
	}
}

var _ backend.Backend = (*Backend)(nil)

// home opens the repository when it is asked for it first.
type home struct {
	mu   sync.Mutex
	open func(ctx context.Context) (Home, error)
	is   *site
}

// site is the repository as this package uses it.
type site struct {
	Home
	claims claim.Claims
}

// Open begins to work on what is in its folders, and thaws what an earlier process
// left frozen. Devices that it left are served again as soon as the repository can
// be reached; Open does not wait for that. Invalid; Precondition for folders that
// cannot be used.
func Open(ctx context.Context, o Options) (*Backend, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	b := &Backend{options: o.withDefaults()}
	b.home.open = o.Home
	b.mu.lives, b.mu.cuts, b.mu.last = map[volume.ID]*live{}, map[volume.SnapshotID]*cut{}, map[volume.ID]time.Time{}
	for _, dir := range []string{b.folder("journals"), b.folder("attached"), b.folder("frozen"), b.folder("caches"), b.keysFolder()} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fault.New(fault.Precondition, "folder %s: %w", dir, err)
		}
	}
	b.ctx, b.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if err := b.begin(ctx); err != nil {
		b.cancel()
		return nil, err
	}
	return b, nil
}

func (b *Backend) folder(name string) string { return filepath.Join(b.options.Dir, name) }

func (b *Backend) journal(id volume.ID) string {
	return filepath.Join(b.folder("journals"), string(id))
}

// Close ends the pauses that are still held, and leaves every volume as a death
// would: the devices stay, and pause until the next process serves them.
func (b *Backend) Close(ctx context.Context) error {
	b.pauses.EndAll(ctx) // while the devices are served: thawing writes
	err := b.options.Devices.Close(ctx)
	b.cancel()
	b.stopCollecting()
	b.work.Wait()
	b.mu.Lock()
	left := b.mu.lives
	b.mu.lives = map[volume.ID]*live{}
	b.mu.Unlock()
	for _, l := range left {
		l.abandon()
	}
	return err
}

// site returns the repository. Transient while its store is away.
func (b *Backend) site(ctx context.Context) (*site, error) {
	b.home.mu.Lock()
	defer b.home.mu.Unlock()
	if b.home.is != nil {
		return b.home.is, nil
	}
	h, err := b.home.open(ctx)
	if err != nil {
		return nil, fault.New(fault.Transient, "the repository is not open: %w", err)
	}
	b.home.is = &site{h, claim.Claims{Store: h.Store, Now: b.options.Now}}
	return b.home.is, nil
}

func (b *Backend) now() time.Time { return b.options.Now().UTC().Round(0) }

// run runs something in the background until Close.
func (b *Backend) run(do func(ctx context.Context)) {
	b.work.Go(func() { do(b.ctx) })
}

// live returns what this node has of a volume, nil if nothing.
func (b *Backend) live(id volume.ID) *live {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mu.lives[id]
}

// look returns a copy of what this node has of a volume, for who does not have the
// volume's lock.
func (b *Backend) look(id volume.ID) (l live, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if found := b.mu.lives[id]; found != nil {
		return *found, true
	}
	return live{}, false
}

// set changes what is known of a live volume, whose lock the caller has, beside
// those who look without it.
func (b *Backend) set(do func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	do()
}

func (b *Backend) setLive(id volume.ID, l *live) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if l == nil {
		delete(b.mu.lives, id)
		return
	}
	b.mu.lives[id] = l
}

// lock locks a volume for what is being done, in words.
func (b *Backend) lock(ctx context.Context, id volume.ID, holder string) (unlock func(), err error) {
	unlock, err = b.locks.Lock(ctx, id, holder)
	return unlock, fault.Wrap(err, "lock volume", string(id))
}

// join keeps the kind of the first of several errors.
func join(errs ...error) error {
	err := errors.Join(errs...)
	for _, e := range errs {
		if e != nil {
			return fault.As(fault.KindOf(e), err)
		}
	}
	return nil
}
