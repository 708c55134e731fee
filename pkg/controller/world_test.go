package controller

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	mib = 1 << 20
	gib = 1 << 30
)

// world is a store and engines, which outlive the controllers.
type world struct {
	t       *testing.T
	store   objstore.Store
	engines map[volume.NodeID]*engine
	shared  *engine                   // what all engines of the shared backend have
	fronts  map[volume.NodeID]*engine // these engines
	events  events
	repo    *repository.Repository // for the test itself
	c       *Controller            // an undisturbed controller, for the test itself
	ahead   bool                   // an engine may be ahead of a record: nobody retried
}

// inWorld runs a test with nodes n1, n2, ... of 100 GiB, on a clock of its own.
func inWorld(t *testing.T, nodes int, test func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(t, newWorld(t, memory.New(), nodes)) })
}

func newWorld(t *testing.T, store objstore.Store, nodes int) *world {
	t.Helper()
	w := &world{t: t, store: store, engines: map[volume.NodeID]*engine{}, fronts: map[volume.NodeID]*engine{}}
	w.shared = newEngine("", 1<<60, &w.events)
	w.c = w.controller(immortal())
	w.repo = w.c.repository
	for i := range nodes {
		id := volume.NodeID(fmt.Sprintf("n%d", i+1))
		w.engines[id] = newEngine(id, 100*gib, &w.events)
		w.fronts[id] = w.shared.front(w.engines[id])
		w.announce(repository.Node{ID: id})
	}
	return w
}

// announce announces a node with the usual content where n has none.
func (w *world) announce(n repository.Node) {
	w.t.Helper()
	if n.Machine == "" {
		n.Machine = "m"
	}
	if n.Backends == nil {
		n.Backends = []string{volume.BackendLocal, volume.BackendObject}
	}
	if n.Pools == nil {
		n.Pools = []repository.Pool{{Name: "fast", Type: volume.XFSPool}}
	}
	n.Changed = time.Now()
	if err := Announce(w.t.Context(), w.repo, n, false); err != nil {
		w.t.Fatal(err)
	}
}

// announceAgain brings a node back as it was.
func (w *world) announceAgain(id volume.NodeID) {
	w.t.Helper()
	must(w.t, w.exhume(id))
	w.announce(repository.Node{ID: id})
}

// controller starts a controller in a process, whose life and weather begin when
// it has opened the repository.
func (w *world) controller(p *process) *Controller {
	w.t.Helper()
	rng, life := p.rng, p.life
	p.rng, p.life = nil, -1
	repo, err := repository.Open(w.t.Context(), storeLink{w.store, p}, repository.Options{})
	must(w.t, err)
	p.rng, p.life, p.passed = rng, life, 0
	return w.over(repo, p)
}

func (w *world) over(repo *repository.Repository, p *process) *Controller {
	c, err := New(Options{Repository: repo, Engines: engineLinks{w.engines, w.fronts, p}})
	if err != nil {
		w.t.Fatal(err)
	}
	return c
}

func thick(name string, size int64) CreateVolumeRequest {
	return CreateVolumeRequest{
		Name:    name,
		Class:   volume.Class{Backend: volume.BackendLocal, Provisioning: volume.Thick, MaxSnapshotPause: time.Second},
		Request: repository.Request{Range: volume.Range{RequiredBytes: size}},
	}
}

// shared is a request for a volume of the shared backend.
func shared(name string, size int64) CreateVolumeRequest {
	r := thick(name, size)
	r.Class = volume.Class{Backend: volume.BackendObject}.WithDefaults()
	return r
}

// volume creates one, undisturbed.
func (w *world) volume(r CreateVolumeRequest) repository.Volume {
	w.t.Helper()
	v, err := w.c.CreateVolume(w.t.Context(), r)
	if err != nil {
		w.t.Fatal(err)
	}
	return v
}

func (w *world) snapshot(name string, v volume.ID) repository.Snapshot {
	w.t.Helper()
	s, err := w.c.CreateSnapshot(w.t.Context(), CreateSnapshotRequest{Name: name, Volume: v, Consistency: volume.FilesystemConsistent})
	if err != nil {
		w.t.Fatal(err)
	}
	return s
}

