package local

import (
	"context"
	"errors"
	"time"

	"github.com/holkas-io/holkas/pkg/backend/internal/freeze"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/durable"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/crashpoint"
)

// hold is the freezing of a volume's mounted filesystem, with its record in the
// pool: what a pause holds of it.
type hold struct {
	*freeze.Freeze
	store     *store
	predicted time.Duration // for how long a cut will hold its writers
}

// readyToFreeze prepares all that takes time: what is dirty is written, the pause
// is predicted, and the record made durable that lets the next process thaw
// what this one leaves frozen. Precondition if the pause would be too long. The
// caller calls Close in the end.
func (b *Backend) readyToFreeze(from place[record.Volume], mountPoint string) (*hold, error) {
	s, id := from.store, from.record.ID
	f, err := freeze.Open(id, mountPoint)
	if err != nil {
		return nil, err
	}
	if err := from.medium.quiet(); err != nil {
		return nil, errors.Join(s.wrap(err), f.Close())
	}
	predicted, err := predict(from, false, b.freezing.predict(), b.options.PauseLimit)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	h := &hold{Freeze: f, store: s, predicted: predicted}
	now := b.options.Now().UTC().Round(0)
	if err := record.Write(s.frozenRecord(id), record.Frozen{Volume: id, MountPoint: mountPoint, Since: now}); err != nil {
		return nil, s.wrap(errors.Join(err, h.forget()))
	}
	crashpoint.Here("local: freeze recorded")
	return h, nil
}

// forget closes a freeze that is over, and removes its record.
func (h *hold) forget() error {
	return errors.Join(h.Freeze.Close(), durable.Remove(h.store.frozenRecord(h.Volume())))
}

// Release implements pause.Member.
func (h *hold) Release(ctx context.Context) (held bool) { return h.Thaw(ctx) }

// Close implements pause.Member.
func (h *hold) Close(context.Context) error { return h.forget() }
