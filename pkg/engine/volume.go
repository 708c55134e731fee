package engine

import (
	"context"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/engine/overlay"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/garbage"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Volume is a volume that is open for writing. It implements blockdev.Disk. All
// methods may be called at once, but for Close and Abandon.
type Volume struct {
	e         *Engine
	o         OpenOptions
	log       epoch.Log
	reign     *epoch.Reign
	journal   *journal.Journal
	image     *image.Image
	overlay   overlay.Overlay
	collector garbage.Collector
	ciphers   struct{ segment *frame.Cipher }

	ring    int64 // the journal's size
	blocks  atomic.Uint64
	tuning  atomic.Pointer[Tuning]
	roomFor atomic.Int64 // bytes that the overlay may take
	gate    gate
	lease   lease

	ctx    context.Context // of what runs in the background
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu struct {
		sync.Mutex
		err      error // why nothing can be written any more
		storeErr error
		since    time.Time // of storeErr
		changed  chan struct{}

		// Journal positions, in this order: what is in the table; what counts; what is
		// formed into segments; the newest change.
		applied, counted, cut, newest vlog.LSN
		fresh                         int64    // bytes of data between the latter two
		force                         vlog.LSN // up to which is to be uploaded without delay
		ages                          ages     // of what is beyond counted

		inflight  []*upload
		begun     vlog.Sequence // the last slot that was begun
		snapshots map[volume.SnapshotID]*sealing
		collectAt time.Time
		tasks     []*task
		watched   []*watched // blocks that are being merged

		batch    *batch    // that is to be moved
		held     int       // by how many moves are kept from being formed
		soiled   bool      // something was written since the last job of an idle volume
		dirt     int       // segments of data since the last look of the cleaner
		soiledAt time.Time // when the last of them was applied
	}
	collecting *semaphore.Weighted
	growing    sync.Mutex    // held from reading the size for a seal until that is in the journal
	over       chan struct{} // closed when the applier has ended
	kick       chan struct{} // wakes the former
	tidy       chan struct{} // wakes the cleaner

	// Of the former alone: behind the last segment that was formed.
	formed       vlog.Head
	formedEnd    vlog.LSN
	formedBlocks vlog.Block

	// Of the applier alone.
	published  vlog.Position
	digest     vlog.Digest // of the checkpoint there
	settled    vlog.Epoch
	began      vlog.Position // of the checkpoint that this life began with
	replayed   vlog.LSN      // up to which the journal has what an earlier epoch left
	sinceCheck int
	bytesCheck uint64 // stored before the last checkpoint
	dirtyCheck bool   // something was applied since the last checkpoint
	movedSince bool   // moves were

	kept    []string
	dropped string

	stats  counters
	filled atomic.Bool // all of it is in the cache, or was
}

// counters are kept over the life of an open volume.
type counters struct {
	reads, readBytes, writes, writeBytes, flushes, zeros, zeroBytes atomic.Uint64
	journalBytes, segments, segmentBytes, checkpoints, collected    atomic.Uint64
	cleaned, moves, moveBytes                                       atomic.Uint64
}

// limit takes the volume's share of the memory.
func (v *Volume) limit(table, overlay int64) {
	v.image.Table().SetLimit(table)
	v.roomFor.Store(overlay)
	v.notify()
}

// notify wakes everybody who waits for a change of what mu guards.
func (v *Volume) notify() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.notifyLocked()
}

func (v *Volume) notifyLocked() {
	close(v.mu.changed)
	v.mu.changed = make(chan struct{})
}

// await waits until ready, which is called with mu held, says so; or for the
// volume's end, or the context's.
func (v *Volume) await(ctx context.Context, ready func() (bool, error)) error {
	for {
		v.mu.Lock()
		done, err := ready()
		if err == nil && !done {
			err = v.mu.err
		}
		changed := v.mu.changed
		v.mu.Unlock()
		if done || err != nil {
			return err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		case <-v.ctx.Done():
			return v.ended()
		}
	}
}

func (v *Volume) ended() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.mu.err != nil {
		return v.mu.err
	}
	return fault.New(fault.Precondition, "volume %s: is closed", v.o.Volume)
}

// fail ends writing for good: who waits for room in the journal hears of it too.
func (v *Volume) fail(err error) {
	v.mu.Lock()
	if v.mu.err == nil && v.ctx.Err() == nil {
		v.mu.err = fault.Wrap(err, "volume", string(v.o.Volume))
		v.notifyLocked()
	}
	err = v.mu.err
	v.mu.Unlock()
	if err != nil {
		v.journal.Refuse(err)
	}
}

// Err returns why nothing can be written any more; nil while it can.
func (v *Volume) Err() error {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.mu.err
}

// background runs f until it ends by itself or with the volume; not at all, and
// returns false, if that has ended.
func (v *Volume) background(f func()) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.ctx.Err() != nil {
		return false
	}
	v.wg.Go(f)
	return true
}

// storeSaid notes what the store answered.
func (v *Volume) storeSaid(err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if err != nil && v.mu.storeErr == nil {
		v.mu.since = v.e.o.Now()
	}
	v.mu.storeErr = err
}

// persist repeats a request to the store until it succeeds, the volume ends, or
// the error is one that a repetition does not mend.
func (v *Volume) persist(ctx context.Context, f func(ctx context.Context) error) error {
	for wait := 100 * time.Millisecond; ; wait = min(2*wait, 5*time.Second) {
		err := f(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case fault.Is(err, fault.Transient), fault.Is(err, fault.Deadline), fault.Is(err, fault.Canceled), fault.Is(err, fault.Busy):
			v.storeSaid(err)
		default:
			v.storeSaid(nil)
			return err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// Size returns the length in bytes.
func (v *Volume) Size() int64 { return int64(v.blocks.Load()) * vlog.BlockSize }

// Grow makes the volume larger; a smaller size changes nothing. The volume's record
// says so before.
func (v *Volume) Grow(_ context.Context, blocks vlog.Block) error {
	if blocks > vlog.MaxBlocks {
		return fault.New(fault.OutOfRange, "volume %s: %d blocks: want at most %d", v.o.Volume, blocks, vlog.MaxBlocks)
	}
	v.growing.Lock()
	defer v.growing.Unlock()
	for old := v.blocks.Load(); uint64(blocks) > old && !v.blocks.CompareAndSwap(old, uint64(blocks)); old = v.blocks.Load() {
	}
	v.image.Grow(blocks)
	return nil
}

// Tune changes what may be changed while the volume is open.
func (v *Volume) Tune(t Tuning) {
	t = t.withDefaults()
	v.tuning.Store(&t)
	v.poke()
	v.wakeCleaner()
}

// poke wakes the former.
func (v *Volume) poke() {
	select {
	case v.kick <- struct{}{}:
	default:
	}
}

// gate lets writers pass side by side, and stops them for one who has it alone.
type gate struct{ s *semaphore.Weighted }

func newGate() gate { return gate{semaphore.NewWeighted(math.MaxInt32)} }

func (g gate) enter(ctx context.Context) error { return g.s.Acquire(ctx, 1) }
func (g gate) leave()                          { g.s.Release(1) }
func (g gate) shut(ctx context.Context) error  { return g.s.Acquire(ctx, math.MaxInt32) }
func (g gate) open()                           { g.s.Release(math.MaxInt32) }
