package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// racePublish deletes a volume and publishes it at once: exactly one succeeds.
func (w *worker) racePublish(slot int) error {
	o := w.volumes[slot]
	deleted, published := w.race("delete and publish", deleting(o.id()), func(ctx context.Context, c site.Clients) error {
		_, err := c.ControllerPublishVolume(ctx, &csi.ControllerPublishVolumeRequest{VolumeId: o.id(), NodeId: string(w.world.Node), VolumeCapability: site.Filesystem("ext4")})
		return err
	})
	switch {
	case deleted == nil && status.Code(published) == codes.NotFound:
		return w.gone(slot)
	case status.Code(deleted) == codes.FailedPrecondition && published == nil:
		return w.must("unpublish", func(ctx context.Context, c site.Clients) error {
			_, err := c.ControllerUnpublishVolume(ctx, &csi.ControllerUnpublishVolumeRequest{VolumeId: o.id(), NodeId: string(w.world.Node)})
			return err
		})
	}
	return fmt.Errorf("deleted: %v; published: %v", deleted, published)
}

// raceSnapshot deletes a volume and snapshots it at once: a snapshot that was
// acknowledged lives on.
func (w *worker) raceSnapshot(slot int) error {
	o, call := w.volumes[slot], w.cutting(w.volumes[slot], w.unique("snapshot"))
	s := &cut{least: o.counter, most: o.counter}
	deleted, err := w.race("delete and snapshot", deleting(o.id()), func(ctx context.Context, c site.Clients) error {
		reply, err := call(ctx, c)
		s.reply = reply.GetSnapshot()
		return err
	})
	if err == nil {
		o.snapshots = append(o.snapshots, s)
	}
	if err := errors.Join(oneOf("delete", deleted, codes.OK), oneOf("snapshot", err, codes.OK, codes.NotFound)); err != nil {
		return err
	}
	return w.gone(slot)
}

// raceClone deletes a volume and clones it at once: a clone that was
// acknowledged has all of it.
func (w *worker) raceClone(slot int) error {
	o := w.volumes[slot]
	r := lab.VolumeRequest(w.unique("clone"), 0, site.Filesystem("ext4"))
	r.CapacityRange, r.VolumeContentSource = nil, lab.FromVolume(o.id())
	v, deleted, cloned := w.raceCreate("delete and clone", deleting(o.id()), r)
	if err := errors.Join(oneOf("delete", deleted, codes.OK), oneOf("clone", cloned, codes.OK, codes.NotFound)); err != nil {
		return err
	}
	if cloned == nil {
		if err := w.lookAt(v, r.Name, "clone of "+o.id(), o.counter, o.counter); err != nil {
			return err
		}
	}
	return w.gone(slot)
}

func (w *worker) raceCreate(what string, other do, r *csi.CreateVolumeRequest) (v *csi.Volume, first, created error) {
	first, created = w.race(what, other, func(ctx context.Context, c site.Clients) error {
		reply, err := c.CreateVolume(ctx, r)
		v = reply.GetVolume()
		return err
	})
	return v, first, created
}

// raceRestore deletes a snapshot and restores it at once.
func (w *worker) raceRestore(slot int) error {
	o := w.volumes[slot]
	s := w.anySnapshot(o)
	o.forget(s)
	r := lab.VolumeRequest(w.unique("restored"), 0, site.Filesystem("ext4"))
	r.CapacityRange, r.VolumeContentSource = nil, lab.FromSnapshot(s.reply.SnapshotId)
	v, deleted, restored := w.raceCreate("delete and restore", deletingSnapshot(s.reply.SnapshotId), r)
	if err := errors.Join(oneOf("delete", deleted, codes.OK), oneOf("restore", restored, codes.OK, codes.NotFound)); err != nil {
		return err
	}
	if restored == nil {
		if err := w.lookAt(v, r.Name, "snapshot "+s.reply.SnapshotId, s.least, s.most); err != nil {
			return err
		}
	}
	return w.deleteSnapshot(s)
}

// raceExpand deletes a volume and grows it at once.
func (w *worker) raceExpand(slot int) error {
	_, call := growing(w.volumes[slot])
	deleted, grown := w.race("delete and expand", deleting(w.volumes[slot].id()), call)
	if err := errors.Join(oneOf("delete", deleted, codes.OK), oneOf("expand", grown, codes.OK, codes.NotFound)); err != nil {
		return err
	}
	return w.gone(slot)
}

// raceExpandSnapshot grows a volume and snapshots it at once: the snapshot has
// the one size or the other.
func (w *worker) raceExpandSnapshot(slot int) error {
	o := w.volumes[slot]
	if o.reply.CapacityBytes > 2*size {
		return nil
	}
	want, grow := growing(o)
	call := w.cutting(o, w.unique("snapshot"))
	s := &cut{least: o.counter, most: o.counter}
	grown, err := w.race("expand and snapshot", grow, func(ctx context.Context, c site.Clients) error {
		reply, err := call(ctx, c)
		s.reply = reply.GetSnapshot()
		return err
	})
	if err := errors.Join(grown, err); err != nil {
		return err
	}
	if got := s.reply.SizeBytes; got != want && got != o.reply.CapacityBytes {
		return fmt.Errorf("the snapshot has %d bytes, the volume had %d and then %d", got, o.reply.CapacityBytes, want)
	}
	o.reply.CapacityBytes = want
	o.snapshots = append(o.snapshots, s)
	return w.same(o)
}

// raceSizes creates one name with two sizes at once: one of them is refused.
func (w *worker) raceSizes(slot int) error {
	name := fmt.Sprintf("volume-%d-%d", w.number, slot)
	sized := func(sizeBytes int64) *csi.CreateVolumeRequest {
		r := lab.VolumeRequest(name, sizeBytes, site.Filesystem("ext4"))
		r.CapacityRange.LimitBytes = sizeBytes
		return r
	}
	var small *csi.Volume
	large, first, second := w.raceCreate("two sizes", func(ctx context.Context, c site.Clients) error {
		reply, err := c.CreateVolume(ctx, sized(size))
		small = reply.GetVolume()
		return err
	}, sized(size+lab.MiB))
	switch {
	case first == nil && status.Code(second) == codes.AlreadyExists:
		w.volumes[slot] = &owned{name: name, reply: small}
	case second == nil && status.Code(first) == codes.AlreadyExists:
		w.volumes[slot] = &owned{name: name, reply: large}
	default:
		return fmt.Errorf("%d bytes: %v; %d bytes: %v", size, first, size+lab.MiB, second)
	}
	return w.same(w.volumes[slot])
}
