package object

import (
	"bytes"
	"context"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

const mib = 1 << 20

// want sees that an error is of a kind and has some words.
func want(t testing.TB, what string, err error, kind fault.Kind, words ...string) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Errorf("%s: got %v, want %s", what, err, kind)
		return
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%s: %q lacks %q", what, err, word)
		}
	}
}

func (n *node) create(r backend.CreateVolumeRequest) volume.ID {
	n.Helper()
	if r.ID == "" {
		r.ID = volume.NewID()
	}
	if r.SizeBytes == 0 {
		r.SizeBytes = 4 * mib
	}
	if r.Class.Backend == "" {
		r.Class = class()
	}
	_, err := n.CreateVolume(context.Background(), r)
	must(n, err)
	return r.ID
}

func (n *node) attach(id volume.ID, secrets volume.Secrets) backend.Device {
	n.Helper()
	d, err := n.Attach(context.Background(), backend.AttachRequest{ID: id, Secrets: secrets})
	must(n, err)
	return d
}

func (n *node) detach(id volume.ID) {
	n.Helper()
	must(n, n.Detach(context.Background(), id))
}

func (n *node) cut(of volume.ID, secrets volume.Secrets) backend.Snapshot {
	n.Helper()
	s, err := n.CreateSnapshot(context.Background(), backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: of, Consistency: volume.CrashConsistent, Secrets: secrets})
	must(n, err)
	return s
}

// write fills a device with a letter, durably.
func (n *node) write(device, letter string) {
	n.Helper()
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	must(n, err)
	defer f.Close()
	size, err := f.Seek(0, 2)
	must(n, err)
	_, err = f.WriteAt(bytes.Repeat([]byte(letter), int(size)), 0)
	must(n, err)
	must(n, f.Sync())
}

// has sees that a device is full of a letter.
func (n *node) has(device, letter string) {
	n.Helper()
	got, err := os.ReadFile(device)
	must(n, err)
	if i := slices.IndexFunc(got, func(b byte) bool { return b != letter[0] }); i >= 0 {
		n.Errorf("%s: got %q at %d, want %q all over", device, got[i], i, letter)
	}
}

// TestMove: what one node wrote another one reads, once the first has let go of it;
// before that nobody gets it without leave to go back.
func TestMove(t *testing.T) {
	t.Parallel()
	store := memory.New()
	one, two := newNode(t, store, "node-1"), newNode(t, store, "node-2")
	id := one.create(backend.CreateVolumeRequest{})
	one.write(one.attach(id, nil).Path, "a")
	_, err := two.CreateSnapshot(t.Context(), backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: id, Consistency: volume.CrashConsistent})
	want(t, "a snapshot at a node that does not have it", err, fault.InUse, "node-1")
	_, err = two.Attach(t.Context(), backend.AttachRequest{ID: id})
	want(t, "a volume whose node has promises to keep", err, fault.Precondition, "node-1")
	one.detach(id)
	two.has(two.attach(id, nil).Path, "a")
	two.detach(id)
	one.has(one.attach(id, nil).Path, "a")
	one.detach(id)
}

// TestTakenOver: a class that may go back goes on elsewhere; the node that was lost
// finds it out, and its users get errors.
func TestTakenOver(t *testing.T) {
	t.Parallel()
	store := memory.New()
	one, two := newNode(t, store, "node-1"), newNode(t, store, "node-2")
	c := class()
	c.OnNodeLoss = volume.Rollback
	id := one.create(backend.CreateVolumeRequest{Class: c})
	d := one.attach(id, nil)
	one.write(d.Path, "a")
	must(t, one.live(id).v.Sync(t.Context()))
	one.close() // its engine is gone; the device waits
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	taken, err := two.Attach(ctx, backend.AttachRequest{ID: id})
	must(t, err)
	two.has(taken.Path, "a")
	two.write(taken.Path, "b")
	one.open()
	must(t, backendtest.Poll(20*time.Second, func() error {
		h, err := one.VolumeHealth(t.Context(), id)
		if err != nil || len(h) != 1 || h[0].Severity != backend.Inaccessible || h[0].Reason != "DeviceNotServed" {
			return fault.New(fault.Internal, "health %+v, %v", h, err)
		}
		return nil
	}))
	if f, err := os.OpenFile(d.Path, os.O_RDWR|os.O_SYNC, 0); err == nil {
		if _, err := f.WriteAt([]byte(strings.Repeat("c", 4096)), 0); err == nil {
			t.Error("a write through a device that was taken over went through")
		}
		f.Close()
	}
	one.detach(id)
	two.has(taken.Path, "b")
	two.detach(id)
	one.has(one.attach(id, nil).Path, "b")
	one.detach(id)
}

