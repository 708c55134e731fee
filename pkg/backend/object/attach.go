package object

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Attach implements backend.Backend. For writing it fences whoever had the log
// open before. Precondition if another node may have acknowledged what only its
// journal has and the class says to wait for it; Fenced if another node took the
// volume over while it is in use here.
func (b *Backend) Attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	d, err := b.attach(ctx, r)
	return d, fault.Wrap(err, "attach volume", string(r.ID))
}

func (b *Backend) attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	unlock, err := b.lock(ctx, r.ID, "attaching it")
	if err != nil {
		return backend.Device{}, err
	}
	defer unlock()
	_, rotates := r.Secrets[volume.SecretPreviousEncryptionKey]
	if l := b.live(r.ID); l != nil && l.healthy() && l.ReadOnly == r.ReadOnly && !rotates && check(l.record, r.Secrets) == nil {
		return l.reply(), nil // also while the repository is away
	}
	s, err := b.site(ctx)
	if err != nil {
		return backend.Device{}, err
	}
	record, err := s.volume(ctx, r.ID)
	if err != nil {
		return backend.Device{}, err
	}
	v := record.Value
	k, err := b.keys(ctx, s, v, r.Secrets)
	if err != nil {
		return backend.Device{}, err
	}
	l := b.live(r.ID)
	if l, err = b.cleared(ctx, s, l, k, r); err != nil {
		return backend.Device{}, err
	}
	if l == nil || l.device.Path == "" {
		if l, err = b.attachNew(ctx, s, v, k, l, r); err != nil {
			return backend.Device{}, err
		}
	}
	b.set(func() { l.record = v })
	if err := b.fit(ctx, l, v); err != nil {
		return backend.Device{}, err
	}
	return l.reply(), nil
}

// healthy reports whether the device is served, whole.
func (l *live) healthy() bool {
	return l.device.Path != "" && !l.pending && l.dead == nil && l.record.ID == l.id && (l.v == nil || l.v.Err() == nil && l.device.SizeBytes >= l.record.SizeBytes)
}

func (l *live) reply() backend.Device {
	return backend.Device{Path: l.device.Path, SizeBytes: l.device.SizeBytes, ReadOnly: l.ReadOnly, Filesystem: l.record.Files}
}

// cleared brings what is there of the volume into a state to go on from: a device
// that an earlier process left is served again; one that is dead is taken away, if
// nobody has it open.
func (b *Backend) cleared(ctx context.Context, s *site, l *live, k keyring.Keys, r backend.AttachRequest) (*live, error) {
	if l == nil {
		return nil, nil
	}
	if l.pending {
		b.set(func() { l.keys = k })
		if err := b.serveAgain(ctx, s, l); err != nil {
			return nil, err
		}
	}
	if l.dead == nil && l.v != nil && l.v.Err() != nil {
		b.set(func() { l.dead = l.v.Err() })
	}
	switch {
	case l.dead != nil:
		err := b.options.Devices.Detach(ctx, l.id)
		if fault.Is(err, fault.InUse) {
			return nil, join(l.dead, err)
		}
		if err != nil {
			return nil, err
		}
		b.setLive(l.id, nil)
		l.abandon()
		return nil, nil
	case l.device.Path != "" && l.ReadOnly != r.ReadOnly:
		return nil, fault.New(fault.InUse, "it is attached as %s with read-only %t: want read-only %t: detach it first", l.device.Path, l.ReadOnly, r.ReadOnly)
	case l.device.Path == "" && (r.ReadOnly || l.closing != nil):
		if err := b.closeLog(ctx, l); err != nil {
			return nil, err
		}
		return nil, nil
	}
	return l, nil
}

// attachNew opens the volume and gives it a device. l is what could not be closed
// yet, and is open for writing still; nil if there is nothing.
func (b *Backend) attachNew(ctx context.Context, s *site, v repository.ObjectVolume, k keyring.Keys, l *live, r backend.AttachRequest) (*live, error) {
	if err := b.mayAttach(); err != nil {
		return nil, err
	}
	var err error
	if r.ReadOnly {
		l, err = b.openReader(ctx, s, v, k, r.Shared)
	} else if l == nil {
		l, err = b.openWriter(ctx, s, v, k)
	}
	if err != nil {
		return nil, err
	}
	b.setLive(v.ID, l)
	crashpoint.Here("object: log open")
	if err := b.serve(ctx, l); err != nil {
		if ctx.Err() != nil {
			err = fault.As(fault.KindOf(ctx.Err()), err)
		}
		b.lingering() // a device may be on its way still: it is taken away before the log is closed
		return nil, err
	}
	crashpoint.Here("object: device attached")
	return l, nil
}

