package engine

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
)

// What a segment takes of the memory while it is formed and while it is under way.
const (
	segmentBytes = 8 << 20 // of journal
	objectBytes  = segmentBytes + 1<<20
	formingBytes = 2 * objectBytes
	formingAtMax = 2
	// What one volume takes while it applies a segment and makes a checkpoint, about:
	// leaves that the segment changed, and pages that are packed.
	applyingBytes = 2 * objectBytes
	applyingAtMax = 6
)

// Engine is what all open volumes of a process share. All methods may be called at
// once.
type Engine struct {
	o       Options
	codec   *frame.Codec
	uploads *semaphore.Weighted // objects under way
	forming *semaphore.Weighted // segments that are formed
	moving  *semaphore.Weighted // batches that are read to be moved
	// applying are the volumes that take a segment into their table, beyond their share
	// of the memory perhaps, and make the checkpoint that brings them back within it.
	applying *semaphore.Weighted
	arenas   sync.Pool // *[]byte, of formingAtMax segments and a batch

	mu struct {
		sync.Mutex
		open map[member]bool
	}
}

// member is what shares the memory.
type member interface{ limit(table, overlay int64) }

// New returns an engine without volumes. Invalid.
func New(o Options) (*Engine, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	if o.MemoryBytes == 0 {
		o.MemoryBytes = DefaultMemory
	}
	if o.Uploads == 0 {
		o.Uploads = DefaultUploads
	}
	o.Uploads = int(min(int64(o.Uploads), max(1, o.MemoryBytes/4/objectBytes)))
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Storage == nil {
		o.Storage = disk.Files{}
	}
	codec, err := frame.NewCodec(formingAtMax)
	if err != nil {
		return nil, err
	}
	e := &Engine{
		o: o, codec: codec,
		uploads: semaphore.NewWeighted(int64(o.Uploads)), forming: semaphore.NewWeighted(formingAtMax), moving: semaphore.NewWeighted(1), applying: semaphore.NewWeighted(applyingAtMost(o.MemoryBytes)),
		arenas: sync.Pool{New: func() any { b := disk.Buffer(objectBytes); return &b }},
	}
	e.mu.open = map[member]bool{}
	return e, nil
}

// applyingAtMost is how many volumes apply at once, of an eighth of the memory.
func applyingAtMost(memory int64) int64 {
	return min(applyingAtMax, max(1, memory/8/applyingBytes))
}

// Close ends the engine. Its volumes and views are closed before: InUse otherwise.
func (e *Engine) Close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if n := len(e.mu.open); n > 0 {
		return fault.New(fault.InUse, "the engine has %d volumes and views open", n)
	}
	e.codec.Close()
	return nil
}

// join gives a member its share of the memory, and the others theirs anew.
func (e *Engine) join(m member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.mu.open[m] = true
	e.shareLocked()
}

func (e *Engine) leave(m member) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.mu.open, m)
	e.shareLocked()
}

// Floors of a volume's share.
const (
	tableFloor   = 2 << 20
	overlayFloor = 1 << 20
)

// shareLocked divides what segments under way and a batch of moves leave: three
// quarters for the extent tables, a quarter for what is newer than they are.
func (e *Engine) shareLocked() {
	rest := e.o.MemoryBytes - int64(e.o.Uploads)*objectBytes - formingAtMax*formingBytes - objectBytes - applyingAtMost(e.o.MemoryBytes)*applyingBytes
	n := int64(max(1, len(e.mu.open)))
	for m := range e.mu.open {
		m.limit(max(rest*3/4/n, tableFloor), max(rest/4/n, overlayFloor))
	}
}

// Create makes a log, empty or on a snapshot of another one. It may be called again
// with the same base. Exists if the log has another one.
func Create(ctx context.Context, store objstore.Store, log vlog.LogID, base epoch.Base) error {
	return epoch.Log{Store: store, ID: log}.Create(ctx, base)
}

// from is what a log is read from: its newest checkpoint, or its base.
type from struct {
	epoch.Start
	checkpoint *checkpoint.Checkpoint // nil: it starts from nothing
	base       epoch.Base             // if there is no checkpoint of its own
}

// start reads what a log starts from.
func (e *Engine) start(ctx context.Context, o LogOptions) (from, error) {
	r, err := e.reader(o).newest(ctx)
	if err == nil {
		return from{Start: epoch.Start{Head: r.Head(), Settled: r.Settled}, checkpoint: r.Checkpoint}, nil
	}
	if !fault.Is(err, fault.NotFound) {
		return from{}, err
	}
	base, err := epoch.Log{Store: o.Store, ID: o.Log}.Base(ctx)
	if err != nil {
		return from{}, err
	}
	f := from{Start: base.Start(), base: base}
	if base.From == (vlog.LogID{}) {
		return f, nil
	}
	if base.Repository != "" {
		return from{}, fault.New(fault.Unsupported, "log %s starts from one in repository %s: want one in its own", o.Log, base.Repository)
	}
	origin := o
	origin.Log = base.From
	r, err = e.reader(origin).at(ctx, base.Head.Position)
	if err != nil {
		if fault.Is(err, fault.NotFound) {
			err = fault.As(fault.Corrupt, err)
		}
		return from{}, fault.Wrap(err, "read the base of", o.Log.String())
	}
	if r.Digest != base.Checkpoint || r.Chain != base.Head.Chain {
		return from{}, fault.New(fault.Corrupt, "log %s: the checkpoint that it starts from, %s: got digest %s and chain %s, want %s and %s", o.Log, r.Key(), r.Digest, r.Chain, base.Checkpoint, base.Head.Chain)
	}
	f.checkpoint = r.Checkpoint
	return f, nil
}

// reader reads checkpoints, trying the keys that there are.
type reader struct {
	e *Engine
	o LogOptions
}

func (e *Engine) reader(o LogOptions) reader { return reader{e, o} }

func (r reader) newest(ctx context.Context) (checkpoint.Read, error) {
	return r.each(func(c checkpoint.Reader) (checkpoint.Read, error) { return c.Newest(ctx) })
}

func (r reader) at(ctx context.Context, p vlog.Position) (checkpoint.Read, error) {
	return r.each(func(c checkpoint.Reader) (checkpoint.Read, error) { return c.At(ctx, p) })
}

func (r reader) each(read func(checkpoint.Reader) (checkpoint.Read, error)) (checkpoint.Read, error) {
	var errs []error
	for _, key := range r.o.Keys.all() {
		c, err := read(checkpoint.Reader{Store: r.o.Store, Log: r.o.Log, Codec: r.e.codec, Key: key})
		if !fault.Is(err, fault.Precondition) {
			return c, err
		}
		errs = append(errs, err)
	}
	return checkpoint.Read{}, errors.Join(errs...)
}
