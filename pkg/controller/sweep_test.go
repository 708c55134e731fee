package controller

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/repository"
)

// sweeping has a world's controller sweep by itself while a test goes on.
func sweeping(t *testing.T, w *world, test func()) {
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.c.Run(ctx) })
	test()
	stop()
	running.Wait()
}

// TestIdleSite: a site where nothing happens sends next to nothing to its store.
func TestIdleSite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := faults.New(memory.New(), nil)
		w := newWorld(t, store, 2)
		const volumes = 10
		for i := range volumes {
			w.volume(thick(string(rune('a'+i)), mib))
		}
		requests := func() (n int64) {
			for _, op := range []faults.Op{faults.Get, faults.List, faults.Create, faults.Put, faults.Delete} {
				n += store.Count(op)
			}
			return n
		}
		// What doc.go says: listings, volumes, and nodes with their tombstones.
		const most = 7 + 9*volumes + 4*2
		before := requests()
		must(t, w.c.Sweep(t.Context()))
		if sent := requests() - before; sent > most {
			t.Errorf("%d requests in a sweep: want at most %d", sent, most)
		}
		sweeping(t, w, func() {
			time.Sleep(time.Hour) // the first sweep is over
			before := requests()
			time.Sleep(24 * time.Hour)
			if sent := requests() - before; sent == 0 || sent > 4*most {
				t.Errorf("%d requests in a day: want 1 to %d, those of four sweeps", sent, 4*most)
			}
		})
	})
}

// TestLeftWork: what a call left is done soon after what was in its way is gone,
// and then the controller is idle again.
func TestLeftWork(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		sweeping(t, w, func() {
			time.Sleep(time.Hour)
			v := w.volume(thick("v", mib))
			w.engines["n1"].set(func() { w.engines["n1"].down = true })
			wantKind(t, w.c.DeleteVolume(t.Context(), v.ID), fault.Transient)
			time.Sleep(5 * time.Minute)
			w.engines["n1"].set(func() { w.engines["n1"].down = false })
			time.Sleep(10 * time.Minute)
			r, err := w.repo.Volumes.Latest(t.Context(), string(v.ID))
			if err != nil || r.Value.State != repository.Ended || len(w.engines["n1"].volumeIDs()) > 0 {
				t.Errorf("ten minutes after the engine is back: %+v, %v: want it deleted", r.Value, err)
			}
			if len(w.c.left) > 0 {
				t.Error("a sweep is still due")
			}
		})
	})
}

// TestLeftBySomebodyElse: what a controller left that died and never came back is
// undone by one that is idle, within the time that doc.go states.
func TestLeftBySomebodyElse(t *testing.T) {
	for life := range 12 {
		inWorld(t, 1, func(t *testing.T, w *world) {
			sweeping(t, w, func() {
				time.Sleep(time.Hour)
				dying := w.controller(mortal(life))
				_, _ = dying.CreateVolume(t.Context(), thick("v", mib)) // however far it came
				time.Sleep(sweepIdle + sweepIdle/10 + 2*5*time.Minute)
				ready, _, err := w.c.Volumes(t.Context(), "", 0)
				must(t, err)
				if have := len(w.engines["n1"].volumeIDs()); have != len(ready) {
					t.Errorf("life %d: the engine has %d volumes, and the catalogue %d", life, have, len(ready))
				}
				must(t, each(t.Context(), w.repo.VolumeNames, func(n repository.Name) error {
					if !n.Ended && len(ready) == 0 {
						t.Errorf("life %d: %+v is left", life, n)
					}
					return nil
				}))
			})
		})
	}
}
