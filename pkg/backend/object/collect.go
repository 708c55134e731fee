package object

import (
	"context"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/garbage"
	"github.com/holkas-io/holkas/pkg/volume"
)

// collecting is when the trash is looked at next. Nothing is ever looked at without
// a reason: the start, or the end of a grace period.
type collecting struct {
	mu      sync.Mutex
	timer   *time.Timer
	due     time.Time // of timer
	stopped bool

	busy sync.Mutex
	// rests is, of what was found within its grace period, when that ends; guarded by
	// busy.
	rests map[claim.Subject]time.Time
}

// collectAfter has the trash looked at a while after a time: not at the same moment
// on every node, and with what else may be due by then.
func (b *Backend) collectAfter(wait time.Duration) {
	after := b.options.CollectAfter
	b.collectIn(wait + after + rand.N(after))
}

// collectIn has the trash looked at after a time, or sooner if that was asked for.
func (b *Backend) collectIn(after time.Duration) {
	c := &b.collect
	c.mu.Lock()
	defer c.mu.Unlock()
	due := time.Now().Add(after)
	if c.stopped || c.timer != nil && c.due.Before(due) {
		return
	}
	if c.timer != nil && !c.timer.Stop() {
		return // it is just being looked at; what follows asks again
	}
	if c.timer == nil {
		b.work.Add(1)
	}
	c.due = due
	c.timer = time.AfterFunc(after, func() {
		defer b.work.Done()
		c.mu.Lock()
		c.timer = nil
		c.mu.Unlock()
		b.collectNow(b.ctx)
	})
}

// stopCollecting ends the waiting for the next time.
func (b *Backend) stopCollecting() {
	c := &b.collect
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	if c.timer != nil && c.timer.Stop() {
		c.timer = nil
		b.work.Done()
	}
}

// collectRetry is when a look that failed is repeated, and the least time between
// two looks.
const collectRetry = 10 * time.Minute

func (b *Backend) collectNow(ctx context.Context) {
	if ctx.Err() != nil {
		return
	}
	again, err := b.Collect(ctx)
	if err != nil && ctx.Err() == nil {
		klog.FromContext(ctx).Error(err, "Not everything in the trash could be looked at", "again", collectRetry)
		again = collectRetry
	}
	if again > 0 {
		b.collectAfter(max(again, collectRetry))
	}
}

// Collect deletes what may go of what is in the trash, as long as something goes: a
// log that goes lets its origin go. again is when there is something to do next: when
// the first grace period ends; 0 for nothing. Any number of nodes may do it at once.
func (b *Backend) Collect(ctx context.Context) (again time.Duration, err error) {
	b.collect.busy.Lock()
	defer b.collect.busy.Unlock()
	s, err := b.site(ctx)
	if err != nil {
		return 0, err
	}
	rests := b.collect.rests
	b.collect.rests = map[claim.Subject]time.Time{}
	for {
		subjects, err := trashed(ctx, s.Store)
		if err != nil {
			return 0, err
		}
		went := false
		again = 0
		var failed []error
		for _, subject := range subjects {
			wait := rests[subject].Sub(b.now())
			if wait <= 0 {
				gone, w, err := b.collectOne(ctx, s, subject)
				if err != nil {
					failed = append(failed, fault.Wrap(err, "collect", string(subject)))
				}
				went, wait = went || gone, w
			}
			if wait > 0 {
				b.collect.rests[subject] = b.now().Add(wait)
			}
			if wait > 0 && (again == 0 || wait < again) {
				again = wait
			}
		}
		rests = b.collect.rests
		if !went || len(failed) > 0 {
			return again, join(failed...)
		}
	}
}

// trashed lists what is in the trash: with one request, if that is little.
func trashed(ctx context.Context, store objstore.Store) (all []claim.Subject, err error) {
	const trash = "trash/"
	for o := (objstore.ListOptions{Prefix: trash, Delimiter: "/"}); ; {
		page, err := store.List(ctx, o)
		if err != nil {
			return nil, fault.Wrap(err, "list", trash)
		}
		for _, p := range page.Prefixes {
			subject := claim.Subject(strings.TrimSuffix(strings.TrimPrefix(p, trash), "/"))
			if subject.Validate() == nil {
				all = append(all, subject)
			}
		}
		if o.After = page.Next; o.After == "" {
			return all, nil
		}
	}
}

