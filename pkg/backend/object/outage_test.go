package object

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

// failing is a store that is away at times.
type failing struct {
	objstore.Store
	away atomic.Bool
}

func (f *failing) err() error {
	if f.away.Load() {
		return fault.New(fault.Transient, "no route to the store")
	}
	return nil
}

func (f *failing) Get(ctx context.Context, key string) ([]byte, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Get(ctx, key)
}

func (f *failing) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.GetRange(ctx, key, offset, length)
}

func (f *failing) Create(ctx context.Context, key string, body []byte) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Store.Create(ctx, key, body)
}

func (f *failing) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	if err := f.err(); err != nil {
		return objstore.Page{}, err
	}
	return f.Store.List(ctx, o)
}

// TestDetachDuringAnOutage: writes go on, health says why it is ill; the device goes,
// and the rest follows by itself when the store is back.
func TestDetachDuringAnOutage(t *testing.T) {
	t.Parallel()
	store := &failing{Store: memory.New()}
	n := newNode(t, store, "node-1")
	id := n.create(backend.CreateVolumeRequest{})
	d := n.attach(id, nil)
	store.away.Store(true)
	n.write(d.Path, "a")
	n.has(d.Path, "a")
	must(t, backendtest.Poll(20*time.Second, func() error {
		h, err := n.VolumeHealth(t.Context(), id)
		if err != nil || len(h) != 1 || h[0].Reason != "RepositoryUnreachable" || h[0].Severity != backend.Degraded {
			return fault.New(fault.Internal, "health %+v, %v", h, err)
		}
		return nil
	}))
	if again := n.attach(id, nil); again != d {
		t.Errorf("attached again during the outage: %+v, want %+v", again, d)
	}
	if v, err := n.Volume(t.Context(), id); err != nil || v.Device != d.Path {
		t.Errorf("looked up during the outage: %+v, %v", v, err)
	}
	for range 2 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // the device goes in a moment
		want(t, "detach during the outage", n.Detach(ctx, id), fault.Transient, "not everything is in the repository yet")
		cancel()
	}
	store.away.Store(false)
	must(t, backendtest.Poll(20*time.Second, func() error {
		if n.live(id) != nil || exists(n.journal(id)) {
			return fault.New(fault.Internal, "it is not closed yet")
		}
		return nil
	}))
	two := newNode(t, store, "node-2")
	two.has(two.attach(id, nil).Path, "a")
	two.detach(id)
}

// TestSnapshotDuringAnOutage: what was cut is completed by the same request later,
// as it was cut; also when the volume was detached in between.
func TestSnapshotDuringAnOutage(t *testing.T) {
	t.Parallel()
	store := &failing{Store: memory.New()}
	n := newNode(t, store, "node-1")
	for _, detached := range []bool{false, true} {
		id := n.create(backend.CreateVolumeRequest{})
		d := n.attach(id, nil)
		n.write(d.Path, "a")
		r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: id, Consistency: volume.CrashConsistent}
		s, err := n.site(t.Context())
		must(t, err)
		record, err := s.volume(t.Context(), id)
		must(t, err)
		c := &cutting{site: s, b: n.Backend, r: r, of: record.Value}
		_, err = c.begin(t.Context())
		must(t, err)
		n.noteCut(r.ID, &cut{})
		// The intent is there; from here on the store is away, but for what is read of
		// the volume first.
		known := n.knownCut(r.ID)
		store.away.Store(true)
		if held, err := c.cut(t.Context(), n.live(id).v, known); err != nil || !held {
			t.Fatalf("cut during the outage: held %t, %v", held, err)
		}
		n.write(d.Path, "b")
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		_, err = n.CreateSnapshot(ctx, r)
		cancel()
		want(t, "snapshot during the outage", err, fault.Transient)
		store.away.Store(false)
		if detached {
			n.detach(id)
		}
		done, err := n.CreateSnapshot(t.Context(), r)
		must(t, err)
		if done.CreatedAt != known.at {
			t.Errorf("created at %v, want when it was cut, %v", done.CreatedAt, known.at)
		}
		clone := n.create(backend.CreateVolumeRequest{Source: backend.Source{Snapshot: r.ID}})
		n.has(n.attach(clone, nil).Path, "a")
		n.detach(clone)
		n.detach(id)
	}
}
