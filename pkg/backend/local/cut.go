package local

import (
	"context"
	"errors"
	"time"

	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// cut tells how a copy of a volume at one moment turned out.
type cut struct {
	consistency volume.Consistency
	at          time.Time
	pause       time.Duration // for which writers were blocked
	predicted   time.Duration
}

// cut makes the disk in tmp from a volume, at one moment between two writes. The
// caller has locked the volume, or takes part in a pause that holds it (held).
//
//	volume                        asked for    how                                 turns out
//	not attached, or read-only    any          shared as it lies there             as asked
//	held by a pause               any          shared as it lies there             as asked
//	mounted                       filesystem   frozen, shared, thawed              filesystem
//	mounted                       crash        shared live                         crash
//	attached and not mounted      any          page cache written, shared live:    crash
//	                                           there is nothing that could freeze
func (b *Backend) cut(ctx context.Context, from place[record.Volume], want volume.Consistency, held *pause.Held[*hold], tmp string) (cut, error) {
	c := cut{consistency: want, at: from.cuts.next(from.record.ID, b.options.Now())}
	if held != nil {
		return b.cutHeld(from, held, c, tmp)
	}
	u, err := b.usage(ctx, from.store, from.record.ID)
	if err != nil {
		return cut{}, err
	}
	switch {
	case !u.writable:
		return c, from.medium.share(from.dir, tmp)
	case u.mountPoint == "":
		c.consistency = volume.CrashConsistent
		if err := syncFile(u.device); err != nil {
			return cut{}, err
		}
		return cutLive(from, c, tmp)
	case want == volume.CrashConsistent:
		return cutLive(from, c, tmp)
	}
	return b.cutFrozen(ctx, from, u.mountPoint, c, tmp)
}

// cutHeld cuts a volume that a pause holds, and sees that it still does.
func (b *Backend) cutHeld(from place[record.Volume], held *pause.Held[*hold], c cut, tmp string) (cut, error) {
	frozen := held.Member != nil
	if frozen {
		c.predicted = held.Member.predicted
	}
	began := time.Now()
	if err := from.medium.share(from.dir, tmp); err != nil {
		return cut{}, err
	}
	if frozen {
		c.pause = time.Since(began)
		from.medium.learn(from.dir, false, c.pause)
	}
	if !held.Holds() {
		return cut{}, fault.New(fault.Precondition, "the pause ended before the cut was made: it lasts %v at most", b.options.PauseLimit)
	}
	return c, nil
}

// cutLive cuts a volume while it is being written.
func cutLive(from place[record.Volume], c cut, tmp string) (cut, error) {
	defer from.calm.cut()()
	err := from.medium.quiet()
	if err != nil {
		return cut{}, from.wrap(err)
	}
	if c.predicted, err = predict(from, true, 0, from.record.Class.MaxSnapshotPause); err != nil {
		return cut{}, err
	}
	began := time.Now()
	if err := from.medium.shareLive(from.dir, tmp); err != nil {
		return cut{}, err
	}
	c.pause = time.Since(began)
	from.medium.learn(from.dir, true, c.pause)
	return c, nil
}

// cutFrozen cuts a volume whose filesystem it freezes for that moment.
func (b *Backend) cutFrozen(ctx context.Context, from place[record.Volume], mountPoint string, c cut, tmp string) (_ cut, err error) {
	defer from.calm.cut()()
	f, err := b.readyToFreeze(from, mountPoint)
	if err != nil {
		return cut{}, err
	}
	c.predicted = f.predicted
	defer func() { err = errors.Join(err, f.forget()) }()
	if err := errors.Join(f.Settle(), f.Arm(b.options.PauseLimit)); err != nil {
		return cut{}, err
	}
	defer f.Watchdog(ctx, b.options.PauseLimit)()
	began := time.Now()
	if err := f.Begin(); err != nil {
		return cut{}, err
	}
	sharing := time.Now()
	b.freezing.learn(sharing.Sub(began))
	err = from.medium.share(from.dir, tmp)
	shared := time.Since(sharing)
	crashpoint.Here("local: shared while frozen")
	held := f.Thaw(ctx)
	c.pause = time.Since(began)
	switch {
	case err != nil:
		return cut{}, err
	case !held:
		return cut{}, fault.New(fault.Precondition, "the filesystem went on after %v, before the cut was made (%v): use a btrfs pool, or defragment the volume while it is detached", b.options.PauseLimit, c.pause)
	}
	from.medium.learn(from.dir, false, shared)
	return c, nil
}

// predict says for how long writers will be blocked by what comes before the
// sharing and by that itself; 0 if it does not depend on what is in the disk.
// Precondition if that is longer than the volume's class allows, or than the
// limit.
func predict(from place[record.Volume], live bool, before, limit time.Duration) (time.Duration, error) {
	predicted, err := from.medium.predict(from.dir, live)
	if err != nil || predicted == 0 {
		return 0, err
	}
	predicted += before
	if most := from.record.Class.MaxSnapshotPause; predicted > most {
		return 0, fault.New(fault.Precondition, "writers would be blocked for %v: want at most %v (parameter %s): raise it with a VolumeAttributesClass, keep the volume in a btrfs pool, or defragment %s with xfs_fsr while the volume is detached",
			predicted.Round(time.Millisecond), most, volume.ParamMaxSnapshotPause, from.medium.disk(from.dir))
	}
	if predicted > limit {
		return 0, fault.New(fault.Precondition, "the filesystem would be frozen for %v: want at most %v, when it goes on whatever happens: ask for consistency %q, keep the volume in a btrfs pool, or defragment %s with xfs_fsr while the volume is detached",
			predicted.Round(time.Millisecond), limit, volume.CrashConsistent, from.medium.disk(from.dir))
	}
	return predicted, nil
}
