package object

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/internal/freeze"
	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// member is a volume that a pause holds: the writers of its log wait, and its
// filesystem, if it is mounted, is frozen. A volume at rest is open for it, so that
// who opens it elsewhere meanwhile is noticed.
type member struct {
	b    *Backend
	id   volume.ID
	log  *engine.Volume
	done func(context.Context) // with the log
	raw  bool                  // it is in use, and nothing can freeze it

	freeze  *freeze.Apart // nil if it is not mounted
	expired atomic.Bool

	mu     sync.Mutex
	resume func() // nil before it is held, and when it is over
}

// Pause implements backend.Backend. What was written before is in the repository
// when it returns, so that cuts under it are quick.
func (b *Backend) Pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	return fault.Wrap(b.pauses.Begin(ctx, id, volumes, func(h *pause.Hold[*member], ids []volume.ID) error {
		return b.holdAll(ctx, h, ids)
	}), "pause", string(id))
}

func (b *Backend) holdAll(ctx context.Context, h *pause.Hold[*member], volumes []volume.ID) error {
	s, err := b.site(ctx)
	if err != nil {
		return err
	}
	unlock, err := b.lockAll(ctx, volumes, "a pause for a group snapshot")
	if err != nil {
		return err
	}
	h.Unlock = unlock
	for _, id := range volumes {
		m, err := b.member(ctx, s, id)
		if err != nil {
			return fault.Wrap(err, "pause volume", string(id))
		}
		h.Members[id] = m
	}
	each := func(do func(*member) error) error {
		var all errgroup.Group
		for _, m := range h.Members {
			all.Go(func() error { return fault.Wrap(do(m), "pause volume", string(m.id)) })
		}
		return all.Wait()
	}
	if err := each(func(m *member) error { return m.ready(ctx) }); err != nil {
		return err
	}
	h.Watch(ctx, b.options.PauseLimit)
	// All filesystems before the first log: a frozen one writes nothing, a log that
	// waits would hold up the freezing of another that is written on it.
	if err := each(func(m *member) error { return m.begin() }); err != nil {
		return err
	}
	return each(func(m *member) error { return m.stop(ctx) })
}

// member opens a volume for a pause, and looks at how it is used.
func (b *Backend) member(ctx context.Context, s *site, id volume.ID) (*member, error) {
	record, err := s.volume(ctx, id)
	if err != nil {
		return nil, err
	}
	v := record.Value
	log, done, err := b.use(ctx, s, v, func() (keyring.Keys, error) { return b.keys(ctx, s, v, nil) })
	if err != nil {
		return nil, err
	}
	m := &member{b: b, id: id, log: log, done: done}
	if err := m.look(ctx); err != nil {
		return nil, errors.Join(err, m.Close(context.WithoutCancel(ctx)))
	}
	return m, nil
}

// look finds out how the volume is used.
func (m *member) look(ctx context.Context) error {
	l := m.b.live(m.id)
	if !l.writer() {
		return nil
	}
	mount, err := freeze.Find(l.device.Path)
	switch {
	case err != nil:
		return err
	case mount.Point == "":
		m.raw = true
		return flushDevice(ctx, l.device.Path)
	case !mount.ReadOnly:
		m.freeze, err = m.b.readyToFreeze(ctx, m.id, mount.Point)
	}
	return err
}

// ready brings what is written into the repository while writers still go on.
func (m *member) ready(ctx context.Context) error {
	if m.freeze != nil {
		if err := errors.Join(m.freeze.Settle(ctx), m.freeze.Arm(m.b.options.PauseLimit)); err != nil {
			return err
		}
	}
	return m.log.Sync(ctx)
}

func (m *member) begin() error {
	if m.freeze == nil {
		return nil
	}
	return m.freeze.Begin()
}

func (m *member) stop(ctx context.Context) error {
	resume, err := m.log.Pause(ctx)
	if err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.expired.Load() {
		resume()
		return fault.New(fault.Precondition, "the pause had ended before all was held")
	}
	m.resume = resume
	return nil
}

// goOn lets the writers of the log go on.
func (m *member) goOn() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.resume != nil {
		m.resume()
		m.resume = nil
	}
}

// Release implements pause.Member. The log goes on first: thawing writes.
func (m *member) Release(ctx context.Context) (held bool) {
	held = !m.expired.Load() && m.log.Err() == nil
	m.goOn()
	if m.freeze != nil && !m.freeze.Thaw(ctx) {
		held = false
	}
	return held
}

// Expire implements pause.Member.
func (m *member) Expire(ctx context.Context) {
	m.expired.Store(true)
	m.goOn()
	if m.freeze != nil {
		m.freeze.Expire(ctx)
	}
}

// Close implements pause.Member.
func (m *member) Close(ctx context.Context) error {
	var err error
	if m.freeze != nil {
		err = errors.Join(m.freeze.Close(), m.b.unfrozen(m.id))
	}
	m.done(ctx)
	return err
}

// Resume implements backend.Backend.
func (b *Backend) Resume(ctx context.Context, id backend.PauseID) error {
	return fault.Wrap(b.pauses.Resume(ctx, id), "resume", string(id))
}