// sweepAll lets all time limits pass, sweeping in between, until nothing that
// was left can still be left.
func (w *world) sweepAll() {
	w.t.Helper()
	for range 2 {
		time.Sleep(10 * time.Minute)
		if err := w.c.Sweep(w.t.Context()); err != nil {
			w.t.Error("sweep:", err)
		}
	}
	for range 3 {
		time.Sleep(25 * time.Hour)
		if err := w.c.Sweep(w.t.Context()); err != nil {
			w.t.Error("sweep:", err)
		}
	}
}

// audit reports where the engines hold anything else than the catalogue says.
func (w *world) audit() (faults []string) {
	w.t.Helper()
	ctx := w.t.Context()
	engines := maps.Clone(w.engines)
	engines[""] = w.shared
	for node, e := range engines {
		of := func(class volume.Class, at volume.NodeID) bool {
			return class.Shared() && node == "" || !class.Shared() && node == at
		}
		var volumes []volume.ID
		var snapshots []volume.SnapshotID
		must(w.t, each(ctx, w.repo.Volumes, func(v repository.Volume) error {
			if v.State == repository.Ended && node == "" { // an ended record says no more of where it was
				faults = append(faults, fmt.Sprintf("record %+v", v))
			}
			if v.State == repository.Ended || !of(v.Class, v.Node) {
				return nil
			}
			volumes = append(volumes, v.ID)
			if v.State != repository.Ready {
				faults = append(faults, fmt.Sprintf("record %+v", v))
			} else if name, err := w.repo.VolumeNames.Latest(ctx, v.Name); err != nil || name.Value.ID != string(v.ID) {
				faults = append(faults, fmt.Sprintf("name of %+v stands for %+v: %v", v, name.Value, err))
			} else if have := e.volumes[v.ID]; !w.ahead && have.SizeBytes != v.SizeBytes || have.Class != v.Class {
				faults = append(faults, fmt.Sprintf("engine has %+v, record says %+v", have, v))
			}
			return nil
		}))
		must(w.t, each(ctx, w.repo.Snapshots, func(s repository.Snapshot) error {
			if s.State == repository.Ended && node == "" {
				faults = append(faults, fmt.Sprintf("record %+v", s))
			}
			if s.State != repository.Ended && of(s.Class, s.Node) {
				snapshots = append(snapshots, s.ID)
				if ok, err := w.c.visible(ctx, s); err != nil || !ok {
					faults = append(faults, fmt.Sprintf("record %+v is not visible: %v", s, err))
				}
			}
			return nil
		}))
		if have := e.volumeIDs(); !slices.Equal(have, volumes) {
			faults = append(faults, fmt.Sprintf("engine %s has volumes %v, catalogue %v", node, have, volumes))
		}
		if have := e.snapshotIDs(); !slices.Equal(have, snapshots) {
			faults = append(faults, fmt.Sprintf("engine %s has snapshots %v, catalogue %v", node, have, snapshots))
		}
	}
	return append(faults, w.auditNames()...)
}

// auditNames reports live names without a Ready record, and names and records
// that should have been removed.
func (w *world) auditNames() (faults []string) {
	ctx := w.t.Context()
	names := func(what string, l repository.Ledger[repository.Name], ready func(id string) error) {
		must(w.t, each(ctx, l, func(n repository.Name) error {
			if err := ready(n.ID); n.Ended || err != nil {
				faults = append(faults, fmt.Sprintf("%s name %+v: %v", what, n, err))
			}
			return nil
		}))
	}
	names("volume", w.repo.VolumeNames, func(id string) error { _, err := w.c.Volume(ctx, volume.ID(id)); return err })
	names("snapshot", w.repo.SnapshotNames, func(id string) error {
		_, err := w.c.Snapshot(ctx, w.c.Handle(volume.SnapshotID(id)))
		return err
	})
	names("group", w.repo.GroupNames, func(id string) error {
		_, _, err := w.c.Group(ctx, w.c.GroupHandle(volume.GroupID(id)))
		return err
	})
	return faults
}

func (w *world) clean(when string) {
	w.t.Helper()
	for _, f := range w.audit() {
		w.t.Errorf("%s: %s", when, f)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wantKind checks an error's kind and that its message says what it must.
func wantKind(t *testing.T, err error, kind fault.Kind, says ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got error %v (%s), want %s", err, fault.KindOf(err), kind)
	}
	for _, part := range says {
		if !contains(err.Error(), part) {
			t.Errorf("got error %q, want it to say %q", err, part)
		}
	}
}