// serve gives what is open a device, or gives it to the device that is there.
func (b *Backend) serve(ctx context.Context, l *live) error {
	if l.v != nil {
		b.set(func() { l.Epoch = l.v.State().Epoch })
	}
	if err := b.keepKeys(l.id, l.keys); err != nil {
		return err
	}
	if err := b.writeNote(l.id, l.note); err != nil {
		return err
	}
	d, err := b.options.Devices.Attach(ctx, l.id, l.disk, blockdev.Options{ReadOnly: l.ReadOnly, Discard: !l.ReadOnly})
	if err == nil {
		b.set(func() { l.device, l.pending = d, false })
	}
	return err
}

func (b *Backend) openWriter(ctx context.Context, s *site, v repository.ObjectVolume, k keyring.Keys) (*live, error) {
	l := &live{id: v.ID, keys: k}
	return l, b.openInto(ctx, s, v, l, true)
}

// openInto opens the log of a live volume for writing, with its cache.
func (b *Backend) openInto(ctx context.Context, s *site, v repository.ObjectVolume, l *live, takeOver bool) error {
	c, err := b.openCache(ctx, v)
	if err != nil {
		return err
	}
	opened, err := b.openLog(ctx, s, v, l.keys, how{takeOver: takeOver, journalBytes: b.options.JournalBytes, cache: c})
	if err != nil {
		(&live{id: v.ID, cache: c}).closeCache(ctx)
		return err
	}
	b.set(func() { l.v, l.disk, l.cache, l.cacheBytes = opened, opened, c, cacheBytes(v) })
	return nil
}

// openReader opens a view. For a reader that is not one of many, what a writer that
// died here left in its journal is brought into the repository first.
func (b *Backend) openReader(ctx context.Context, s *site, v repository.ObjectVolume, k keyring.Keys, shared bool) (*live, error) {
	if !shared {
		if err := b.settle(ctx, s, v, k); err != nil {
			return nil, err
		}
	}
	w, err := b.view(ctx, s, v, k)
	if err != nil {
		return nil, err
	}
	return &live{id: v.ID, w: w.View, disk: w, keys: k, note: note{ReadOnly: true, Shared: shared}}, nil
}

// fit makes the log and the device as large as the record says.
func (b *Backend) fit(ctx context.Context, l *live, v repository.ObjectVolume) error {
	if l.v != nil && l.v.Size() < v.SizeBytes {
		if err := l.v.Grow(ctx, blocks(v.SizeBytes)); err != nil {
			return err
		}
		crashpoint.Here("object: log grown")
	}
	b.fitCache(ctx, l, v)
	if l.v == nil || l.device.SizeBytes >= v.SizeBytes {
		return nil
	}
	if err := b.options.Devices.Resize(ctx, l.id); err != nil {
		return err
	}
	b.set(func() { l.device.SizeBytes = v.SizeBytes })
	crashpoint.Here("object: device resized")
	return nil
}

// mayAttach sees that one more device keeps to the limit.
func (b *Backend) mayAttach() error {
	if b.options.MaxVolumes == 0 {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	attached := 0
	for _, l := range b.mu.lives {
		if l.device.Path != "" {
			attached++
		}
	}
	if attached >= b.options.MaxVolumes {
		return fault.New(fault.Exhausted, "%d volumes are attached to this node: want fewer than maxVolumes, %d", attached, b.options.MaxVolumes)
	}
	return nil
}

// Detach implements backend.Backend. When it returns nil, everything that was
// written is in the repository, and any node can open the volume. Transient while
// the repository is away: the device is gone then, and the rest is tried again, by
// this process as well.
func (b *Backend) Detach(ctx context.Context, id volume.ID) error {
	if _, err := volume.ParseID(string(id)); err != nil {
		return nil // no such volume can exist, nor be attached
	}
	unlock, err := b.lock(ctx, id, "detaching it")
	if err == nil {
		defer unlock()
		err = b.detach(ctx, id)
	}
	return fault.Wrap(err, "detach volume", string(id))
}

func (b *Backend) detach(ctx context.Context, id volume.ID) error {
	l := b.live(id)
	if l == nil && !exists(b.journal(id)) {
		return nil
	}
	if l != nil && l.device.Path != "" {
		if l.pending { // what its user wrote is to be served before the device can go
			s, err := b.site(ctx)
			if err == nil {
				err = b.serveAgain(ctx, s, l)
			}
			if err != nil {
				return err
			}
		}
	}
	if l != nil { // with a device or without: an attachment that was cut off may have left one
		if err := b.options.Devices.Detach(ctx, id); err != nil {
			return err
		}
		b.set(func() { l.device = blockdev.Device{} })
		crashpoint.Here("object: device detached")
	}
	if l != nil && (l.v != nil || l.w != nil) {
		if err := b.closeLog(ctx, l); err != nil || !exists(b.journal(id)) {
			return err
		}
	}
	b.setLive(id, nil)
	if err := removeFile(b.notePath(id)); err != nil || !exists(b.journal(id)) {
		return err
	}
	return b.settleLeft(ctx, id)
}
