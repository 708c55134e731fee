package chaos

import (
	"context"
	"errors"
	"fmt"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// action is one thing to do to the volume of a slot.
type action struct {
	name string
	do   func(slot int) error
}

// choose picks one of the actions that a slot's state allows.
func (w *worker) choose(slot int) action {
	o := w.volumes[slot]
	if o == nil {
		return w.pick(
			action{"create", w.create}, action{"create", w.create},
			action{"race two sizes", w.raceSizes}, action{"abandon a create", w.abandonCreate},
		)
	}
	all := []action{
		{"snapshot", w.snapshot}, {"clone", w.clone}, {"expand", w.expand}, {"modify", w.modify}, {"list", w.list},
		{"abandon a snapshot", w.abandonSnapshot}, {"race expand and snapshot", w.raceExpandSnapshot},
	}
	if w.volumes[1-slot] != nil {
		all = append(all, action{"group", w.group}, action{"group", w.group})
	}
	if len(o.snapshots) > 0 {
		all = append(all, action{"restore", w.restoreOne}, action{"delete a snapshot", w.deleteOne}, action{"race restore and delete", w.raceRestore})
	}
	if o.mounted != nil {
		return w.pick(append(all, action{"unmount", w.unmount}, action{"unmount", w.unmount}, action{"count", func(int) error { return count(o) }})...)
	}
	return w.pick(append(all,
		action{"mount", w.mount}, action{"mount", w.mount}, action{"mount", w.mount}, action{"delete", w.delete},
		action{"race delete and publish", w.racePublish}, action{"race delete and snapshot", w.raceSnapshot},
		action{"race delete and clone", w.raceClone}, action{"race delete and expand", w.raceExpand},
	)...)
}

func (w *worker) pick(all ...action) action { return all[w.random.IntN(len(all))] }

// during makes a call while mounted volumes are counted in.
func during(call func() error, volumes ...*owned) error {
	var writing []*owned
	for _, o := range volumes {
		if o.mounted != nil {
			writing = append(writing, o)
		}
	}
	if len(writing) < len(volumes) {
		writing = nil
	}
	return counting(writing, call)
}

func (w *worker) cutting(o *owned, name string) func(context.Context, site.Clients) (*csi.CreateSnapshotResponse, error) {
	return func(ctx context.Context, c site.Clients) (*csi.CreateSnapshotResponse, error) {
		return c.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: o.id()})
	}
}

func (w *worker) snapshot(slot int) error {
	o, s := w.volumes[slot], &cut{}
	s.least = o.counter
	err := during(func() error {
		reply, err := answer(w.caller, "snapshot", w.cutting(o, w.unique("snapshot")))
		s.reply = reply.GetSnapshot()
		return err
	}, o)
	s.most = o.counter + 1
	if err == nil {
		o.snapshots = append(o.snapshots, s)
	}
	return err
}

// restore makes a volume from a snapshot, looks into it, and deletes it.
func (w *worker) restore(s *cut) error {
	r := lab.VolumeRequest(w.unique("restored"), 0, site.Filesystem("ext4"))
	r.CapacityRange, r.VolumeContentSource = nil, lab.FromSnapshot(s.reply.SnapshotId)
	return w.look(r, "snapshot "+s.reply.SnapshotId, s.least, s.most)
}

// look creates a volume, sees what it holds, and deletes it.
func (w *worker) look(r *csi.CreateVolumeRequest, what string, least, most uint64) error {
	v, err := w.createVolume(r)
	if err != nil {
		return err
	}
	return w.lookAt(v, r.Name, what, least, most)
}

func (w *worker) lookAt(v *csi.Volume, name, what string, least, most uint64) error {
	m := w.world.At(v, site.Filesystem("ext4"), name)
	if err := w.mountAt(m); err != nil {
		return err
	}
	got, err := counterAt(m)
	if err == nil && (got < least || got > most) {
		err = fmt.Errorf("%s holds %d, want %d to %d", what, got, least, most)
	}
	return errors.Join(err, w.unmountAt(m), w.deleteVolume(v.VolumeId))
}

