package chaos

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// owned is a volume that was acknowledged to its worker.
type owned struct {
	name      string
	reply     *csi.Volume
	mounted   *site.Mounted // nil if it is not
	counter   uint64        // in its file, synced; 0 is no file
	snapshots []*cut
}

func (o *owned) id() string { return o.reply.VolumeId }

// cut is a snapshot that was acknowledged, with the bounds of its counter.
type cut struct {
	reply       *csi.Snapshot
	least, most uint64
}

// worker owns two names for volumes and does one thing after another to them.
type worker struct {
	caller
	number   int
	volumes  [2]*owned // nil while there is none
	made     int       // names made up
	answered int
}

func newWorker(w *world, number int) *worker {
	return &worker{caller: caller{w, w.random(uint64(number))}, number: number}
}

// work does random things until ctx ends. What it began it ends.
func (w *worker) work(ctx context.Context) error {
	for ctx.Err() == nil {
		slot := w.random.IntN(len(w.volumes))
		action := w.choose(slot)
		if err := action.do(slot); err != nil {
			return fmt.Errorf("worker %d, action %d, %s: %w", w.number, w.answered, action.name, err)
		}
		w.answered++
	}
	return nil
}

// unique makes up a name that was never used.
func (w *worker) unique(what string) string {
	w.made++
	return fmt.Sprintf("%s-%d-%d", what, w.number, w.made)
}

// create makes the volume of a slot. Its name comes back after deletions.
func (w *worker) create(slot int) error {
	name := fmt.Sprintf("volume-%d-%d", w.number, slot)
	reply, err := w.createVolume(lab.VolumeRequest(name, size, site.Filesystem("ext4")))
	w.volumes[slot] = &owned{name: name, reply: reply}
	return err
}

const size = 16 * lab.MiB

func (w *worker) createVolume(r *csi.CreateVolumeRequest) (*csi.Volume, error) {
	reply, err := answer(w.caller, "create volume "+r.Name, func(ctx context.Context, c site.Clients) (*csi.CreateVolumeResponse, error) {
		return c.CreateVolume(ctx, r)
	})
	return reply.GetVolume(), err
}

func (w *worker) mount(slot int) error {
	o := w.volumes[slot]
	o.mounted = w.world.At(o.reply, site.Filesystem("ext4"), o.name)
	if err := w.mountAt(o.mounted); err != nil {
		return err
	}
	return o.check(o.mounted)
}

func (w *worker) mountAt(m *site.Mounted) error {
	return w.must("mount "+m.Volume.VolumeId, func(ctx context.Context, c site.Clients) error { return c.Mount(ctx, w.world.Site, m) })
}

func (w *worker) unmountAt(m *site.Mounted) error {
	return w.must("unmount "+m.Volume.VolumeId, func(ctx context.Context, c site.Clients) error { return c.Unmount(ctx, w.world.Site, m) })
}

func (w *worker) unmount(slot int) error {
	o := w.volumes[slot]
	err := w.unmountAt(o.mounted)
	o.mounted = nil
	return err
}

// check holds a volume's content to its counter.
func (o *owned) check(m *site.Mounted) error {
	got, err := counterAt(m)
	if err == nil && got != o.counter {
		err = fmt.Errorf("volume %s holds %d, want %d", o.id(), got, o.counter)
	}
	return err
}

func counterAt(m *site.Mounted) (uint64, error) {
	body, err := os.ReadFile(filepath.Join(m.Target, "counter"))
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err == nil && len(body) != 8 {
		err = fmt.Errorf("%d bytes in the counter's file, want 8", len(body))
	}
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint64(body), nil
}

// count writes the next number into mounted volumes, each synced before the next.
func count(all ...*owned) error {
	for _, o := range all {
		f, err := os.OpenFile(filepath.Join(o.mounted.Target, "counter"), os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			return err
		}
		_, err = f.WriteAt(binary.BigEndian.AppendUint64(nil, o.counter+1), 0)
		if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
			return err
		}
		o.counter++
	}
	return nil
}

// counting counts in mounted volumes for as long as a call takes.
func counting(all []*owned, call func() error) error {
	done := make(chan struct{})
	counted := make(chan error, 1)
	go func() {
		for {
			select {
			case <-done:
				counted <- nil
				return
			default:
			}
			if err := count(all...); err != nil {
				counted <- err
				return
			}
		}
	}()
	err := call()
	close(done)
	return errors.Join(err, <-counted)
}

// delete deletes an unmounted volume, and sees that it is gone.
func (w *worker) delete(slot int) error {
	o := w.volumes[slot]
	if err := w.deleteVolume(o.id()); err != nil {
		return err
	}
	return w.gone(slot)
}

func (w *worker) deleteVolume(id string) error { return w.must("delete volume "+id, deleting(id)) }

func deleting(id string) do {
	return func(ctx context.Context, c site.Clients) error {
		_, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	}
}

// gone sees that a volume is gone; its snapshots live on.
func (w *worker) gone(slot int) error {
	o := w.volumes[slot]
	w.volumes[slot] = nil
	err := w.refused("get deleted volume "+o.id(), codes.NotFound, func(ctx context.Context, c site.Clients) error {
		_, err := c.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: o.id()})
		return err
	})
	for _, s := range o.snapshots {
		err = errors.Join(err, w.restore(s), w.deleteSnapshot(s))
	}
	return err
}

// finish holds everything that is left to its promises, and takes it away.
func (w *worker) finish() error {
	for slot, o := range w.volumes {
		if o == nil {
			continue
		}
		if o.mounted == nil {
			if err := w.mount(slot); err != nil {
				return err
			}
		}
		if err := errors.Join(o.check(o.mounted), w.unmount(slot), w.delete(slot)); err != nil {
			return fmt.Errorf("worker %d in the end: %w", w.number, err)
		}
	}
	return nil
}
