package engine

import (
	"context"

	"github.com/holkas-io/holkas/pkg/fault"
)

// tidy is after how many epochs without a checkpoint a clean close makes one, so
// that openers do not follow them all.
const tidy = 8

// Close uploads everything, publishes a checkpoint if there is anything new, closes
// the epoch cleanly and removes the journal. Nobody reads or writes any more. After
// an error the volume is open still, and Close may be called again, or Abandon;
// but for Fenced and what else Err says, with which it never will succeed.
func (v *Volume) Close(ctx context.Context) error {
	v.hold(1) // no slot is begun behind the marker
	defer v.hold(-1)
	v.mu.Lock()
	to := v.mu.newest
	v.mu.Unlock()
	err := v.land(ctx, to)
	if err == nil {
		err = v.await(ctx, v.still)
	}
	if err != nil {
		return fault.Wrap(err, "close volume", string(v.o.Volume))
	}
	err = v.between(ctx, func(ctx context.Context) error {
		if v.image.Head().Epoch != v.began.Epoch || v.image.Head().Sequence > 0 || v.reign.Epoch > v.began.Epoch+tidy {
			if err := v.checkpoint(ctx); err != nil {
				return err
			}
		}
		return v.reign.Close(ctx, v.image.Head())
	})
	if err != nil {
		return fault.Wrap(err, "close volume", string(v.o.Volume))
	}
	v.stop()
	if err := v.journal.Close(ctx); err != nil {
		return v.done(err)
	}
	return v.done(v.e.o.Storage.Remove(v.o.Journal))
}

// stop ends what runs in the background.
func (v *Volume) stop() {
	v.mu.Lock()
	v.cancel()
	v.mu.Unlock()
	v.wg.Wait()
}

// done gives back what the volume has.
func (v *Volume) done(err error) error {
	v.e.leave(v)
	v.image.Close()
	return fault.Wrap(err, "close volume", string(v.o.Volume))
}

// Abandon ends as a death would: nothing more is written, the journal stays, and the
// epoch is not closed. Nobody reads or writes any more.
func (v *Volume) Abandon() {
	v.stop()
	v.journal.Abandon()
	_ = v.done(nil)
}
