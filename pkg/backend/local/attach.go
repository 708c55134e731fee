package local

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"sync"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// devices keeps the number of attached volumes below its limit.
type devices struct {
	mu sync.Mutex // held from the count to the attach that it lets through
}

// Attach implements backend.Backend.
func (b *Backend) Attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	d, err := b.attach(ctx, r)
	return d, fault.Wrap(err, "attach volume", string(r.ID))
}

func (b *Backend) attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	unlock, err := b.lockVolumes(ctx, []volume.ID{r.ID}, "attaching it")
	if err != nil {
		return backend.Device{}, err
	}
	defer unlock()
	p, err := b.findVolume(ctx, r.ID)
	if err != nil {
		return backend.Device{}, err
	}
	device, found, err := b.device(ctx, p.layout, r.ID)
	if err != nil {
		return backend.Device{}, err
	}
	switch {
	case !found:
		if device, err = b.attachNew(ctx, p, r.ReadOnly); err != nil {
			return backend.Device{}, err
		}
	case device.SizeBytes < p.record.SizeBytes: // an expansion came to its end before it could say so
		if err := b.options.Attacher.Resize(ctx, p.medium.disk(p.dir)); err != nil {
			return backend.Device{}, err
		}
		device.SizeBytes = p.record.SizeBytes
	}
	if device.ReadOnly != r.ReadOnly {
		return backend.Device{}, fault.New(fault.InUse, "it is attached as %s with read-only %t: want read-only %t: detach it first", device.Path, device.ReadOnly, r.ReadOnly)
	}
	return backend.Device{Path: device.Path, SizeBytes: device.SizeBytes, ReadOnly: device.ReadOnly, Filesystem: p.record.Filesystem}, nil
}

func (b *Backend) attachNew(ctx context.Context, p place[record.Volume], readOnly bool) (blockdev.Device, error) {
	if !readOnly {
		if err := p.writable(); err != nil {
			return blockdev.Device{}, err
		}
	}
	if err := wholeDisk(p); err != nil {
		return blockdev.Device{}, err
	}
	done, err := b.countDevice(ctx)
	if err != nil {
		return blockdev.Device{}, err
	}
	defer done()
	thin := p.record.Class.Provisioning == volume.Thin
	return b.options.Attacher.Attach(ctx, p.medium.disk(p.dir), blockdev.Options{ReadOnly: readOnly, Discard: thin})
}

// wholeDisk reports a disk that is missing or too short, as Corrupt.
func wholeDisk(p place[record.Volume]) error {
	path := p.medium.disk(p.dir)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fault.New(fault.Corrupt, "%s is missing: its data is lost, unless the file turns up", path)
	case err != nil:
		return p.wrap(err)
	case info.Size() < p.record.SizeBytes:
		return fault.New(fault.Corrupt, "%s has %d bytes: want %d: what was beyond is lost", path, info.Size(), p.record.SizeBytes)
	}
	return nil
}

// countDevice sees that one more device keeps to the limit, and keeps others
// from being counted until done is called: a device that is being attached would
// be counted twice, or not at all.
func (b *Backend) countDevice(ctx context.Context) (done func(), err error) {
	if b.options.MaxVolumes == 0 {
		return func() {}, nil
	}
	b.devices.mu.Lock()
	defer func() {
		if err != nil {
			b.devices.mu.Unlock()
		}
	}()
	attached := 0
	for _, p := range b.pools {
		found, err := b.options.Attacher.Find(ctx, layout(p.config.resolved()).folder("volumes"))
		if err != nil {
			return nil, err
		}
		attached += len(found)
	}
	if attached >= b.options.MaxVolumes {
		return nil, fault.New(fault.Exhausted, "%d volumes are attached to this node: want fewer than maxVolumes, %d", attached, b.options.MaxVolumes)
	}
	return b.devices.mu.Unlock, nil
}

// Detach implements backend.Backend. It needs no record, so that it also works
// where the volume's pool is away.
func (b *Backend) Detach(ctx context.Context, id volume.ID) error {
	if _, err := volume.ParseID(string(id)); err != nil {
		return nil // no such volume can exist, nor be attached
	}
	unlock, err := b.lockVolumes(ctx, []volume.ID{id}, "detaching it")
	if err == nil {
		defer unlock()
		for _, p := range b.pools {
			err = errors.Join(err, b.detach(ctx, layout(p.config.resolved()), id))
		}
	}
	return fault.Wrap(err, "detach volume", string(id))
}

// detach takes away the device of a volume in one pool.
func (b *Backend) detach(ctx context.Context, l layout, id volume.ID) error {
	found, err := b.options.Attacher.Find(ctx, l.volume(id))
	for backing := range found {
		err = errors.Join(err, b.options.Attacher.Detach(ctx, backing))
	}
	return err
}

// device finds the device that a volume has.
func (b *Backend) device(ctx context.Context, l layout, id volume.ID) (d blockdev.Device, found bool, err error) {
	devices, err := b.options.Attacher.Find(ctx, l.volume(id))
	if err != nil {
		return blockdev.Device{}, false, err
	}
	for _, d := range devices {
		return d, true, nil
	}
	return blockdev.Device{}, false, nil
}
