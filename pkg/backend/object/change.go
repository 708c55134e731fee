package object

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// change changes the record of a volume, and then does what follows from it here.
func (b *Backend) change(ctx context.Context, id volume.ID, holder string, do func(repository.ObjectVolume) (repository.ObjectVolume, error)) (backend.Volume, error) {
	s, err := b.site(ctx)
	if err != nil {
		return backend.Volume{}, err
	}
	unlock, err := b.lock(ctx, id, holder)
	if err != nil {
		return backend.Volume{}, err
	}
	defer unlock()
	record, err := s.Repository.ObjectVolumes.Update(ctx, string(id), func(v repository.ObjectVolume) (repository.ObjectVolume, error) {
		if v.State != repository.Ready {
			return v, fault.New(fault.NotFound, "volume %s: it is %s", id, v.State)
		}
		before := v
		v, err := do(v)
		if err == nil && (v.SizeBytes != before.SizeBytes || v.Class != before.Class || v.Files != before.Files) {
			v.Changed = b.now()
		}
		return v, err
	})
	if err != nil {
		return backend.Volume{}, err
	}
	crashpoint.Here("object: volume changed")
	l := b.live(id)
	if l != nil && l.record.ID == id {
		b.set(func() { l.record = record.Value })
	}
	if l != nil && l.v != nil {
		l.v.Tune(tuning(record.Value.Class))
		if err := b.fit(ctx, l, record.Value); err != nil {
			return backend.Volume{}, err
		}
	}
	return b.reply(record.Value), nil
}

// ExpandVolume implements backend.Backend. The record comes first; a volume that is
// not open here grows when it is opened next.
func (b *Backend) ExpandVolume(ctx context.Context, id volume.ID, sizeBytes int64) (backend.Volume, error) {
	v, err := b.change(ctx, id, "expanding it", func(v repository.ObjectVolume) (repository.ObjectVolume, error) {
		switch {
		case sizeBytes < 0 || sizeBytes%volume.SizeUnit != 0:
			return v, fault.New(fault.Invalid, "size: %d bytes: want a multiple of %d", sizeBytes, volume.SizeUnit)
		case sizeBytes <= v.SizeBytes:
			return v, nil
		}
		if err := v.Class.CheckSize(sizeBytes); err != nil {
			return v, err
		}
		v.SizeBytes = sizeBytes
		return v, nil
	})
	return v, fault.Wrap(err, "expand volume", string(id))
}

// ModifyVolume implements backend.Backend. What a flush stands on, and what becomes
// of a lost node, change when the volume is attached next; the rest at once.
func (b *Backend) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) (backend.Volume, error) {
	v, err := b.change(ctx, id, "modifying it", func(v repository.ObjectVolume) (repository.ObjectVolume, error) {
		var err error
		v.Class, err = v.Class.Apply(m)
		return v, err
	})
	return v, fault.Wrap(err, "modify volume", string(id))
}

// RecordFilesystem implements backend.Backend.
func (b *Backend) RecordFilesystem(ctx context.Context, id volume.ID, f backend.Filesystem) error {
	_, err := b.change(ctx, id, "recording its filesystem", func(v repository.ObjectVolume) (repository.ObjectVolume, error) {
		if err := validateFilesystem(f); err != nil {
			return v, err
		}
		v.Files = f
		return v, nil
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
