package object

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/volume"
)

// left lists what of data, claims and trash is in a store.
func left(t testing.TB, store objstore.Store) (keys []string) {
	t.Helper()
	for o := (objstore.ListOptions{}); ; {
		page, err := store.List(t.Context(), o)
		must(t, err)
		for _, object := range page.Objects {
			for _, part := range []string{"/segments/", "/tables/", "/checkpoints/", "claims/", "trash/"} {
				if strings.Contains("/"+object.Key, part) && !marker(object) {
					keys = append(keys, object.Key)
				}
			}
		}
		if o.After = page.Next; o.After == "" {
			return keys
		}
	}
}

// marker reports whether an object is as small as a close marker, which stays.
func marker(o objstore.Object) bool {
	return strings.Contains(o.Key, "/segments/") && o.SizeBytes < 300
}

// TestDataGoes: after the grace period, when nobody needs it, and not before;
// whoever looks.
func TestDataGoes(t *testing.T) {
	t.Parallel()
	store := memory.New()
	var hours atomic.Int64
	n := newNode(t, store, "node-1")
	n.options.Now = func() time.Time { return time.Now().Add(time.Duration(hours.Load()) * time.Hour) }
	n.reopen()
	collect := func(later int64) time.Duration {
		t.Helper()
		hours.Add(later)
		again, err := n.Collect(t.Context())
		must(t, err)
		return again
	}
	if again := collect(0); again != 0 {
		t.Errorf("nothing in the trash: again in %v, want never", again)
	}
	origin := n.create(backend.CreateVolumeRequest{})
	n.write(n.attach(origin, nil).Path, "a")
	cut := n.cut(origin, nil)
	n.detach(origin)
	clone := n.create(backend.CreateVolumeRequest{Source: backend.Source{Snapshot: cut.ID}})
	must(t, n.DeleteVolume(t.Context(), origin))
	must(t, n.DeleteSnapshot(t.Context(), cut.ID))
	before := len(left(t, store))
	if again := collect(1); again <= 22*time.Hour || again > 24*time.Hour || len(left(t, store)) != before {
		t.Errorf("within the grace period: again in %v, %d of %d objects left", again, len(left(t, store)), before)
	}
	for range 3 {
		collect(25)
	}
	n.has(n.attach(clone, nil).Path, "a") // it needs what was deleted
	second := n.cut(clone, nil)
	n.detach(clone)
	must(t, n.DeleteVolume(t.Context(), clone))
	for range 3 {
		collect(25)
	}
	third := n.create(backend.CreateVolumeRequest{Source: backend.Source{Snapshot: second.ID}})
	n.has(n.attach(third, nil).Path, "a")
	n.detach(third)
	must(t, n.DeleteVolume(t.Context(), third))
	must(t, n.DeleteSnapshot(t.Context(), second.ID))
	for range 4 {
		collect(25)
	}
	if keys := left(t, store); len(keys) > 0 {
		t.Errorf("after everything was deleted: %d objects left: %q", len(keys), keys)
	}
	if again := collect(25); again != 0 {
		t.Errorf("in the end: again in %v, want never", again)
	}
}

// TestSnapshotGoes: a log that is written on gives up what only a snapshot needed.
func TestSnapshotGoes(t *testing.T) {
	t.Parallel()
	store := memory.New()
	var hours atomic.Int64
	n := newNode(t, store, "node-1")
	n.options.Now = func() time.Time { return time.Now().Add(time.Duration(hours.Load()) * time.Hour) }
	n.reopen()
	id := n.create(backend.CreateVolumeRequest{})
	n.write(n.attach(id, nil).Path, "a")
	cut := n.cut(id, nil)
	n.detach(id)
	n.write(n.attach(id, nil).Path, "b")
	n.detach(id)
	full := len(left(t, store))
	must(t, n.DeleteSnapshot(t.Context(), cut.ID))
	for range 2 {
		hours.Add(25)
		_, err := n.Collect(t.Context())
		must(t, err)
	}
	if now := len(left(t, store)); now >= full {
		t.Errorf("%d objects after a snapshot went, %d before: want fewer", now, full)
	}
	n.has(n.attach(id, nil).Path, "b")
	n.detach(id)
	_, err := n.CreateVolume(t.Context(), backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 4 * mib, Class: class(), Source: backend.Source{Snapshot: cut.ID}})
	if err == nil {
		t.Error("a clone of a snapshot that went: want an error")
	}
}
