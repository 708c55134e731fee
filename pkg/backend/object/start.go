package object

import (
	"context"
	"errors"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend/internal/freeze"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
	"github.com/holkas-io/holkas/pkg/volume"
)

// begin takes over what an earlier process left, and starts what runs in the
// background.
func (b *Backend) begin(ctx context.Context) error {
	found, err := b.options.Devices.Find(ctx)
	if err != nil {
		return err
	}
	for id, d := range found {
		n, err := b.readNote(id)
		if err != nil {
			klog.FromContext(ctx).Error(err, "What a device shows is not known", "volumeID", id, "device", d.Path)
			n.ReadOnly = d.ReadOnly
		}
		b.setLive(id, &live{id: id, note: n, device: d, pending: true})
	}
	left, err := ids(b.folder("journals"))
	if err != nil {
		return fault.New(fault.Precondition, "folder of the journals: %w", err)
	}
	if err := b.dropCaches(found); err != nil {
		return err
	}
	for id := range found {
		b.run(func(ctx context.Context) { b.untilDone(ctx, id, "Device is not served yet", b.tryServe) })
	}
	for _, id := range left {
		if _, ok := found[id]; !ok {
			b.run(func(ctx context.Context) {
				b.untilDone(ctx, id, "Journal is not in the repository yet", func(ctx context.Context, id volume.ID) error { return b.tryDetach(ctx, id) })
			})
		}
	}
	frozen, err := ids(b.folder("frozen"))
	for _, id := range frozen {
		if _, ok := found[id]; !ok { // without a device nothing of it is alive
			err = errors.Join(err, b.unfrozen(id))
		}
	}
	b.collectAfter(0)
	return err
}

// dropCaches removes the caches of volumes that are not attached any more.
func (b *Backend) dropCaches(found map[volume.ID]blockdev.Device) error {
	left, err := ids(b.folder("caches"))
	for _, id := range left {
		if _, ok := found[id]; !ok {
			err = errors.Join(err, removeFile(b.cachePath(id)))
		}
	}
	return err
}

// The first and the longest pause between tries to do something that must be done.
const (
	firstPause = 100 * time.Millisecond
	mostPause  = 30 * time.Second
	tryFor     = time.Minute
)

// untilDone tries something until it is done, can never be, or the backend is
// closed.
func (b *Backend) untilDone(ctx context.Context, id volume.ID, what string, try func(ctx context.Context, id volume.ID) error) {
	for pause := firstPause; ; pause = min(2*pause, mostPause) {
		within, cancel := context.WithTimeout(ctx, tryFor)
		err := try(within, id)
		cancel()
		if err == nil || ctx.Err() != nil {
			return
		}
		klog.FromContext(ctx).Error(err, what, "volumeID", id, "again", pause)
		if again := fault.KindOf(err); again == fault.Corrupt || again == fault.Precondition || again == fault.Unsupported {
			return // somebody must act; calls try again
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return
		}
	}
}

// tryServe serves the device that an earlier process left.
func (b *Backend) tryServe(ctx context.Context, id volume.ID) error {
	s, err := b.site(ctx)
	if err != nil {
		return err
	}
	unlock, err := b.lock(ctx, id, "serving its device again")
	if err != nil {
		return err
	}
	defer unlock()
	l := b.live(id)
	if l == nil || !l.pending {
		return nil
	}
	return b.serveAgain(ctx, s, l)
}

func (b *Backend) tryDetach(ctx context.Context, id volume.ID) error {
	unlock, err := b.lock(ctx, id, "bringing its journal into the repository")
	if err != nil {
		return err
	}
	defer unlock()
	if l := b.live(id); l != nil && l.device.Path != "" {
		return nil // somebody attached it meanwhile
	}
	return b.detach(ctx, id)
}

// lingering tries again what could not be closed.
func (b *Backend) lingering() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, l := range b.mu.lives {
		if l.device.Path == "" && !l.retrying {
			l.retrying = true
			b.run(func(ctx context.Context) {
				b.untilDone(ctx, id, "Volume is not closed yet", b.tryDetach)
				b.mu.Lock()
				l.retrying = false
				b.mu.Unlock()
			})
		}
	}
}

// serveAgain opens what a device showed before this process, and serves it. If that
// can never be, the device is served errors, so that its users do not wait for ever.
func (b *Backend) serveAgain(ctx context.Context, s *site, l *live) error {
	err := b.reopen(ctx, s, l)
	if err == nil {
		klog.FromContext(ctx).Info("Serving a device again", "volumeID", l.id, "device", l.device.Path)
		device := l.device.Path
		b.run(func(ctx context.Context) { b.thawLeft(ctx, l.id, device) })
		return nil
	}
	b.set(func() { l.dead = err })
	switch fault.KindOf(err) {
	case fault.Fenced, fault.NotFound, fault.Corrupt, fault.InUse:
	default:
		return err
	}
	klog.FromContext(ctx).Error(err, "Device is served errors from now on", "volumeID", l.id, "device", l.device.Path)
	disk := errDisk{l.device.SizeBytes, err}
	d, e := b.options.Devices.Attach(ctx, l.id, disk, blockdev.Options{ReadOnly: l.ReadOnly, Discard: !l.ReadOnly})
	if e != nil {
		return join(e, err)
	}
	b.set(func() { l.disk, l.device, l.pending = disk, d, false })
	return nil
}

