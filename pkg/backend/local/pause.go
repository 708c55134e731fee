package local

import (
	"context"
	"maps"
	"slices"
	"sync"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// rememberPauses is how many pauses that are over are remembered, so that late
// duplicates of their calls get the same answer and freeze nothing.
const rememberPauses = 1000

// pauses holds the pauses of several volumes at once.
type pauses struct {
	mu    sync.Mutex
	known map[backend.PauseID]*pause
	over  []backend.PauseID // the oldest first
}

// pause holds volumes: those that are mounted are frozen, the others cannot be
// attached meanwhile.
type pause struct {
	id      backend.PauseID
	volumes []volume.ID   // ascending
	begun   chan struct{} // closed when the volumes are held, or could not be
	err     error         // why they could not; set before begun is closed

	// Set before anything is frozen, and not changed after.
	unlock  func()
	stop    func() // of the watchdog
	freezes map[volume.ID]*freeze

	mu   sync.Mutex
	over bool
	held bool           // once it is over: whether it was never interrupted
	cuts sync.WaitGroup // under way
	done sync.WaitGroup // of end
}

// held is a volume's place in a pause.
type held struct {
	pause  *pause
	freeze *freeze // nil if the volume needed none
}

// holds reports whether the pause has held from its beginning until now.
func (h *held) holds() bool {
	h.pause.mu.Lock()
	defer h.pause.mu.Unlock()
	return !h.pause.over
}

// Pause implements backend.Backend.
func (b *Backend) Pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	return fault.Wrap(b.pause(ctx, id, volumes), "pause", string(id))
}

func (b *Backend) pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	if id == "" || len(volumes) == 0 {
		return fault.New(fault.Invalid, "pause %q of %d volumes: want an id and at least one volume", id, len(volumes))
	}
	ids := slices.Compact(slices.Sorted(slices.Values(volumes)))
	p, mine := b.pauses.begin(id, ids)
	if !mine {
		return p.joined(ctx, ids)
	}
	p.err = b.holdAll(ctx, p)
	if p.err != nil {
		b.pauses.forget(p) // none is held: the next try may succeed
	}
	close(p.begun)
	return p.err
}

// joined answers a repeated Pause.
func (p *pause) joined(ctx context.Context, ids []volume.ID) error {
	select {
	case <-p.begun:
	case <-ctx.Done():
		return fault.New(fault.Busy, "its first call is under way: try again when it is done (%w)", ctx.Err())
	}
	if !slices.Equal(p.volumes, ids) {
		return fault.New(fault.Exists, "it holds volumes %v: want %v", p.volumes, ids)
	}
	return p.err
}

// holdAll locks all volumes, and freezes those that are mounted. On an error it
// holds none.
func (b *Backend) holdAll(ctx context.Context, p *pause) error {
	unlock, err := b.lockVolumes(ctx, p.volumes, "a pause for a group snapshot")
	if err != nil {
		return err
	}
	p.unlock = unlock
	for _, id := range p.volumes {
		f, err := b.readyMember(ctx, id)
		if err != nil {
			p.end(ctx)
			return fault.Wrap(err, "pause volume", string(id))
		}
		if f != nil {
			p.freezes[id] = f
		}
	}
	freezes := slices.Collect(maps.Values(p.freezes))
	if err := settleAll(freezes); err != nil {
		p.end(ctx)
		return err
	}
	for _, f := range freezes {
		if err := f.arm(b.options.PauseLimit); err != nil {
			p.end(ctx)
			return fault.Wrap(err, "pause volume", string(f.id))
		}
	}
	stop := watchdog(ctx, b.options.PauseLimit, freezes, func() {
		p.end(context.WithoutCancel(ctx))
		b.pauses.retire(p)
	})
	for _, f := range freezes {
		if err := f.freeze(); err != nil {
			stop()
			p.end(ctx)
			return fault.Wrap(err, "pause volume", string(f.id))
		}
	}
	p.stop = stop
	return nil
}

// settleAll settles all at once: what one dirties while another is settled would
// be written while the first is frozen already.
func settleAll(freezes []*freeze) error {
	errs := make([]error, len(freezes))
	var all sync.WaitGroup
	for i, f := range freezes {
		all.Go(func() { errs[i] = fault.Wrap(f.settle(), "pause volume", string(f.id)) })
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// readyMember prepares the freezing of one volume; nil if it needs none.
func (b *Backend) readyMember(ctx context.Context, id volume.ID) (*freeze, error) {
	from, err := b.findVolume(ctx, id)
	if err != nil {
		return nil, err
	}
	if err := from.writable(); err != nil {
		return nil, err
	}
	u, err := b.usage(ctx, from.store, id)
	if err != nil || !u.writable {
		return nil, err
	}
	if u.mountPoint == "" {
		return nil, fault.New(fault.Precondition, "it is attached as a raw block device, which nothing can freeze: snapshot it by itself, or detach it")
	}
	return b.readyToFreeze(from, u.mountPoint)
}

// end thaws all volumes, and then, when no cut is under way any more, forgets
// the freezes and unlocks the volumes. Called again it waits for that.
func (p *pause) end(ctx context.Context) (held bool) {
	defer p.done.Wait()
	p.mu.Lock()
	if p.over {
		defer p.mu.Unlock()
		return p.held
	}
	p.over, p.held = true, true
	for _, f := range p.freezes {
		if !f.thaw(ctx) {
			p.held = false
		}
	}
	held = p.held
	p.done.Add(1)
	p.mu.Unlock()
	defer p.done.Done()
	p.cuts.Wait()
	for _, f := range p.freezes {
		if err := f.forget(); err != nil { // harmless: the next start thaws what is not frozen
			klog.FromContext(ctx).Error(err, "Record of a freeze that is over could not be removed", "volumeID", f.id)
		}
	}
	p.unlock()
	return held
}

// Resume implements backend.Backend.
func (b *Backend) Resume(ctx context.Context, id backend.PauseID) error {
	return fault.Wrap(b.resume(ctx, id), "resume", string(id))
}

func (b *Backend) resume(ctx context.Context, id backend.PauseID) error {
	p := b.pauses.get(id)
	if p == nil {
		return fault.New(fault.Precondition, "this process holds no such pause: what was cut under it is void")
	}
	select {
	case <-p.begun:
	case <-ctx.Done():
		return fault.New(fault.Busy, "the pause is only beginning: try again when it has begun (%w)", ctx.Err())
	}
	if p.err != nil {
		return fault.New(fault.Precondition, "the pause failed: %w", p.err)
	}
	p.stop()
	held := p.end(context.WithoutCancel(ctx))
	b.pauses.retire(p)
	if !held {
		return fault.New(fault.Precondition, "the pause had ended by itself (limit %v): what was cut under it is void", b.options.PauseLimit)
	}
	return nil
}
