package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// rounds is how many histories a test runs: many more with HOLKAS_SOAK=1.
func rounds(n int) int {
	if os.Getenv("HOLKAS_SOAK") == "1" {
		return 20 * n
	}
	return n
}

// insist repeats a call as a caller would: for as long as it may succeed.
func insist(ctx context.Context, rng *rand.Rand, p *process, do func() error) error {
	for {
		err := do()
		if err == nil || !mayRun(err) || p.died() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Duration(rng.IntN(3000)) * time.Millisecond):
		}
	}
}

// TestTwoControllersOneName lets two controllers create the same name at once,
// in bad weather, with deaths. All that is acknowledged is one volume, and
// nothing else stays anywhere.
func TestTwoControllersOneName(t *testing.T) {
	base := uint64(time.Now().UnixNano())
	for round := range rounds(400) {
		seed := base + uint64(round)
		synctest.Test(t, func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 0))
			w := newWorld(t, memory.New(), 3)
			for _, e := range w.engines {
				if rng.IntN(3) == 0 {
					e.capacity = 4096 // full
				}
			}
			raceForName(t, w, seed, rng)
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func raceForName(t *testing.T, w *world, seed uint64, rng *rand.Rand) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	var wg sync.WaitGroup
	acknowledged := make([]repository.Volume, 4)
	for i := range acknowledged {
		life := -1
		if i%2 == 1 {
			life = rng.IntN(25)
		}
		own := rand.New(rand.NewPCG(seed, uint64(i+1)))
		p := weather(own, life)
		c := w.controller(p)
		wg.Go(func() {
			time.Sleep(time.Duration(p.roll(100)) * time.Millisecond)
			_ = insist(ctx, rand.New(rand.NewPCG(seed, uint64(i+100))), p, func() (err error) {
				acknowledged[i], err = c.CreateVolume(ctx, thick("one", mib))
				return err
			})
		})
	}
	wg.Wait()
	synctest.Wait()
	var one repository.Volume
	for _, v := range acknowledged {
		if one.ID == "" {
			one = v
		}
		if v.ID != "" && v.ID != one.ID {
			t.Errorf("one name is acknowledged as %s and as %s", one.ID, v.ID)
		}
	}
	time.Sleep(time.Second) // what is still on its way
	w.sweepAll()
	w.clean("in the end")
	if one.ID == "" {
		return
	}
	if v, err := w.c.Volume(t.Context(), one.ID); err != nil || v.Name != "one" {
		t.Errorf("the acknowledged volume is lost: %+v, %v", v, err)
	}
}

