package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/agent"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/demo/postgres"
	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Options of Run. A zero value is the default.
type Options struct {
	Pools      []volume.PoolType // one run on each, in this order; none: btrfs, xfs
	Filesystem string            // of the volumes; empty: ext4
	Scale      int               // of pgbench, in 100,000 accounts; 0: 20
	Load       time.Duration     // how long pgbench runs; 0: 15 s
	Dir        string            // where its files go; empty: site.Scratch
}

func (o *Options) defaults() {
	if len(o.Pools) == 0 {
		o.Pools = []volume.PoolType{volume.BtrfsPool, volume.XFSPool}
	}
	o.Filesystem = cmp.Or(o.Filesystem, string(volume.Ext4))
	o.Scale = cmp.Or(o.Scale, 20)
	o.Load = cmp.Or(o.Load, 15*time.Second)
	o.Dir = cmp.Or(o.Dir, site.Scratch())
}

const gib = 1 << 30

// demo is one run on one pool: what its steps leave to each other.
type demo struct {
	Options
	*printer
	pool     volume.PoolType
	site     *site.Site
	clients  site.Clients
	origin   *site.Mounted
	clone    *site.Mounted
	snapshot *csi.Snapshot
	postgres *postgres.Server // on origin
	second   *postgres.Server // on clone
	load     *load
	undo     []func(context.Context) error // in the order of making
}

// Run runs the demo on each kind of pool, prints each step as it goes, with its
// time, and ends with a table. It takes everything away again, whatever happens,
// also when ctx is canceled or w cannot be written any more.
func Run(ctx context.Context, o Options, w io.Writer) error {
	o.defaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := newPrinter(watched{w, cancel})
	for _, pool := range o.Pools {
		d := &demo{Options: o, printer: p, pool: pool}
		p.begin(string(pool))
		if err := d.run(ctx); err != nil {
			return err
		}
	}
	p.table()
	return nil
}

// watched is an output without which there is no point in going on.
type watched struct {
	io.Writer
	cancel context.CancelCauseFunc
}

// Write writes, and ends the run if it cannot.
func (w watched) Write(b []byte) (int, error) {
	n, err := w.Writer.Write(b)
	if err != nil {
		w.cancel(fmt.Errorf("write the steps: %w", err))
	}
	return n, err
}

func (d *demo) run(ctx context.Context) (err error) {
	defer func() {
		err = errors.Join(err, d.step(context.WithoutCancel(ctx), "remove everything", d.removeAll))
	}()
	for _, s := range []struct {
		name string
		do   func(context.Context) (string, error)
	}{
		{"look for what this needs on this machine", d.findNeeds},
		{"make a pool; start engine, node and controller", d.start},
		{"create a volume", d.createVolume},
		{"publish, stage (mkfs." + d.Filesystem + ") and mount it", d.mountVolume},
		{"initialise PostgreSQL on it and start it", d.startPostgres},
		{fmt.Sprintf("fill it: pgbench, %d accounts", d.Scale*100_000), d.fill},
		{"start a load: pgbench with 8 clients", d.startLoad},
		{"wait until the load is under way", d.waitForLoad},
		{"snapshot the volume under that load", d.takeSnapshot},
		{"create a second volume from the snapshot", d.createClone},
		{"mount the clone beside its origin", d.mountClone},
		{"start a second PostgreSQL on the clone", d.startSecond},
		{"check the clone: the sums of all balances agree", d.checkSums},
		{"check the clone: amcheck of every table and index", d.checkIndexes},
		{"let the load end, and check the origin's sums", d.finishLoad},
	} {
		if err := d.step(ctx, s.name, s.do); err != nil {
			if d.site != nil && ctx.Err() == nil {
				d.site.Logs(d.w, 4000)
			}
			return err
		}
	}
	return nil
}

func (d *demo) onExit(f func(context.Context) error) { d.undo = append(d.undo, f) }

