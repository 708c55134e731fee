package image

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/page"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

// atOnce is how many runs of frames one read gets at the same time, runBytes how
// long a run is at most, and wide from which length on a read that misses the
// cache brings whole lines of it.
const (
	atOnce   = 8
	runBytes = 1<<20 + 256*frame.Overhead
	wide     = 64 << 10
)

type stats struct {
	cold, coldBytes, hits, bad atomic.Uint64
}

// Stats counts what reads did.
type Stats struct {
	// Cold reads asked the store, for ColdBytes; Hits were answered by the cache; Bad
	// ones did not verify and were asked for again.
	Cold, ColdBytes, Hits, Bad uint64
}

// Stats returns the counts since the image was made.
func (m *Image) Stats() Stats {
	return Stats{m.stats.cold.Load(), m.stats.coldBytes.Load(), m.stats.hits.Load(), m.stats.bad.Load()}
}

// run is frames that lie next to each other in one object.
type run struct {
	object object
	at     int64
	bytes  int64
	frames []piece
}

// piece is the part of a frame that a read wants.
type piece struct {
	place  frame.Place
	stored int64
	index  int    // of the first block in the frame
	into   []byte // its blocks
}

// Read fills p, whole blocks, with the content of blocks from first on. Transient
// if the store stays away for longer than the class's limit; Corrupt.
func (m *Image) Read(ctx context.Context, first vlog.Block, p []byte) error {
	var err error
	for range 3 { // a number may have been given anew between a look-up and a read, of a page or a frame
		var pointers []vlog.Pointer
		if pointers, err = m.lookup(ctx, first, uint64(len(p)/vlog.BlockSize)); err == nil {
			err = m.ReadAt(ctx, first, pointers, p)
		}
		if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return fault.As(fault.Corrupt, err)
}

func (m *Image) lookup(ctx context.Context, first vlog.Block, count uint64) (pointers []vlog.Pointer, err error) {
	err = m.patiently(ctx, func(ctx context.Context) error {
		pointers, err = m.table.LookupRun(ctx, first, count, pointers[:0])
		return err
	})
	return pointers, err
}

// ReadAt is Read for pointers that were looked up before.
func (m *Image) ReadAt(ctx context.Context, first vlog.Block, pointers []vlog.Pointer, p []byte) error {
	runs, err := m.plan(first, pointers, p)
	if err != nil {
		return err
	}
	get := func(r *run) error {
		return m.patiently(ctx, func(ctx context.Context) error { return m.get(ctx, r) })
	}
	switch len(runs) {
	case 0:
		return nil
	case 1:
		return get(&runs[0])
	}
	var wg sync.WaitGroup
	errs := make([]error, len(runs))
	slots := make(chan struct{}, atOnce)
	for i := range runs {
		slots <- struct{}{}
		wg.Go(func() {
			errs[i] = get(&runs[i])
			<-slots
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// plan sorts out which frames to read, and zeros the holes.
func (m *Image) plan(first vlog.Block, pointers []vlog.Pointer, p []byte) (runs []run, err error) {
	for i := 0; i < len(pointers); {
		at, n := pointers[i], 1
		for i+n < len(pointers) && follows(at, pointers[i+n], n) {
			n++
		}
		into := p[i*vlog.BlockSize : (i+n)*vlog.BlockSize]
		b := first + vlog.Block(i)
		i += n
		if at.Hole() {
			clear(into)
			continue
		}
		if !at.Valid() || uint64(b) < uint64(at.Index()) {
			return nil, fault.New(fault.Corrupt, "log %s, block %d: pointer %#x: want one to a frame", m.o.Log, b, uint64(at))
		}
		f := piece{frame.Place{Offset: at.Offset(), First: uint64(b) - uint64(at.Index())}, at.Stored(), at.Index(), into}
		if k := len(runs) - 1; k >= 0 && runs[k].object.Number == at.Object() && runs[k].at+runs[k].bytes == at.Offset() && runs[k].bytes+f.stored <= runBytes {
			f.place.Sequence = runs[k].object.Sequence
			runs[k].frames, runs[k].bytes = append(runs[k].frames, f), runs[k].bytes+f.stored
			continue
		}
		o, err := m.object(at.Object())
		if err != nil {
			return nil, err
		}
		f.place.Sequence = o.Sequence
		runs = append(runs, run{o, at.Offset(), f.stored, []piece{f}})
	}
	return runs, nil
}

// follows reports whether q is n blocks behind p in the same frame, or both are
// holes.
func follows(p, q vlog.Pointer, n int) bool {
	if p.Hole() || q.Hole() {
		return p.Hole() && q.Hole()
	}
	return q.Object() == p.Object() && q.Offset() == p.Offset() && q.Index() == p.Index()+n
}

var buffers = sync.Pool{New: func() any { b := disk.Buffer(2 * frame.MaxBytes); return &b }}

// get reads and opens the frames of a run. What does not verify is asked of the
// store twice more.
func (m *Image) get(ctx context.Context, r *run) error {
	var stored []byte
	if r.bytes <= 2*frame.MaxBytes {
		b := buffers.Get().(*[]byte)
		defer buffers.Put(b)
		stored = (*b)[:r.bytes]
	} else {
		stored = make([]byte, r.bytes)
	}
	var err error
	for try := range 3 {
		if try > 0 {
			m.stats.bad.Add(1)
			if m.o.Cache != nil {
				m.o.Cache.Drop(r.object.cached(), cache.Range{At: r.at, End: r.at + r.bytes})
			}
		}
		if err = m.bytes(ctx, r.object, r.at, stored); err == nil {
			err = r.open(stored)
		}
		if !fault.Is(err, fault.Corrupt) {
			return err
		}
	}
	return err
}

// open verifies all frames of a run and copies out what is wanted of them.
func (r *run) open(stored []byte) error {
	b := buffers.Get().(*[]byte)
	defer buffers.Put(b)
	key := r.object.Key()
	for _, f := range r.frames {
		plain, err := r.object.cipher.Open((*b)[:0], stored[f.place.Offset-r.at:][:f.stored], f.place, key)
		if err != nil {
			return err
		}
		from := f.index * vlog.BlockSize
		if len(plain) < from+len(f.into) {
			return fault.New(fault.Corrupt, "%s at %d: frame of %d blocks: want block %d of it", key, f.place.Offset, len(plain)/vlog.BlockSize, f.index+len(f.into)/vlog.BlockSize-1)
		}
		copy(f.into, plain[from:])
	}
	return nil
}

func (o object) cached() cache.Object {
	return cache.Object{Log: o.Reign.Log, Nonce: o.Reign.Nonce, Kind: o.Kind, Sequence: o.Sequence, SizeBytes: o.SizeBytes}
}

// bytes fills p with bytes of an object, from the cache or the store.
func (m *Image) bytes(ctx context.Context, o object, at int64, p []byte) error {
	if at < 0 || at+int64(len(p)) > o.SizeBytes {
		return fault.New(fault.Corrupt, "%s: %d bytes at %d: want them within its %d", o.Key(), len(p), at, o.SizeBytes)
	}
	if m.o.Cache == nil {
		b, err := m.fetch(ctx, o, cache.Range{At: at, End: at + int64(len(p))})
		copy(p, b)
		return err
	}
	source, err := m.o.Cache.Read(ctx, o.cached(), at, p, func(ctx context.Context, need cache.Range) (int64, []byte, error) {
		if len(p) >= wide {
			need = o.cached().Lines(need)
		}
		b, err := m.fetch(ctx, o, need)
		return need.At, b, err
	})
	if err == nil && source == cache.Hit {
		m.stats.hits.Add(1)
	}
	return err
}

// fetch gets a range of an object by one ranged read. A store that does not answer
// within the class's limit is away.
func (m *Image) fetch(ctx context.Context, o object, r cache.Range) ([]byte, error) {
	key := o.Key()
	m.stats.cold.Add(1)
	limit, cancel := context.WithTimeout(ctx, m.o.ReadTimeout())
	defer cancel()
	b, err := m.o.Store.GetRange(limit, key, r.At, r.End-r.At)
	m.stats.coldBytes.Add(uint64(len(b)))
	if err != nil && limit.Err() != nil && ctx.Err() == nil {
		err = fault.As(fault.Transient, err)
	}
	switch {
	case fault.Is(err, fault.OutOfRange):
		return nil, fault.As(fault.Corrupt, fault.Wrap(err, "read", key))
	case err != nil:
		return nil, fault.Wrap(err, "read", key)
	case int64(len(b)) != r.End-r.At:
		return nil, fault.New(fault.Corrupt, "%s at %d: got %d bytes, want %d", key, r.At, len(b), r.End-r.At)
	}
	return b, nil
}

// patiently repeats what is Transient until the class's limit is over.
func (m *Image) patiently(ctx context.Context, f func(ctx context.Context) error) error {
	began := time.Now()
	err := f(ctx)
	if !fault.Is(err, fault.Transient) {
		return err
	}
	limit, cancel := context.WithDeadline(ctx, began.Add(m.o.ReadTimeout()))
	defer cancel()
	for wait := 50 * time.Millisecond; fault.Is(err, fault.Transient); wait = min(2*wait, 2*time.Second) {
		select {
		case <-limit.Done():
			if ctx.Err() != nil {
				return fault.As(fault.KindOf(ctx.Err()), ctx.Err())
			}
			return err
		case <-time.After(wait):
		}
		if e := f(limit); e == nil || limit.Err() == nil {
			err = e
		}
	}
	return err
}

// pager loads the table's pages through the cache.
type pager struct{ m *Image }

// Load implements table.Pager.
func (g pager) Load(ctx context.Context, p table.Page, at vlog.Pointer, words *table.Words) error {
	var err error
	for range 3 {
		var o object
		if o, err = g.m.object(at.Object()); err != nil {
			return err
		}
		find := func(uint32) (page.Found, error) {
			return page.Found{Store: ranges{m: g.m, o: o}, Cipher: o.cipher, Sequence: o.Sequence}, nil
		}
		if err = (page.Pager{Find: find}).Load(ctx, p, at, words); !fault.Is(err, fault.Corrupt) {
			return err
		}
		g.m.stats.bad.Add(1)
		if g.m.o.Cache != nil {
			g.m.o.Cache.Drop(o.cached(), cache.Range{At: at.Offset(), End: at.Offset() + at.Stored()})
		}
	}
	return err
}

// ranges is an object as a store: what package page needs of one.
type ranges struct {
	objstore.Store
	m *Image
	o object
}

// GetRange returns bytes of the object.
func (r ranges) GetRange(ctx context.Context, _ string, offset, length int64) ([]byte, error) {
	p := make([]byte, length)
	return p, r.m.bytes(ctx, r.o, offset, p)
}
