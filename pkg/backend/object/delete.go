package object

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog/claim"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

// DeleteVolume implements backend.Backend. Nobody writes to it any more when it
// returns; its data goes after the grace period, but for what its snapshots and
// clones need.
func (b *Backend) DeleteVolume(ctx context.Context, id volume.ID) error {
	return fault.Wrap(b.deleteVolume(ctx, id), "delete volume", string(id))
}

func (b *Backend) deleteVolume(ctx context.Context, id volume.ID) error {
	if _, err := volume.ParseID(string(id)); err != nil {
		return nil // no such volume can exist
	}
	s, err := b.site(ctx)
	if err != nil {
		return err
	}
	unlock, err := b.lock(ctx, id, "deleting it")
	if err != nil {
		return err
	}
	defer unlock()
	record, err := b.leaving(ctx, s, id)
	if err != nil {
		return err
	}
	if record.Value.State == repository.Ended {
		return b.dropFiles(id)
	}
	if err := b.discard(ctx, s, record.Value); err != nil {
		return err
	}
	v := record.Value
	v.State, v.Changed = repository.Ended, b.now()
	if _, err := s.Repository.ObjectVolumes.Append(ctx, string(id), record, v); err != nil && !fault.Is(err, fault.Busy) {
		return err
	}
	crashpoint.Here("object: volume ended")
	klog.FromContext(ctx).V(2).Info("Volume is deleted; its data goes later", "volumeID", id, "log", v.Log)
	return b.dropFiles(id)
}

// leaving takes the volume's device away and records that it goes. A volume that
// never was ends at once, so that it never comes to be.
func (b *Backend) leaving(ctx context.Context, s *site, id volume.ID) (volumeRecord, error) {
	ledger := s.Repository.ObjectVolumes
	for {
		r, err := ledger.Latest(ctx, string(id))
		if err != nil && !fault.Is(err, fault.NotFound) {
			return r, err
		}
		if r.Value.State == repository.Ended {
			return r, nil
		}
		if err := b.letGo(ctx, id); err != nil {
			return r, err
		}
		if r.Value.State == repository.Deleting {
			return r, nil
		}
		next := r.Value
		next.ID, next.State, next.Changed = id, repository.Deleting, b.now()
		if r.Number == 0 {
			next.State = repository.Ended
		}
		r, err = ledger.Append(ctx, string(id), r, next)
		if err == nil {
			crashpoint.Here("object: volume leaving")
		}
		if !fault.Is(err, fault.Busy) {
			return r, err
		}
	}
}

// letGo takes away the device of a volume that is to be deleted. InUse.
func (b *Backend) letGo(ctx context.Context, id volume.ID) error {
	l := b.live(id)
	if l == nil {
		return nil
	}
	if l.device.Path != "" {
		if err := b.options.Devices.Detach(ctx, id); err != nil {
			return err
		}
	}
	b.setLive(id, nil)
	l.abandon()
	return nil
}

// discard ends what a volume has: no writer goes on, and its data may go.
func (b *Backend) discard(ctx context.Context, s *site, v repository.ObjectVolume) error {
	log, err := logOf(v)
	if err != nil {
		return err
	}
	claimed := true
	if v.Origin.Internal {
		_, err := s.Repository.ObjectSnapshots.Latest(ctx, string(v.Origin.Snapshot))
		claimed = !fault.Is(err, fault.NotFound) // one that was never begun was never claimed
		if err := b.deleteSnapshot(ctx, s, v.Origin.Snapshot); err != nil {
			return err
		}
	}
	l := epoch.Log{Store: s.Store, ID: log}
	if _, err := l.Base(ctx); fault.Is(err, fault.NotFound) {
		if !claimed {
			return nil
		}
		return s.releaseOrigin(ctx, v) // the log was never made
	}
	if err := b.fence(ctx, s, l); err != nil {
		if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
			return err
		}
		klog.FromContext(ctx).Error(err, "Deleted volume's log cannot be read", "volumeID", v.ID, "log", v.Log)
	}
	crashpoint.Here("object: volume fenced")
	err = b.trash(ctx, s, claim.Subject(v.Log))
	crashpoint.Here("object: volume in the trash")
	return err
}

// fence claims an epoch that stays the last one: no writer goes on after it.
func (b *Backend) fence(ctx context.Context, s *site, l epoch.Log) error {
	newest, err := l.Newest(ctx)
	if err == nil && newest.Purpose == epoch.Ending {
		return nil
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	_, _, err = l.Open(ctx, epoch.OpenOptions{
		Owner: string(b.options.Node), Purpose: epoch.Ending, Promise: epoch.NoPromise, Now: b.options.Now,
		Start:  func(ctx context.Context) (epoch.Start, error) { return s.start(ctx, l.ID) },
		Decide: func(context.Context, epoch.Survey) error { return nil },
	})
	return err
}
