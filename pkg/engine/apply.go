package engine

import (
	"bytes"
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/image"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/garbage"
)

// A checkpoint is made after `every` segments, or later while the pages that it would
// store are more than one part in pageShare of what was stored since the last one, as
// they are when a large volume is written at random; but after mostBetween at the
// latest, since an opener has to replay them.
const (
	every       = 64
	mostBetween = 512
	pageShare   = 20
	// pageBytes is what a page takes in the store, about.
	pageBytes = 1 << 10
)

// applier takes segments that count into the table, in their order, gives their
// part of the journal back, and makes the checkpoints in between.
func (v *Volume) applier() {
	defer close(v.over)
	for {
		u, t, err := v.work()
		switch {
		case err != nil:
		case u != nil:
			err = v.apply(u)
		case t != nil:
			t.done <- t.do(v.ctx) // whoever asked may go: what was begun is finished
		default:
			err = v.collectLater()
		}
		if err != nil {
			if v.ctx.Err() == nil {
				v.fail(err)
			}
			return
		}
	}
}

// task is something to do between two segments.
type task struct {
	do   func(ctx context.Context) error
	done chan error
}

// between has the applier do something between two segments.
func (v *Volume) between(ctx context.Context, do func(ctx context.Context) error) error {
	t := &task{do, make(chan error, 1)}
	v.mu.Lock()
	v.mu.tasks = append(v.mu.tasks, t)
	v.notifyLocked()
	v.mu.Unlock()
	select {
	case err := <-t.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-v.over:
		return v.ended()
	}
}

// work waits for the next segment that counts, or a task; neither if it is time to
// collect.
func (v *Volume) work() (*upload, *task, error) {
	for {
		v.mu.Lock()
		if err := v.mu.err; err != nil {
			v.mu.Unlock()
			return nil, nil, err
		}
		if len(v.mu.inflight) > 0 && v.mu.inflight[0].stored {
			u := v.mu.inflight[0]
			v.mu.Unlock()
			return u, nil, nil
		}
		if len(v.mu.tasks) > 0 {
			t := v.mu.tasks[0]
			v.mu.tasks = v.mu.tasks[1:]
			v.mu.Unlock()
			return nil, t, nil
		}
		changed, at := v.mu.changed, v.mu.collectAt
		v.mu.Unlock()
		var timer <-chan time.Time
		if !at.IsZero() {
			wait := at.Sub(v.e.o.Now())
			if wait <= 0 {
				return nil, nil, nil
			}
			timer = time.After(wait)
		}
		select {
		case <-changed:
		case <-timer:
		case <-v.ctx.Done():
			return nil, nil, v.ctx.Err()
		}
	}
}

// apply takes a segment into the table. The journal's space goes back before a
// checkpoint may name the position, so that an opener never finds records that the
// checkpoint has already.
func (v *Volume) apply(u *upload) error {
	if err := v.e.applying.Acquire(v.ctx, 1); err != nil {
		return err
	}
	defer v.e.applying.Release(1)
	if v.image.Full() {
		if err := v.checkpoint(v.ctx); err != nil {
			return err
		}
	}
	if err := v.persist(v.ctx, func(ctx context.Context) error { return v.image.Apply(ctx, u.segment) }); err != nil {
		return err
	}
	v.dirtyCheck = true
	if u.end > 0 {
		v.overlay.Retire(u.segment.Index.Entries, u.end)
		if err := v.journal.Recycle(v.ctx, u.end); err != nil {
			return err
		}
	}
	v.mu.Lock()
	v.mu.applied = max(v.mu.applied, u.end)
	v.mu.inflight = v.mu.inflight[1:]
	v.sinceCheck++
	done := v.mu.applied >= v.replayed
	v.notifyLocked()
	v.mu.Unlock()
	if u.moves != nil {
		v.movedSince = true
	} else {
		v.soil(1)
	}
	settle := done && v.settled < v.reign.Epoch-1
	if settle {
		v.settled = v.reign.Epoch - 1
	}
	if len(u.segment.Index.Seals) > 0 || settle || v.checkpointDue() {
		if err := v.checkpoint(v.ctx); err != nil {
			return err
		}
	}
	return v.complete(u)
}

// checkpointDue says whether it is time for a checkpoint: for those who open, or for
// the memory.
func (v *Volume) checkpointDue() bool {
	pages := uint64(v.image.Table().Dirty()) * pageBytes
	cheap := pages*pageShare <= v.stats.segmentBytes.Load()-v.bytesCheck
	return v.sinceCheck >= every && cheap || v.sinceCheck >= mostBetween || v.image.Full()
}

