package object

import (
	"context"
	"errors"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// live is what this node has of a volume: a log open for writing or a view, and a
// device or none. Without a device it is to be closed, and could not be yet.
type live struct {
	note
	id     volume.ID
	v      *engine.Volume // nil for a reader, and where pending or dead is set
	w      *engine.View
	disk   blockdev.Disk // what the device serves
	device blockdev.Device
	keys   keyring.Keys
	// record is the volume's record as this node saw it last, so that what is in use
	// can be told of while the repository is away; zero while pending.
	record repository.ObjectVolume
	// pending says that an earlier process left the device, and that it could not be
	// served again yet: why is said by dead, if there was a try.
	pending bool
	// dead is why the device is served errors.
	dead error

	cache      *cache.Cache // of the log's own; nil: the node's
	cacheBytes int64

	retrying bool     // that it is closed is tried again; guarded by Backend.mu
	closing  *closing // nil: nobody has begun to
	beside   *live    // of a reader: a log that was open for a moment, and is not closed yet
}

// writer reports whether somebody can write through the device.
func (l *live) writer() bool { return l != nil && l.device.Path != "" && !l.ReadOnly }

// abandon ends the use of the log as a death would. The caller has taken it out of
// what is live.
func (l *live) abandon() {
	defer l.closeCache(context.Background())
	if l.v != nil && !(l.closing != nil && l.closing.ended() && l.closing.err == nil) {
		l.v.Abandon()
	}
	if l.w != nil {
		l.w.Close()
	}
	if l.beside != nil {
		l.beside.abandon()
	}
}

// lockAll locks several volumes in ascending order.
func (b *Backend) lockAll(ctx context.Context, ids []volume.ID, holder string) (unlock func(), err error) {
	var unlocks []func()
	unlock = func() {
		for _, u := range slices.Backward(unlocks) {
			u()
		}
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(ids))) {
		u, err := b.lock(ctx, id, holder)
		if err != nil {
			unlock()
			return nil, err
		}
		unlocks = append(unlocks, u)
	}
	return unlock, nil
}

// how says how a log is opened.
type how struct {
	takeOver     bool
	journalBytes int64
	cache        *cache.Cache // nil: the node's
}

var forAMoment = how{journalBytes: journal.MinSize}

// openLog opens a volume's log for writing.
func (b *Backend) openLog(ctx context.Context, s *site, v repository.ObjectVolume, k keyring.Keys, h how) (*engine.Volume, error) {
	log, err := logOf(v)
	if err != nil {
		return nil, err
	}
	if err := b.keepKeys(v.ID, k); err != nil { // before there is anything that only they can read
		return nil, err
	}
	o := engine.OpenOptions{
		LogOptions: engine.LogOptions{Store: s.Store, Log: log, Keys: engineKeys(k)},
		Volume:     v.ID, Blocks: blocks(v.SizeBytes), Owner: string(b.options.Node),
		Journal: b.journal(v.ID), JournalBytes: h.journalBytes,
		Durability: engine.JournalDurability,
		TakeOver:   h.takeOver, Rollback: v.Class.OnNodeLoss == volume.Rollback,
		Grace: b.options.Grace,
		Lease: b.options.Lease,
		Cache: h.cache, Full: h.cache != nil && v.Class.CacheBytes == volume.CacheFull,
		Tuning: tuning(v.Class),
		Recheck: func(ctx context.Context) error {
			now, err := s.volume(ctx, v.ID)
			if err == nil && now.Value.Log != v.Log {
				err = fault.New(fault.Busy, "its log is %s now: want %s", now.Value.Log, v.Log)
			}
			return err
		},
	}
	if v.Class.Durability == volume.ObjectDurability {
		o.Durability = engine.ObjectDurability
	}
	opened, err := b.options.Engine.Open(ctx, o)
	if fault.Is(err, fault.NotFound) {
		if _, e := s.volume(ctx, v.ID); e == nil { // a record without a log is no blank volume
			err = fault.As(fault.Corrupt, err)
		}
	}
	if err != nil && !exists(o.Journal) {
		err = errors.Join(err, b.dropKeys(v.ID))
	}
	return opened, err
}

func tuning(c volume.Class) engine.Tuning {
	t := engine.Tuning{UploadDelay: c.UploadDelay, Compression: frame.Zstd}
	if c.Compression == volume.NoCompression {
		t.Compression = frame.None
	}
	return t
}

// closeLog closes a volume's log, which nobody uses any more. If that cannot be done
// now it is kept, and tried again.
func (b *Backend) closeLog(ctx context.Context, l *live) error {
	if err := b.closeBeside(ctx, l); err != nil {
		return err
	}
	if l.w != nil {
		l.w.Close()
	}
	if l.v != nil {
		err := b.closeVolume(ctx, l)
		switch {
		case fault.Is(err, fault.Fenced):
			klog.FromContext(ctx).Error(err, "Volume was taken over; what this node had not uploaded stays in its journal", "volumeID", l.id, "journal", b.journal(l.id))
			l.v.Abandon()
		case err != nil:
			b.set(func() { l.device, l.dead = blockdev.Device{}, nil })
			b.setLive(l.id, l)
			b.lingering()
			return fault.New(fault.Transient, "not everything is in the repository yet: %w", err)
		}
		b.closedCuts(l.v)
	}
	l.closeCache(ctx)
	b.setLive(l.id, nil)
	return errors.Join(b.dropKeys(l.id), removeFile(b.notePath(l.id)), removeFile(b.cachePath(l.id)))
}

