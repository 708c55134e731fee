package engine

import (
	"cmp"
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// ViewOptions say which state of a log is read.
type ViewOptions struct {
	LogOptions
	// At is a position that has a checkpoint, as snapshots' do; zero for the newest
	// state that counts.
	At vlog.Position
	// Checkpoint, if not zero, is the digest that the checkpoint must have.
	Checkpoint vlog.Digest
	// ReadTimeout is how long a read waits for a store that is away before it fails;
	// 0 is DefaultReadTimeout.
	ReadTimeout time.Duration
	// Cache is a cache of its own; nil: the engine's.
	Cache *cache.Cache
}

// View is a log's state at a position, to be read. It claims nothing: whoever opens
// it sees to it that what it needs stays. It implements blockdev.Disk, without the
// writing. All methods may be called at once, but for Close.
type View struct {
	e     *Engine
	image *image.Image
}

// View opens a state of a log for reading. NotFound if there is no such log or
// checkpoint; Corrupt, also if the checkpoint is another one.
func (e *Engine) View(ctx context.Context, o ViewOptions) (*View, error) {
	tuning := Tuning{ReadTimeout: o.ReadTimeout}.withDefaults()
	f, runs, err := e.survey(ctx, o)
	if err != nil {
		return nil, fault.Wrap(err, "read log", o.Log.String())
	}
	m, err := e.image(o.LogOptions, f, func() *Tuning { return &tuning }, cmp.Or(o.Cache, e.o.Cache))
	if err != nil {
		return nil, fault.Wrap(err, "read log", o.Log.String())
	}
	if _, err := e.follow(ctx, m, o.LogOptions, runs); err != nil {
		m.Close()
		return nil, fault.Wrap(err, "read log", o.Log.String())
	}
	w := &View{e, m}
	e.join(w)
	return w, nil
}

// survey returns where to begin, and what follows.
func (e *Engine) survey(ctx context.Context, o ViewOptions) (from, []epoch.Run, error) {
	if o.At == (vlog.Position{}) {
		f, err := e.start(ctx, o.LogOptions)
		if err != nil {
			return from{}, nil, err
		}
		s, err := epoch.Log{Store: o.Store, ID: o.Log}.Survey(ctx, f.Start)
		return f, s.Runs, err
	}
	c, err := e.reader(o.LogOptions).at(ctx, o.At)
	if err != nil {
		return from{}, nil, err
	}
	if o.Checkpoint != (vlog.Digest{}) && c.Digest != o.Checkpoint {
		return from{}, nil, fault.New(fault.Corrupt, "%s: got digest %s, want %s", c.Key(), c.Digest, o.Checkpoint)
	}
	return from{Start: epoch.Start{Head: c.Head()}, checkpoint: c.Checkpoint}, nil, nil
}

func (w *View) limit(table, _ int64) { w.image.Table().SetLimit(table) }

// Close gives the memory back.
func (w *View) Close() {
	w.e.leave(w)
	w.image.Close()
}

// Size returns the length in bytes.
func (w *View) Size() int64 { return int64(w.image.Blocks()) * vlog.BlockSize }

// Blocks returns the length in blocks.
func (w *View) Blocks() vlog.Block { return w.image.Blocks() }

// Position returns which state it is.
func (w *View) Position() vlog.Position { return w.image.Head().Position }

// Head returns the position and the chain there.
func (w *View) Head() vlog.Head { return w.image.Head() }

// ReadAt fills p from off on, see Volume.ReadAt.
func (w *View) ReadAt(ctx context.Context, p []byte, off int64) error {
	if off < 0 || off%sector != 0 || len(p)%sector != 0 || off+int64(len(p)) > w.Size() {
		return fault.New(fault.OutOfRange, "read %d bytes at %d: want multiples of %d within %d", len(p), off, sector, w.Size())
	}
	return readSectors(p, off, func(first vlog.Block, p []byte) error { return w.image.Read(ctx, first, p) })
}

// WriteAt is refused.
func (w *View) WriteAt(context.Context, []byte, int64) error { return errReadOnly }

// Zero is refused.
func (w *View) Zero(context.Context, int64, int64, bool) error { return errReadOnly }

// Flush has nothing to do.
func (w *View) Flush(context.Context) error { return nil }

var errReadOnly = fault.New(fault.Precondition, "it is read only")

// Allocated yields the runs of blocks from first on that are not holes, ascending,
// until yield returns false.
func (w *View) Allocated(ctx context.Context, first vlog.Block, yield func(table.Range) bool) error {
	return w.image.Table().Allocated(ctx, first, yield)
}

// Diff yields the runs of blocks from first on that may differ in two states of one
// log, or of a log and what it starts from, ascending, until yield returns false.
// It compares pages, not data. a may be nil: for nothing.
func Diff(ctx context.Context, a, b *View, first vlog.Block, yield func(table.Range) bool) error {
	if a == nil {
		return b.Allocated(ctx, first, yield)
	}
	return table.Diff(ctx, a.image.Table(), b.image.Table(), first, image.Same(a.image, b.image), yield)
}