// TestDeviceGoesOn: a device is served again by the next engine before anybody asks,
// with what was acknowledged and not uploaded; and a volume without a device whose
// journal was left behind is brought home.
func TestDeviceGoesOn(t *testing.T) {
	t.Parallel()
	store := memory.New()
	n := newNode(t, store, "node-1")
	c := class()
	c.UploadDelay = volume.MaxUploadDelay
	id := n.create(backend.CreateVolumeRequest{Class: c})
	d := n.attach(id, nil)
	n.write(d.Path, "a")
	for range 2 {
		n.reopen()
		n.has(d.Path, "a")
	}
	n.write(d.Path, "b")
	must(t, n.front.Detach(t.Context(), id)) // as a death between the two halves of Detach leaves it
	n.reopen()
	must(t, backendtest.Poll(20*time.Second, func() error {
		if exists(n.journal(id)) {
			return fault.New(fault.Internal, "its journal is here still")
		}
		return nil
	}))
	two := newNode(t, store, "node-2")
	two.has(two.attach(id, nil).Path, "b")
	two.detach(id)
}

// TestStoreIsAway: at the start calls are Transient and nothing fails for good; with
// a volume attached, its device and what is known of it are there.
func TestStoreIsAway(t *testing.T) {
	t.Parallel()
	store := memory.New()
	n := newNode(t, store, "node-1")
	id := n.create(backend.CreateVolumeRequest{})
	d := n.attach(id, nil)
	n.write(d.Path, "a")
	var away atomic.Bool
	home := n.options.Home
	n.options.Home = func(ctx context.Context) (Home, error) {
		if away.Load() {
			return Home{}, fault.New(fault.Transient, "no route")
		}
		return home(ctx)
	}
	away.Store(true)
	n.reopen()
	_, err := n.Attach(t.Context(), backend.AttachRequest{ID: id})
	want(t, "attach while the store is away", err, fault.Transient, "no route")
	h, err := n.Health(t.Context())
	if err != nil || len(h) != 1 || h[0].Reason != "RepositoryUnreachable" {
		t.Errorf("health: %+v, %v, want that the repository is unreachable", h, err)
	}
	away.Store(false)
	n.has(d.Path, "a") // waits until it is served again
	n.detach(id)
}

// counted counts requests, and the bytes of what is read beside records.
type counted struct {
	objstore.Store
	requests, ranged atomic.Int64
}

func (c *counted) Get(ctx context.Context, key string) ([]byte, error) {
	c.requests.Add(1)
	return c.Store.Get(ctx, key)
}

func (c *counted) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	c.requests.Add(1)
	c.ranged.Add(1)
	return c.Store.GetRange(ctx, key, offset, length)
}

func (c *counted) Put(ctx context.Context, key string, body []byte) error {
	c.requests.Add(1)
	return c.Store.Put(ctx, key, body)
}

func (c *counted) Create(ctx context.Context, key string, body []byte) error {
	c.requests.Add(1)
	return c.Store.Create(ctx, key, body)
}

func (c *counted) Delete(ctx context.Context, keys ...string) error {
	c.requests.Add(1)
	return c.Store.Delete(ctx, keys...)
}

func (c *counted) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	c.requests.Add(1)
	return c.Store.List(ctx, o)
}

// TestRequests: creating a volume reads no data, whatever it starts from; one that
// nobody uses costs nothing.
func TestRequests(t *testing.T) {
	t.Parallel()
	store := &counted{Store: memory.New()}
	n := newNode(t, store, "node-1")
	id := n.create(backend.CreateVolumeRequest{})
	n.write(n.attach(id, nil).Path, "a")
	cut := n.cut(id, nil)
	n.detach(id)
	for what, row := range map[string]struct {
		source backend.Source
		most   int64
	}{
		"blank":  {backend.Source{}, 4},
		"cloned": {backend.Source{Snapshot: cut.ID}, 10},
	} {
		before, ranged := store.requests.Load(), store.ranged.Load()
		n.create(backend.CreateVolumeRequest{Source: row.source, SizeBytes: 1 << 40})
		if got := store.requests.Load() - before; got > row.most || store.ranged.Load() > ranged {
			t.Errorf("%s: %d requests, %d of them for data: want %d at most, and none", what, got, store.ranged.Load()-ranged, row.most)
		}
	}
	n.attach(id, nil)
	before := store.requests.Load()
	select { // an idle second: an engine that polls shows
	case <-time.After(time.Second):
	case <-t.Context().Done():
	}
	if got := store.requests.Load() - before; got > 0 {
		t.Errorf("%d requests of an idle node with an attached volume, want none", got)
	}
	n.detach(id)
}