func (w *worker) anySnapshot(o *owned) *cut { return o.snapshots[w.random.IntN(len(o.snapshots))] }

func (w *worker) restoreOne(slot int) error { return w.restore(w.anySnapshot(w.volumes[slot])) }

func (w *worker) deleteOne(slot int) error {
	o := w.volumes[slot]
	s := w.anySnapshot(o)
	o.forget(s)
	return w.deleteSnapshot(s)
}

func (o *owned) forget(s *cut) {
	for i, other := range o.snapshots {
		if other == s {
			o.snapshots = append(o.snapshots[:i:i], o.snapshots[i+1:]...)
			return
		}
	}
}

func (w *worker) deleteSnapshot(s *cut) error {
	if err := w.must("delete snapshot", deletingSnapshot(s.reply.SnapshotId)); err != nil {
		return err
	}
	return w.refused("get deleted snapshot", codes.NotFound, func(ctx context.Context, c site.Clients) error {
		_, err := c.GetSnapshot(ctx, &csi.GetSnapshotRequest{SnapshotId: s.reply.SnapshotId})
		return err
	})
}

func deletingSnapshot(id string) do {
	return func(ctx context.Context, c site.Clients) error {
		_, err := c.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: id})
		return err
	}
}

func (w *worker) clone(slot int) error {
	o := w.volumes[slot]
	r := lab.VolumeRequest(w.unique("clone"), 0, site.Filesystem("ext4"))
	r.CapacityRange, r.VolumeContentSource = nil, lab.FromVolume(o.id())
	var v *csi.Volume
	least := o.counter
	err := during(func() (err error) { v, err = w.createVolume(r); return err }, o)
	if err != nil {
		return err
	}
	return w.lookAt(v, r.Name, "clone of "+o.id(), least, o.counter+1)
}

// growing grows a volume by a little; how much it has then is never less.
func growing(o *owned) (want int64, call do) {
	want = o.reply.CapacityBytes + lab.MiB
	return want, func(ctx context.Context, c site.Clients) error {
		reply, err := c.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: o.id(), CapacityRange: &csi.CapacityRange{RequiredBytes: want}})
		if err == nil && reply.CapacityBytes != want {
			err = fmt.Errorf("grown to %d, want %d", reply.CapacityBytes, want)
		}
		return err
	}
}

func (w *worker) expand(slot int) error {
	o := w.volumes[slot]
	if o.reply.CapacityBytes > 2*size {
		return nil
	}
	want, call := growing(o)
	if err := w.must("expand", call); err != nil {
		return err
	}
	o.reply.CapacityBytes = want
	return w.same(o)
}

// same sees that both controllers tell of a volume what is known of it.
func (w *worker) same(o *owned) error {
	return sameReply(w.caller, "get volume", o.reply.String(), func(ctx context.Context, c site.Clients) (*csi.Volume, error) {
		reply, err := c.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: o.id()})
		return reply.GetVolume(), err
	})
}

func (w *worker) modify(slot int) error {
	o := w.volumes[slot]
	pause := fmt.Sprintf("%dms", 1000+w.random.IntN(1000))
	return w.must("modify", func(ctx context.Context, c site.Clients) error {
		_, err := c.ControllerModifyVolume(ctx, &csi.ControllerModifyVolumeRequest{VolumeId: o.id(), MutableParameters: map[string]string{volume.ParamMaxSnapshotPause: pause}})
		return err
	})
}

