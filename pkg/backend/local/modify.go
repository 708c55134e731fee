package local

import (
	"context"
	"errors"
	"os"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// change locks and finds a volume, lets do change it, and answers with what it
// has become. do returns the new record.
func (b *Backend) change(ctx context.Context, id volume.ID, what string, do func(place[record.Volume]) (record.Volume, error)) (backend.Volume, error) {
	unlock, err := b.lockVolumes(ctx, []volume.ID{id}, what)
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	p, err := b.findVolume(ctx, id)
	if err != nil {
		return backend.Volume{}, err
	}
	p.space.ensure(id, accountOf(p))
	if err := p.writable(); err != nil {
		return backend.Volume{}, err
	}
	changed, err := do(p)
	if err != nil {
		return backend.Volume{}, p.wrap(err)
	}
	p.record = changed
	return b.replyWithDevice(ctx, p)
}

// ExpandVolume implements backend.Backend.
func (b *Backend) ExpandVolume(ctx context.Context, id volume.ID, sizeBytes int64) (backend.Volume, error) {
	v, err := b.change(ctx, id, "expanding it", func(p place[record.Volume]) (record.Volume, error) {
		r, err := b.expand(p, sizeBytes)
		if err != nil {
			return r, err
		}
		// Also when nothing changed: an earlier try may have ended before this.
		if err := b.options.Attacher.Resize(ctx, p.medium.disk(p.dir)); err != nil && !fault.Is(err, fault.NotFound) {
			return r, err
		}
		return r, nil
	})
	return v, fault.Wrap(err, "expand volume", string(id))
}

func (b *Backend) expand(p place[record.Volume], sizeBytes int64) (record.Volume, error) {
	r := p.record
	if sizeBytes < 0 || sizeBytes%volume.SizeUnit != 0 {
		return r, fault.New(fault.Invalid, "size: %d bytes: want a multiple of %d", sizeBytes, volume.SizeUnit)
	}
	if sizeBytes > volume.MaximumBytes {
		return r, fault.New(fault.OutOfRange, "size: %d bytes: want at most %d", sizeBytes, volume.MaximumBytes)
	}
	if sizeBytes <= r.SizeBytes {
		return r, nil
	}
	if err := wholeDisk(p); err != nil {
		return r, err
	}
	more := sizeBytes - r.SizeBytes
	thick := r.Class.Provisioning == volume.Thick
	need := claim{thinOwed: more}
	if thick {
		need = claim{takes: more, thickSize: more}
	}
	release, err := p.space.reserve(need)
	if err != nil {
		return r, err
	}
	defer release()
	if err := extend(p, sizeBytes, thick); err != nil {
		return r, err
	}
	crashpoint.Here("local: disk extended")
	r.SizeBytes = sizeBytes
	if err := record.Write(meta(p.dir), r); err != nil {
		return r, err
	}
	p.space.grow(r.ID, more, need.thinOwed)
	crashpoint.Here("local: new size recorded")
	return r, nil
}

// extend makes a disk larger, or leaves it as it is.
func extend(p place[record.Volume], sizeBytes int64, thick bool) error {
	disk := p.medium.disk(p.dir)
	before, err := os.Stat(disk)
	if err != nil {
		return err
	}
	if !thick {
		return errors.Join(grow(disk, sizeBytes), syncFile(disk))
	}
	if err := preallocate(disk, p.record.SizeBytes, sizeBytes); err != nil {
		// Some of it may be there, on btrfs even inside the disk. No device had
		// seen it yet.
		return errors.Join(err, os.Truncate(disk, before.Size()))
	}
	return errors.Join(syncFile(disk), p.medium.settle())
}

// ModifyVolume implements backend.Backend.
func (b *Backend) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) (backend.Volume, error) {
	v, err := b.change(ctx, id, "modifying it", func(p place[record.Volume]) (record.Volume, error) {
		r := p.record
		class, err := r.Class.Apply(m)
		if err != nil || class == r.Class {
			return r, err
		}
		if p := class.Provisioning; p != volume.Thick && p != volume.Thin {
			return r, fault.New(fault.Invalid, "parameter %s: %q: want %q or %q", volume.ParamProvisioning, p, volume.Thick, volume.Thin)
		}
		if class.MaxSnapshotPause <= 0 {
			return r, fault.New(fault.Invalid, "parameter %s: %v: want a duration above 0", volume.ParamMaxSnapshotPause, class.MaxSnapshotPause)
		}
		if class.Provisioning != r.Class.Provisioning {
			return b.thicken(ctx, p, class)
		}
		r.Class = class
		return r, record.Write(meta(p.dir), r)
	})
	return v, fault.Wrap(err, "modify volume", string(id))
}

// thicken makes a thin volume thick while it is in use: it punches no more holes
// from now on, and those that it has are filled.
func (b *Backend) thicken(ctx context.Context, p place[record.Volume], class volume.Class) (record.Volume, error) {
	r := p.record
	if err := wholeDisk(p); err != nil {
		return r, err
	}
	if err := b.stopDiscards(ctx, p); err != nil {
		return r, err
	}
	disk := p.medium.disk(p.dir)
	release, err := p.space.thicken(r.ID, disk)
	if err != nil {
		return r, err
	}
	defer release()
	if err := preallocate(disk, 0, r.SizeBytes); err != nil {
		p.space.set(r.ID, accountOf(p), false)
		return r, err
	}
	if err := errors.Join(syncFile(disk), p.medium.settle()); err != nil {
		return r, err
	}
	crashpoint.Here("local: holes filled")
	r.Class = class
	return r, record.Write(meta(p.dir), r) // thick in its account, whatever became of the record
}

// stopDiscards lets no more discards through to a disk.
func (b *Backend) stopDiscards(ctx context.Context, p place[record.Volume]) error {
	d, attached, err := b.device(ctx, p.layout, p.record.ID)
	if err != nil || !attached {
		return err
	}
	_, err = b.options.Attacher.Attach(ctx, p.medium.disk(p.dir), blockdev.Options{ReadOnly: d.ReadOnly})
	return err
}

// RecordFilesystem implements backend.Backend.
func (b *Backend) RecordFilesystem(ctx context.Context, id volume.ID, f backend.Filesystem) error {
	_, err := b.change(ctx, id, "recording its filesystem", func(p place[record.Volume]) (record.Volume, error) {
		r := p.record
		if err := validateFilesystem(f); err != nil || r.Filesystem == f {
			return r, err
		}
		r.Filesystem = f
		return r, record.Write(meta(p.dir), r)
	})
	return fault.Wrap(err, "record filesystem of volume", string(id))
}

func validateFilesystem(f backend.Filesystem) error {
	switch f.State {
	case backend.NeverFormatted, backend.Formatting, backend.Formatted, backend.Cloned:
	default:
		return fault.New(fault.Invalid, "filesystem state: %q: want %q, %q, %q or %q", f.State, backend.NeverFormatted, backend.Formatting, backend.Formatted, backend.Cloned)
	}
	if f.Type == volume.NoFilesystem {
		if f.State != backend.NeverFormatted {
			return fault.New(fault.Invalid, "filesystem type: empty with state %q: want a type", f.State)
		}
		return nil
	}
	_, err := volume.ParseFilesystem(string(f.Type))
	return err
}