func (d *demo) start(ctx context.Context) (string, error) {
	dir, err := os.MkdirTemp(d.Dir, "holkas-demo-")
	if err != nil {
		return "", err
	}
	s, err := site.Start(ctx, site.Options{Dir: dir, Pools: []site.PoolOptions{{Name: "demo", Type: d.pool, SizeBytes: 16 * gib}}})
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	d.site = s
	d.onExit(s.Close)
	d.clients, err = s.Clients(0)
	return "under " + s.Dir, err
}

func (d *demo) createVolume(ctx context.Context) (string, error) {
	volume, err := d.create(ctx, "postgres", nil)
	if err != nil {
		return "", err
	}
	d.origin = d.site.At(volume, site.Filesystem(d.Filesystem), "postgres")
	return fmt.Sprintf("%s, %d GiB", volume.VolumeId, volume.CapacityBytes/gib), nil
}

func (d *demo) create(ctx context.Context, name string, source *csi.VolumeContentSource) (*csi.Volume, error) {
	reply, err := d.clients.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name: name, CapacityRange: &csi.CapacityRange{RequiredBytes: 4 * gib},
		VolumeCapabilities:  []*csi.VolumeCapability{site.Filesystem(d.Filesystem)},
		VolumeContentSource: source,
	})
	if err != nil {
		return nil, err
	}
	d.onExit(func(ctx context.Context) error {
		_, err := d.clients.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: reply.Volume.VolumeId})
		return err
	})
	return reply.Volume, nil
}

func (d *demo) mount(ctx context.Context, m *site.Mounted) (string, error) {
	d.onExit(func(ctx context.Context) error { return d.clients.Unmount(ctx, d.site, m) })
	return "at " + m.Target, d.clients.Mount(ctx, d.site, m)
}

func (d *demo) mountVolume(ctx context.Context) (string, error) { return d.mount(ctx, d.origin) }
func (d *demo) mountClone(ctx context.Context) (string, error)  { return d.mount(ctx, d.clone) }

func (d *demo) takeSnapshot(ctx context.Context) (string, error) {
	reply, err := d.clients.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "under-load", SourceVolumeId: d.origin.Volume.VolumeId})
	if err != nil {
		return "", err
	}
	d.snapshot = reply.Snapshot
	d.onExit(func(ctx context.Context) error {
		_, err := d.clients.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: d.snapshot.SnapshotId})
		return err
	})
	if err := d.load.runs(); err != nil {
		return "", err
	}
	cut, err := d.cut(ctx)
	if err != nil {
		return "", err
	}
	d.figure("writers waited for the snapshot", round(cut.Pause).String())
	result := fmt.Sprintf("writers waited %s", round(cut.Pause))
	if cut.PredictedPause > 0 {
		result += fmt.Sprintf(" (predicted: %s)", round(cut.PredictedPause))
	}
	return result, nil
}

// cut asks the engine for the snapshot as it knows it: how long the writers
// were blocked has no field in CSI.
func (d *demo) cut(ctx context.Context) (backend.Snapshot, error) {
	handle, err := volume.ParseHandle(d.snapshot.SnapshotId)
	if err != nil {
		return backend.Snapshot{}, err
	}
	dialer := &agent.Dialer{}
	defer func() { _ = dialer.Close() }() // no call is left
	engine, err := dialer.Backend(repository.Node{ID: d.site.Node, Address: d.site.AgentEndpoint()}, volume.BackendLocal)
	if err != nil {
		return backend.Snapshot{}, err
	}
	return engine.Snapshot(ctx, handle.Snapshot)
}

func (d *demo) createClone(ctx context.Context) (string, error) {
	volume, err := d.create(ctx, "postgres-clone", &csi.VolumeContentSource{
		Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: d.snapshot.SnapshotId}},
	})
	if err != nil {
		return "", err
	}
	d.clone = d.site.At(volume, site.Filesystem(d.Filesystem), "postgres-clone")
	return volume.VolumeId + ", no data copied", nil
}

// removeAll undoes what was done, the newest first, and goes on past faults:
// the site's own end takes away what they left.
func (d *demo) removeAll(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	var faults []error
	for _, undo := range slices.Backward(d.undo) {
		faults = append(faults, undo(ctx))
	}
	return "", errors.Join(faults...)
}