// list sees that every page together has each acknowledged volume once.
func (w *worker) list(int) error {
	seen := map[string]int{}
	for token := ""; ; {
		var page *csi.ListVolumesResponse
		err := w.must("list", func(ctx context.Context, c site.Clients) (err error) {
			page, err = c.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: 3, StartingToken: token})
			return err
		})
		if err != nil {
			return err
		}
		for _, e := range page.Entries {
			seen[e.Volume.VolumeId]++
		}
		if token = page.NextToken; token == "" {
			break
		}
	}
	for _, o := range w.volumes {
		if o != nil && seen[o.id()] != 1 {
			return fmt.Errorf("volume %s is listed %d times", o.id(), seen[o.id()])
		}
	}
	return nil
}

// group snapshots both volumes while they are counted in, one after the other.
func (w *worker) group(int) error {
	a, b := w.volumes[0], w.volumes[1]
	aligned := a.mounted != nil && b.mounted != nil
	first := [2]uint64{a.counter, b.counter}
	r := &csi.CreateVolumeGroupSnapshotRequest{Name: w.unique("group"), SourceVolumeIds: []string{a.id(), b.id()}}
	var g *csi.VolumeGroupSnapshot
	err := during(func() error {
		reply, err := answer(w.caller, "group", func(ctx context.Context, c site.Clients) (*csi.CreateVolumeGroupSnapshotResponse, error) {
			return c.CreateVolumeGroupSnapshot(ctx, r)
		})
		g = reply.GetGroupSnapshot()
		return err
	}, a, b)
	if err != nil {
		return err
	}
	var held [2]uint64
	var ids []string
	for _, s := range g.Snapshots {
		ids = append(ids, s.SnapshotId)
		at := 0
		if s.SourceVolumeId == b.id() {
			at = 1
		}
		if held[at], err = w.counterOf(s); err != nil {
			return err
		}
	}
	if len(ids) != 2 {
		return fmt.Errorf("group of two volumes with members %v", g.Snapshots)
	}
	grown := [2]uint64{held[0] - first[0], held[1] - first[1]} // rounds since it began
	if grown[0] != grown[1] && grown[0] != grown[1]+1 {
		return fmt.Errorf("group holds %v, counted from %v (written while it was cut: %t): not a moment between two writes", held, first, aligned)
	}
	return w.must("delete group", func(ctx context.Context, c site.Clients) error {
		_, err := c.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId, SnapshotIds: ids})
		return err
	})
}

// counterOf reads a snapshot's counter by way of a volume.
func (w *worker) counterOf(s *csi.Snapshot) (uint64, error) {
	r := lab.VolumeRequest(w.unique("member"), 0, site.Filesystem("ext4"))
	r.CapacityRange, r.VolumeContentSource = nil, lab.FromSnapshot(s.SnapshotId)
	v, err := w.createVolume(r)
	if err != nil {
		return 0, err
	}
	m := w.world.At(v, site.Filesystem("ext4"), r.Name)
	if err := w.mountAt(m); err != nil {
		return 0, err
	}
	got, err := counterAt(m)
	return got, errors.Join(err, w.unmountAt(m), w.deleteVolume(v.VolumeId))
}

func (w *worker) abandonCreate(int) error {
	r := lab.VolumeRequest(w.unique("abandoned"), size, site.Filesystem("ext4"))
	w.giveUp(func(ctx context.Context, c site.Clients) error { _, err := c.CreateVolume(ctx, r); return err })
	return nil
}

func (w *worker) abandonSnapshot(slot int) error {
	o := w.volumes[slot]
	if other := w.volumes[1-slot]; other != nil && w.random.IntN(2) == 0 {
		r := &csi.CreateVolumeGroupSnapshotRequest{Name: w.unique("abandoned"), SourceVolumeIds: []string{o.id(), other.id()}}
		w.giveUp(func(ctx context.Context, c site.Clients) error {
			_, err := c.CreateVolumeGroupSnapshot(ctx, r)
			return err
		})
		return nil
	}
	call := w.cutting(o, w.unique("abandoned"))
	w.giveUp(func(ctx context.Context, c site.Clients) error { _, err := call(ctx, c); return err })
	return nil
}