// TestTwoControllersOneGroup does the same for a group snapshot.
func TestTwoControllersOneGroup(t *testing.T) {
	base := uint64(time.Now().UnixNano())
	for round := range rounds(150) {
		seed := base + uint64(round)
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, memory.New(), 2)
			twoVolumes(w)
			raceForGroup(t, w, seed)
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func raceForGroup(t *testing.T, w *world, seed uint64) {
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	rng := rand.New(rand.NewPCG(seed, 0))
	r := group(w)
	var mu sync.Mutex
	ids := map[volume.GroupID]bool{}
	var wg sync.WaitGroup
	for i := range 3 {
		life := -1
		if i > 0 {
			life = rng.IntN(60)
		}
		p := weather(rand.New(rand.NewPCG(seed, uint64(i+1))), life)
		c := w.controller(p)
		wg.Go(func() {
			_ = insist(ctx, rand.New(rand.NewPCG(seed, uint64(i+100))), p, func() error {
				g, members, err := c.CreateGroup(ctx, r)
				if err == nil {
					mu.Lock()
					defer mu.Unlock()
					ids[g.ID] = true
					if len(members) != 2 {
						t.Errorf("group has members %v", members)
					}
				}
				return err
			})
		})
	}
	wg.Wait()
	if len(ids) > 1 {
		t.Errorf("one name is acknowledged as %v", ids)
	}
	time.Sleep(time.Second)
	w.sweepAll()
	w.clean("in the end")
	for id := range ids {
		g, members, err := w.c.Group(t.Context(), w.c.GroupHandle(id))
		if err != nil || len(members) != 2 {
			t.Errorf("the acknowledged group is lost: %+v, %v", g, err)
		}
		wantHeld(t, w, id)
	}
}

// wantHeld checks that a group's cuts were made between the last pause and the
// first resumption.
func wantHeld(t *testing.T, w *world, id volume.GroupID) {
	t.Helper()
	w.events.mu.Lock()
	defer w.events.mu.Unlock()
	order := ""
	for _, e := range w.events.all {
		if string(e.pause) == string(id) {
			order += e.what[:1]
		}
	}
	if order != "ppccrr" {
		t.Errorf("events of group %s: %q, want two pauses, two cuts, two resumptions", id, order)
	}
}

// TestPublishRace lets controllers publish volumes to a node that can have two,
// each twice at once, and delete them, with deaths. Never are more than two
// published, and what one caller was told of is not taken back for another.
func TestPublishRace(t *testing.T) {
	base := uint64(time.Now().UnixNano())
	for round := range rounds(200) {
		seed := base + uint64(round)
		inWorld(t, 1, func(t *testing.T, w *world) {
			w.announce(repository.Node{ID: "n1", MaxVolumes: 2})
			published := publishRace(t, w, seed)
			if len(published) > 2 {
				t.Errorf("%d volumes are published, want 2 at most", len(published))
			}
			for id := range published {
				v, err := w.c.Volume(t.Context(), id)
				if err != nil || len(v.Publications) != 1 || v.Publications[0].Pending {
					t.Errorf("the acknowledged publication of %s is lost: %+v, %v", id, v.Publications, err)
				}
			}
			w.sweepAll()
			w.clean("in the end")
			if t.Failed() {
				t.Logf("seed %d", seed)
			}
		})
		if t.Failed() {
			return
		}
	}
}

func publishRace(t *testing.T, w *world, seed uint64) (published map[volume.ID]bool) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	published = map[volume.ID]bool{}
	rng := rand.New(rand.NewPCG(seed, 0))
	for i := range 4 {
		v := w.volume(thick(fmt.Sprint("v", i), mib))
		publish := func(n uint64, life int) {
			own := rand.New(rand.NewPCG(seed, n))
			p := weather(own, life)
			c := w.controller(p)
			err := insist(t.Context(), rand.New(rand.NewPCG(seed, n+100)), p, func() error {
				_, err := c.Publish(t.Context(), PublishRequest{v.ID, repository.Publication{Node: "n1", AccessMode: "SINGLE_NODE_WRITER"}})
				return err
			})
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				published[v.ID] = true
			} else if !p.died() && !fault.Is(err, fault.Exhausted) && !fault.Is(err, fault.NotFound) {
				t.Error("publish:", err)
			}
		}
		life := rng.IntN(20)
		wg.Go(func() { publish(uint64(10+i), -1) })
		wg.Go(func() { publish(uint64(20+i), life) })
		if rng.IntN(2) == 0 {
			continue
		}
		wg.Go(func() {
			p := weather(rand.New(rand.NewPCG(seed, uint64(30+i))), -1)
			c := w.controller(p)
			time.Sleep(time.Duration(p.roll(200)) * time.Millisecond)
			err := insist(t.Context(), rand.New(rand.NewPCG(seed, uint64(40+i))), p, func() error { return c.DeleteVolume(t.Context(), v.ID) })
			if err != nil && !fault.Is(err, fault.InUse) {
				t.Error("delete:", err)
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Second)
	return published
}

// TestDuplicatesInFlight: while a call is at work a second one for the same thing
// is turned away, naming it, also one of another operation; then it is let in.
func TestDuplicatesInFlight(t *testing.T) {
	inWorld(t, 1, func(t *testing.T, w *world) {
		v := w.volume(thick("one", mib))
		slow := w.controller(weather(rand.New(rand.NewPCG(1, 1)), -1))
		second := func(operation string, call func() error) {
			t.Helper()
			synctest.Wait()
			wantKind(t, call(), fault.Busy, operation, "at work")
		}
		var wg sync.WaitGroup
		create := func(name string) error {
			_, err := slow.CreateVolume(t.Context(), thick(name, mib))
			return err
		}
		snapshot := func() error {
			_, err := slow.CreateSnapshot(t.Context(), CreateSnapshotRequest{Name: "snap", Volume: v.ID})
			return err
		}
		expand := func() error {
			_, err := slow.ExpandVolume(t.Context(), v.ID, volume.Range{RequiredBytes: 2 * mib})
			return err
		}
		wg.Go(func() { _ = create("two") })
		second("CreateVolume", func() error { return create("two") })
		wg.Go(func() { _ = create("three") }) // another name is not in the way
		second("CreateVolume", func() error { return create("three") })
		wg.Go(func() { _ = snapshot() })
		second("CreateSnapshot", snapshot)
		wg.Go(func() { _ = expand() })
		for range 100 { // it looks at the volume before it locks, on the bubble's clock
			if time.Sleep(time.Millisecond); slow.locked("volume", string(v.ID)) {
				break
			}
		}
		second("ExpandVolume", func() error { return slow.DeleteVolume(t.Context(), v.ID) })
		wg.Wait()
		rng := rand.New(rand.NewPCG(1, 2))
		must(t, insist(t.Context(), rng, immortal(), func() error { return slow.DeleteVolume(t.Context(), v.ID) }))
		must(t, insist(t.Context(), rng, immortal(), func() error { return create("two") }))
		time.Sleep(time.Second) // what is still on its way
	})
}

// locked reports whether a lock is held.
func (c *Controller) locked(what, name string) bool {
	c.locks.mu.Lock()
	defer c.locks.mu.Unlock()
	_, held := c.locks.held[key{what, name}]
	return held
}
