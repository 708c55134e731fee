package local

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"maps"
	"os"
	"slices"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Volume implements backend.Backend.
func (b *Backend) Volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	p, err := b.findVolume(ctx, id)
	if err != nil {
		return backend.Volume{}, fault.Wrap(err, "look up volume", string(id))
	}
	v, err := b.replyWithDevice(ctx, p)
	return v, fault.Wrap(err, "look up volume", string(id))
}

// Volumes implements backend.Backend. What cannot be read comes last, as one
// error, so that it hides none of the others. A volume that is deleted meanwhile
// may be left out.
func (b *Backend) Volumes(ctx context.Context) iter.Seq2[backend.Volume, error] {
	return func(yield func(backend.Volume, error) bool) {
		open, away := b.stores(ctx)
		devices, err := b.devicesOf(ctx, open)
		ids, idsErr := volumeIDs(open)
		faults := []error{away, err, idsErr}
		for _, id := range ids {
			if err := ctx.Err(); err != nil {
				faults = append(faults, err)
				break
			}
			p, err := b.findVolume(ctx, id)
			if err == nil && !yield(reply(p, devices[p.medium.disk(p.dir)].Path), nil) {
				return
			}
			if err != nil && !fault.Is(err, fault.NotFound) && !gone(err, away) {
				faults = append(faults, err)
			}
		}
		faults = slices.DeleteFunc(faults, func(err error) bool { return err == nil })
		if len(faults) > 0 {
			err := fault.As(fault.KindOf(faults[0]), errors.Join(faults...))
			yield(backend.Volume{}, fault.Wrap(err, "list volumes", ""))
		}
	}
}

// gone reports an error that says no more than that a pool is away.
func gone(err, away error) bool { return away != nil && fault.Is(err, fault.Transient) }

// devicesOf returns the devices of all volumes in these pools.
func (b *Backend) devicesOf(ctx context.Context, open []*store) (map[string]blockdev.Device, error) {
	all := map[string]blockdev.Device{}
	for _, s := range open {
		found, err := b.options.Attacher.Find(ctx, s.folder("volumes"))
		if err != nil {
			return nil, err
		}
		maps.Copy(all, found)
	}
	return all, nil
}

// volumeIDs returns the volumes of all these pools, ascending.
func volumeIDs(open []*store) (ids []volume.ID, err error) {
	for _, s := range open {
		found, e := s.ids("volumes")
		err = errors.Join(err, e)
		for _, name := range found {
			if id, e := volume.ParseID(name); e == nil {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// ids returns the names in one of a pool's folders. A name that is no id, such
// as what a file manager leaves, is for the caller to pass over.
func (s *store) ids(folder string) ([]string, error) {
	entries, err := os.ReadDir(s.folder(folder))
	if errors.Is(err, fs.ErrNotExist) {
		err = fault.New(fault.Transient, "%w", err)
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, s.wrap(err)
}

// replyWithDevice renders a volume with the device that it has.
func (b *Backend) replyWithDevice(ctx context.Context, p place[record.Volume]) (backend.Volume, error) {
	d, _, err := b.device(ctx, p.layout, p.record.ID)
	if err != nil {
		return backend.Volume{}, err
	}
	return reply(p, d.Path), nil
}

// accountOf is what a volume owes at most.
func accountOf(p place[record.Volume]) account {
	r := p.record
	return account{dir: p.dir, size: r.SizeBytes, thick: r.Class.Provisioning == volume.Thick, owed: r.SizeBytes}
}