func (b *Backend) reopen(ctx context.Context, s *site, l *live) error {
	record, err := s.volume(ctx, l.id)
	if err != nil {
		return err
	}
	v := record.Value
	if v.Keys.Encrypted() && l.keys.Own == nil {
		kept, err := b.keptKeys(l.id)
		if err != nil {
			return err
		}
		b.set(func() { l.keys = kept })
	}
	k := l.keys
	b.set(func() { l.record = v })
	if l.ReadOnly {
		w, err := b.view(ctx, s, v, k)
		if err != nil {
			return err
		}
		b.set(func() { l.w, l.disk, l.dead = w.View, w, nil })
	} else if err := b.reopenWriter(ctx, s, v, l); err != nil {
		return err
	}
	if err := b.serve(ctx, l); err != nil {
		b.dropLog(l)
		return err
	}
	return nil
}

// reopenWriter opens a log on behind the last life of this node, if nobody else
// opened it since: what its users know of the volume would not be true.
func (b *Backend) reopenWriter(ctx context.Context, s *site, v repository.ObjectVolume, l *live) error {
	id, err := logOf(v)
	if err != nil {
		return err
	}
	log := epoch.Log{Store: s.Store, ID: id}
	before, err := log.Newest(ctx)
	if err != nil {
		return err
	}
	if before.Owner != string(b.options.Node) || before.Epoch < l.Epoch {
		return fault.New(fault.Fenced, "%s follows epoch %d, in which this node had it: its users here must let go of it", before, l.Epoch)
	}
	if err := b.openInto(ctx, s, v, l, false); err != nil {
		return err
	}
	if got := l.v.State().Epoch; got != before.Epoch+1 {
		b.dropLog(l)
		return fault.New(fault.Fenced, "somebody opened it between epochs %d and %d, in which this node has it: its users here must let go of it", before.Epoch, got)
	}
	b.set(func() { l.dead = nil })
	return nil
}

// dropLog ends the use of a log, as a death would, of what stays live.
func (b *Backend) dropLog(l *live) {
	log := live{id: l.id, v: l.v, w: l.w, cache: l.cache}
	b.set(func() { l.v, l.w, l.disk, l.cache = nil, nil, nil, nil })
	log.abandon()
}

// settle brings a log to rest: what a writer that died left is closed, with what
// this node's journal has of it. InUse or Precondition if it is another node's.
func (b *Backend) settle(ctx context.Context, s *site, v repository.ObjectVolume, k keyring.Keys) error {
	atRest, err := s.atRest(ctx, v)
	if err != nil || atRest {
		return err
	}
	opened, err := b.openLog(ctx, s, v, k, forAMoment)
	if err != nil {
		return err
	}
	return b.closeLog(ctx, &live{id: v.ID, v: opened, keys: k})
}

// settleLeft settles a volume of which there is a journal here.
func (b *Backend) settleLeft(ctx context.Context, id volume.ID) error {
	s, err := b.site(ctx)
	if err != nil {
		return err
	}
	record, err := s.Repository.ObjectVolumes.Latest(ctx, string(id))
	if err != nil {
		return err
	}
	switch v := record.Value; v.State {
	case repository.Ready:
		var k keyring.Keys
		if v.Keys.Encrypted() {
			if k, err = b.keptKeys(id); err != nil {
				return err
			}
		}
		opened, err := b.openLog(ctx, s, v, k, forAMoment)
		if fault.Is(err, fault.InUse) || fault.Is(err, fault.Fenced) {
			klog.FromContext(ctx).Error(err, "Volume goes on elsewhere; what this node had not uploaded stays in its journal", "volumeID", id, "journal", b.journal(id))
			return nil
		}
		if err != nil {
			return err
		}
		return b.closeLog(ctx, &live{id: id, v: opened, keys: k})
	case repository.Deleting, repository.Ended:
		return b.dropFiles(id)
	}
	return nil
}

// dropFiles removes what this node keeps of a volume that was deleted.
func (b *Backend) dropFiles(id volume.ID) error {
	return errors.Join(removeFile(b.journal(id)), removeFile(b.notePath(id)), removeFile(b.cachePath(id)), b.dropKeys(id))
}

// thawLeft lets a volume's filesystem go on that an earlier process may have left
// frozen, once its device is served again.
func (b *Backend) thawLeft(ctx context.Context, id volume.ID, device string) {
	if !exists(b.frozen(id)) {
		return
	}
	thawed, err := freeze.Leftover(ctx, id, device, func() (volume.Filesystem, error) {
		v, err := b.lookUp(ctx, id)
		return v.Filesystem.Type, err
	})
	if thawed && err == nil {
		err = b.unfrozen(id)
	}
	if err != nil {
		klog.FromContext(ctx).Error(err, "Filesystem may have been left frozen", "volumeID", id, "device", device)
	}
}