// checkpoint publishes the state of the table, if there is none at its position.
func (v *Volume) checkpoint(ctx context.Context) error {
	head := v.image.Head()
	if !v.dirtyCheck || head.Position == v.published {
		return nil
	}
	w := image.Writer{
		Reign: v.reign.Reign, KeyID: v.ciphers.segment.KeyID(), Settled: v.settled, With: v.tuning.Load().Compression, Now: v.e.o.Now(),
		Store: func(ctx context.Context, key string, object []byte) error {
			return v.persist(ctx, func(ctx context.Context) error { return create(ctx, v.o.Store, key, object) })
		},
	}
	var p image.Prepared
	if err := v.persist(ctx, func(ctx context.Context) (err error) {
		p, err = v.image.Checkpoint(ctx, w)
		return err
	}); err != nil {
		return err
	}
	if err := v.persist(ctx, func(ctx context.Context) error { return checkpoint.Publish(ctx, v.o.Store, p.Encoded) }); err != nil {
		return err
	}
	v.image.Published(p)
	v.published, v.sinceCheck, v.dirtyCheck, v.movedSince = head.Position, 0, false, false
	v.digest, v.bytesCheck = p.Digest, v.stats.segmentBytes.Load()
	v.stats.checkpoints.Add(1)
	v.mu.Lock()
	if v.mu.collectAt.IsZero() {
		v.mu.collectAt = v.e.o.Now().Add(v.o.Grace + v.o.Grace/16)
	}
	v.mu.Unlock()
	return nil
}

// create makes an object durable whose content is decided. That an earlier try has
// stored it, whose reply was lost, is success.
func create(ctx context.Context, store objstore.Store, key string, object []byte) error {
	err := store.Create(ctx, key, object)
	for try := 0; fault.Is(err, fault.Exists) && try < 2; try++ { // it may be the reply that is spoiled
		there, e := store.Get(ctx, key)
		switch {
		case e != nil:
			return fault.Wrap(e, "store", key)
		case bytes.Equal(there, object):
			return nil
		}
	}
	return fault.Wrap(err, "store", key)
}

// collectLater has what nothing needs any more deleted, beside what goes on here.
func (v *Volume) collectLater() error {
	v.mu.Lock()
	v.mu.collectAt = time.Time{}
	v.mu.Unlock()
	if err := v.reclaim(v.ctx); err != nil {
		return err
	}
	published := v.published
	v.background(func() {
		p, err := v.collect(v.ctx, published)
		switch {
		case fault.Is(err, fault.Fenced):
			v.fail(err)
		case err != nil, p.AsOf != published: // there will be more when what is younger is old enough
			v.mu.Lock()
			v.mu.collectAt = v.e.o.Now().Add(v.o.Grace)
			v.notifyLocked()
			v.mu.Unlock()
		}
	})
	return nil
}

// reclaim does the accounting of what was discarded.
func (v *Volume) reclaim(ctx context.Context) error {
	for more := true; more; {
		if err := v.persist(ctx, func(ctx context.Context) (err error) {
			more, err = v.image.Reclaim(ctx)
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

func (v *Volume) collect(ctx context.Context, published vlog.Position) (garbage.Plan, error) {
	if err := v.collecting.Acquire(ctx, 1); err != nil {
		return garbage.Plan{}, err
	}
	defer v.collecting.Release(1)
	p, err := v.collector.AsWriter(ctx, v.reign, published)
	if err == nil {
		v.stats.collected.Add(uint64(len(p.Objects)))
	}
	return p, err
}

// Collect deletes what nothing has needed since before the grace period.
func (v *Volume) Collect(ctx context.Context) (garbage.Plan, error) {
	var published vlog.Position
	if err := v.between(ctx, func(ctx context.Context) error {
		published = v.published
		return v.reclaim(ctx)
	}); err != nil {
		return garbage.Plan{}, err
	}
	return v.collect(ctx, published)
}

// Checkpoint uploads everything that was written before, and publishes the state.
func (v *Volume) Checkpoint(ctx context.Context) error {
	v.mu.Lock()
	to := v.mu.newest
	v.mu.Unlock()
	if err := v.land(ctx, to); err != nil {
		return err
	}
	return v.between(ctx, v.checkpoint)
}

// land waits until everything up to a journal position is in the table.
func (v *Volume) land(ctx context.Context, to vlog.LSN) error {
	v.demand(to)
	return v.await(ctx, func() (bool, error) { return v.mu.applied >= to, nil })
}