// closing is the closing of a log, which goes on when its caller has gone: half of
// one is of no use.
type closing struct {
	done chan struct{}
	err  error // set before done is closed
}

func (c *closing) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// closeVolume closes a log, or joins the one who does.
func (b *Backend) closeVolume(ctx context.Context, l *live) error {
	if l.closing == nil || l.closing.ended() && l.closing.err != nil {
		c := &closing{done: make(chan struct{})}
		l.closing = c
		b.run(func(ctx context.Context) {
			defer close(c.done)
			c.err = l.v.Close(ctx)
		})
	}
	select {
	case <-l.closing.done:
		return l.closing.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// use gives the log of a volume, open for writing: the one that is open here, or,
// for a moment, one that is opened for it and closed by done. keys are asked for in
// the second case only.
func (b *Backend) use(ctx context.Context, s *site, v repository.ObjectVolume, keys func() (keyring.Keys, error)) (log *engine.Volume, done func(context.Context), err error) {
	l := b.live(v.ID)
	if l != nil && l.pending {
		if err := b.serveAgain(ctx, s, l); err != nil {
			return nil, nil, err
		}
	}
	switch {
	case l != nil && l.dead != nil:
		return nil, nil, l.dead
	case l != nil && l.v != nil && l.device.Path != "":
		return l.v, func(context.Context) {}, nil
	case l != nil && l.closing != nil:
		if err := b.closeLog(ctx, l); err != nil {
			return nil, nil, err
		}
		return b.use(ctx, s, v, keys)
	case l == nil || l.v == nil:
		if l != nil {
			if err := b.closeBeside(ctx, l); err != nil {
				return nil, nil, err
			}
		}
		k, err := keys()
		if err != nil {
			return nil, nil, err
		}
		opened, err := b.openLog(ctx, s, v, k, forAMoment)
		if err != nil {
			return nil, nil, err
		}
		reader := l
		l = &live{id: v.ID, v: opened, keys: k}
		if reader != nil { // its device shows what was before
			reader.beside = l
			return opened, func(ctx context.Context) {
				ctx, cancel := context.WithTimeout(ctx, closeFor)
				defer cancel()
				if err := b.closeBeside(ctx, reader); err != nil {
					klog.FromContext(ctx).Info("Volume is closed when its device is taken away", "volumeID", v.ID, "err", err)
				}
			}, nil
		}
		b.setLive(v.ID, l)
	}
	return l.v, func(ctx context.Context) {
		ctx, cancel := context.WithTimeout(ctx, closeFor)
		defer cancel()
		if err := b.closeLog(ctx, l); err != nil {
			klog.FromContext(ctx).Info("Volume is closed later", "volumeID", v.ID, "err", err)
		}
	}, nil
}

// closeFor is how long a log that was open for a moment may take to be closed before
// that is left to the background.
const closeFor = 10 * time.Second

// closeBeside closes a log that was opened beside a reader of the same volume.
func (b *Backend) closeBeside(ctx context.Context, reader *live) error {
	l := reader.beside
	if l == nil {
		return nil
	}
	if err := b.closeVolume(ctx, l); err != nil && !fault.Is(err, fault.Fenced) {
		return fault.New(fault.Transient, "not everything is in the repository yet: %w", err)
	}
	b.closedCuts(l.v)
	reader.beside = nil
	return nil
}

// errDisk is the disk of a device that nothing can serve.
type errDisk struct {
	size int64
	err  error
}

func (d errDisk) Size() int64 { return d.size }

func (d errDisk) ReadAt(context.Context, []byte, int64) error { return d.err }

func (d errDisk) WriteAt(context.Context, []byte, int64) error { return d.err }

func (d errDisk) Zero(context.Context, int64, int64, bool) error { return d.err }

func (d errDisk) Flush(context.Context) error { return d.err }

// reader is a view as large as the volume's record says: behind its end it is zeros.
type reader struct {
	*engine.View
	size int64
}

func (r reader) Size() int64 { return max(r.size, r.View.Size()) }

func (r reader) ReadAt(ctx context.Context, p []byte, off int64) error {
	if within := r.View.Size() - off; within < int64(len(p)) {
		within = max(within, 0)
		clear(p[within:])
		p = p[:within]
	}
	if len(p) == 0 {
		return nil
	}
	return r.View.ReadAt(ctx, p, off)
}

// view opens a view of the newest state of a volume.
func (b *Backend) view(ctx context.Context, s *site, v repository.ObjectVolume, k keyring.Keys) (reader, error) {
	log, err := logOf(v)
	if err != nil {
		return reader{}, err
	}
	w, err := b.options.Engine.View(ctx, engine.ViewOptions{LogOptions: engine.LogOptions{Store: s.Store, Log: log, Keys: engineKeys(k)}})
	return reader{w, v.SizeBytes}, err
}