// collectOne lets one subject go as far as it may. gone says that it has gone
// wholly; wait is how long its grace period still lasts.
func (b *Backend) collectOne(ctx context.Context, s *site, subject claim.Subject) (gone bool, wait time.Duration, err error) {
	d, err := s.claims.Trashed(ctx, subject)
	if fault.Is(err, fault.NotFound) || err == nil && d.Verdict == claim.Restore {
		return false, 0, nil
	}
	if err != nil {
		return false, 0, err
	}
	if left := b.options.Grace - b.now().Sub(d.Since); left > 0 && d.Verdict != claim.Delete {
		return false, left, nil
	}
	if err := s.claims.Condemn(ctx, d, b.options.Grace); err != nil {
		if fault.Is(err, fault.Busy) || fault.Is(err, fault.Precondition) {
			err = nil // its clock is another one, or it was restored
		}
		return false, 0, err
	}
	if err := s.claims.LetGo(ctx, subject); err != nil {
		if fault.Is(err, fault.InUse) {
			err = nil // until its last claim is released, which asks again
		}
		return false, 0, err
	}
	if id, err := volume.ParseSnapshotID(string(subject)); err == nil {
		return b.collectSnapshot(ctx, s, id)
	}
	return b.collectLog(ctx, s, subject)
}

// collectSnapshot has the log of a snapshot that was let go give up what only that
// needed: its writer, if that is here; at once, if it has none. A writer elsewhere
// finds it by itself.
func (b *Backend) collectSnapshot(ctx context.Context, s *site, id volume.SnapshotID) (gone bool, wait time.Duration, err error) {
	record, err := s.Repository.ObjectSnapshots.Latest(ctx, string(id))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return false, 0, err
	}
	if v := record.Value; v.Log != "" {
		if l := b.live(v.Volume); l != nil && l.v != nil {
			l.v.Forget(id)
		} else if err := b.collectObjects(ctx, s, v.Log); err != nil {
			return false, 0, err
		}
	}
	return true, 0, s.claims.Forget(ctx, claim.Subject(id))
}

// collectLog deletes what a log that was let go has, but for what its snapshots need.
// When nothing is left, the snapshot that it started from is released.
func (b *Backend) collectLog(ctx context.Context, s *site, subject claim.Subject) (gone bool, wait time.Duration, err error) {
	if err := b.collectObjects(ctx, s, string(subject)); err != nil {
		return false, 0, err
	}
	log, err := vlog.ParseLogID(string(subject))
	if err != nil {
		return false, 0, err
	}
	keys := vlog.Keys{Log: log}
	for _, kind := range []vlog.Kind{vlog.CheckpointKind, vlog.TableKind} {
		page, err := s.Store.List(ctx, objstore.ListOptions{Prefix: keys.Folder(kind), Limit: 1})
		if err != nil || len(page.Objects) > 0 {
			return false, 0, err // its snapshots need it
		}
	}
	record, err := s.Repository.ObjectVolumes.Latest(ctx, string(ofLog(string(subject))))
	if err != nil && !fault.Is(err, fault.NotFound) {
		return false, 0, err
	}
	if v := record.Value; v.State == repository.Ended {
		if err := s.releaseOrigin(ctx, v); err != nil {
			return false, 0, err
		}
	}
	return true, 0, s.claims.Forget(ctx, subject)
}

// collectObjects collects the garbage of a log that has no writer here. One that has
// a writer elsewhere is that one's to collect.
func (b *Backend) collectObjects(ctx context.Context, s *site, id string) error {
	log, err := vlog.ParseLogID(id)
	if err != nil {
		return err
	}
	c := garbage.Collector{
		Log: epoch.Log{Store: s.Store, ID: log}, Claims: s.claims, Grace: b.options.Grace, Now: b.options.Now,
		Deleting: func(keys []string) error {
			klog.FromContext(ctx).Info("Deleting objects that nothing needs", "log", id, "objects", len(keys), "first", keys[0])
			return nil
		},
	}
	_, err = c.Alone(ctx, garbage.AloneOptions{Owner: string(b.options.Node)})
	switch fault.KindOf(err) {
	case fault.InUse, fault.Precondition, fault.NotFound, fault.Busy, fault.Fenced:
		klog.FromContext(ctx).V(4).Info("Log is left to its writer", "log", id, "why", err)
		return nil
	}
	return err
}