// TestOwnCache: a class that has the whole volume on the node answers without the
// repository, also when the volume has grown; the file goes with the device.
func TestOwnCache(t *testing.T) {
	t.Parallel()
	store := &counted{Store: memory.New()}
	n := newNode(t, store, "node-1")
	c := class()
	c.CacheBytes = volume.CacheFull
	id := n.create(backend.CreateVolumeRequest{Class: c})
	n.write(n.attach(id, nil).Path, "a")
	n.detach(id)
	if exists(n.cachePath(id)) {
		t.Error("its cache is there without a device")
	}
	d := n.attach(id, nil)
	must(t, backendtest.Poll(20*time.Second, func() error {
		if !n.live(id).v.State().Filled {
			return fault.New(fault.Internal, "it is not in its cache yet")
		}
		return nil
	}))
	before := store.ranged.Load()
	n.has(d.Path, "a")
	if got := store.ranged.Load() - before; got > 0 {
		t.Errorf("%d requests for data of a volume that is on the node, want none", got)
	}
	_, err := n.ExpandVolume(t.Context(), id, 8*mib)
	must(t, err)
	n.write(d.Path, "b")
	n.reopen()
	n.has(d.Path, "b")
	n.detach(id)
}

// TestHealthTells: what is wrong with an open volume, by its words.
func TestHealthTells(t *testing.T) {
	t.Parallel()
	now := time.Now()
	for reason, row := range map[string]struct {
		state    engine.State
		severity backend.Severity
	}{
		"Fenced":                {engine.State{Err: fault.New(fault.Fenced, "node-2")}, backend.Inaccessible},
		"JournalFailed":         {engine.State{Err: fault.New(fault.Internal, "input/output error")}, backend.Inaccessible},
		"LogDamaged":            {engine.State{Err: fault.New(fault.Corrupt, "x")}, backend.DataLoss},
		"RepositoryUnreachable": {engine.State{StoreErr: fault.New(fault.Transient, "no route"), StoreSince: now.Add(-time.Minute)}, backend.Degraded},
		"BacklogOld":            {engine.State{Backlog: 1, Oldest: now.Add(-time.Hour)}, backend.Degraded},
		"JournalNearlyFull":     {engine.State{JournalUsed: 90, JournalSize: 100}, backend.Degraded},
		"JournalKept":           {engine.State{Kept: []string{"/j.kept"}}, backend.Degraded},
		"RolledBack":            {engine.State{Dropped: "it went back"}, backend.Degraded},
	} {
		got := stateHealth(row.state, now)
		if len(got) != 1 || got[0].Reason != reason || got[0].Severity != row.severity {
			t.Errorf("%s: got %+v, want %s", reason, got, row.severity)
		}
	}
	if got := stateHealth(engine.State{JournalUsed: 1, JournalSize: 100, Backlog: 1, Oldest: now.Add(-time.Second)}, now); len(got) > 0 {
		t.Errorf("nothing is wrong: got %+v", got)
	}
}

// TestMetrics: every number of an open volume is told of, once.
func TestMetrics(t *testing.T) {
	t.Parallel()
	n := newNode(t, memory.New(), "node-1")
	id := n.create(backend.CreateVolumeRequest{})
	n.create(backend.CreateVolumeRequest{}) // not open
	n.write(n.attach(id, nil).Path, "a")
	registry := prometheus.NewPedanticRegistry()
	must(t, registry.Register(n.Metrics()))
	families, err := registry.Gather()
	must(t, err)
	for _, f := range families {
		if m := f.GetMetric(); len(m) != 1 || m[0].GetLabel()[0].GetValue() != string(id) {
			t.Errorf("%s: got %v, want one, of volume %s", f.GetName(), m, id)
		}
		if f.GetName() == "holkas_object_written_bytes_total" && f.GetMetric()[0].GetCounter().GetValue() < 4*mib {
			t.Errorf("%v: want the %d bytes that were written", f, 4*mib)
		}
	}
	if len(families) != len(metrics) {
		t.Errorf("%d metrics, want %d", len(families), len(metrics))
	}
	n.detach(id)
}
