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

// Kind is what volumes live in: a local pool of a type, or the repository.
type Kind string

// Object is the kind of volumes that live in the repository.
const Object = Kind(volume.BackendObject)

// Kinds are all there are.
var Kinds = []Kind{Kind(volume.BtrfsPool), Kind(volume.XFSPool), Object}

// name is what a run is called.
func (k Kind) name() string {
	if k == Object {
		return "object store"
	}
	return string(k) + " pool"
}

func (k Kind) backend() string {
	if k == Object {
		return volume.BackendObject
	}
	return volume.BackendLocal
}

// Options of Run. A zero value is the default.
type Options struct {
	On         []Kind        // one run on each, in this order; none: btrfs, xfs, object
	Filesystem string        // of the volumes; empty: ext4
	Scale      int           // of pgbench, in 100,000 accounts; 0: 20
	Load       time.Duration // how long pgbench runs; 0: 15 s
	Dir        string        // where its files go; empty: site.Scratch
}

func (o *Options) defaults() {
	if len(o.On) == 0 {
		o.On = Kinds
	}
	o.Filesystem = cmp.Or(o.Filesystem, string(volume.Ext4))
	o.Scale = cmp.Or(o.Scale, 20)
	o.Load = cmp.Or(o.Load, 15*time.Second)
	o.Dir = cmp.Or(o.Dir, site.Scratch())
}

const gib = 1 << 30

// demo is one run on one kind: what its steps leave to each other.
type demo struct {
	Options
	*printer
	kind     Kind
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

// Run runs the demo on each kind, prints each step as it goes, with its
// time, and ends with a table. It takes everything away again, whatever happens,
// also when ctx is canceled or w cannot be written any more.
func Run(ctx context.Context, o Options, w io.Writer) error {
	o.defaults()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	p := newPrinter(watched{w, cancel})
	for _, kind := range o.On {
		d := &demo{Options: o, printer: p, kind: kind}
		p.begin(string(kind), kind.name())
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
		{"start engine, node and controller", d.start},
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
	options := site.Options{Dir: dir}
	if options.Object = d.kind == Object; !options.Object {
		options.Pools = []site.PoolOptions{{Name: "demo", Type: volume.PoolType(d.kind), SizeBytes: 16 * gib}}
	}
	s, err := site.Start(ctx, options)
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
		VolumeContentSource: source, Parameters: map[string]string{volume.ParamBackend: d.kind.backend()},
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
	engine, err := dialer.Backend(repository.Node{ID: d.site.Node, Address: d.site.AgentEndpoint()}, d.kind.backend())
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
