package controller

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// act is one thing that somebody does in a history.
type act struct {
	What    string
	Name    int // of a volume, snapshot or group: there are few, so they collide
	Node    int
	Hurried bool // its caller gives up soon
}

// history is what four callers do on two controllers, one after the other each.
type history struct {
	Seed  uint64
	Lives [2]int // steps until a controller dies and is started again
	Acts  [4][]act
}

var actNames = []string{
	"create", "create", "create", "clone", "delete", "publish", "unpublish", "expand",
	"snapshot", "snapshot", "restore", "deleteSnapshot", "group", "deleteGroup", "sweep", "down", "up", "retire", "return",
}

func drawHistory(t *rapid.T) history {
	acts := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) act {
		return act{
			What: rapid.SampledFrom(actNames).Draw(t, "what"), Name: rapid.IntRange(0, 2).Draw(t, "name"),
			Node: rapid.IntRange(1, 2).Draw(t, "node"), Hurried: rapid.IntRange(0, 3).Draw(t, "hurried") == 0,
		}
	}), 3, 20)
	h := history{Seed: rapid.Uint64().Draw(t, "seed")}
	for i := range h.Lives {
		h.Lives[i] = rapid.IntRange(5, 400).Draw(t, "life")
	}
	for i := range h.Acts {
		h.Acts[i] = acts.Draw(t, "acts")
	}
	return h
}

// TestHistories plays random histories and compares what was acknowledged, what
// the catalogue says and what the engines hold.
func TestHistories(t *testing.T) {
	check := func(rt *rapid.T) {
		h := drawHistory(rt)
		var faults []string
		synctest.Test(t, func(t *testing.T) { faults = play(t, h) })
		for _, f := range faults {
			rt.Error(f)
		}
	}
	for range rounds(6) { // 100 histories each
		rapid.Check(t, check)
	}
}

// stage is where a history is played.
type stage struct {
	*world
	h history

	mu        sync.Mutex
	processes [2]*process
	running   [2]*Controller
	created   map[string]string // id -> name, as acknowledged
	touched   map[string]bool   // ids whose deletion was asked for
	deleted   map[string]bool   // ids whose deletion was acknowledged
}

func play(t *testing.T, h history) []string {
	w := newWorld(t, memory.New(), 2)
	w.ahead = true
	s := &stage{world: w, h: h, created: map[string]string{}, touched: map[string]bool{}, deleted: map[string]bool{}}
	var wg sync.WaitGroup
	for i, acts := range h.Acts {
		rng := rand.New(rand.NewPCG(h.Seed, uint64(i)))
		wg.Go(func() {
			for _, a := range acts {
				time.Sleep(time.Duration(rng.IntN(100)) * time.Millisecond)
				s.perform(a, i, rng)
			}
		})
	}
	wg.Wait()
	time.Sleep(time.Second) // what is still on its way
	for node := range w.engines {
		s.comeBack(node, w.repo)
	}
	w.sweepAll()
	return append(w.audit(), s.promises()...)
}

// controllerOf returns a caller's controller; one that died is started again.
func (s *stage) controllerOf(i int) (*Controller, *process) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i %= len(s.running)
	if s.running[i] == nil || s.processes[i].died() {
		s.processes[i] = weather(rand.New(rand.NewPCG(s.h.Seed, uint64(100+i))), s.h.Lives[i])
		s.running[i] = s.world.controller(s.processes[i])
	}
	return s.running[i], s.processes[i]
}

func (s *stage) perform(a act, caller int, rng *rand.Rand) {
	timeout := time.Minute
	if a.Hurried {
		timeout = time.Duration(10+rng.IntN(200)) * time.Millisecond
	}
	ctx, cancel := context.WithTimeout(s.t.Context(), timeout)
	defer cancel()
	node := volume.NodeID(fmt.Sprintf("n%d", a.Node))
	c, _ := s.controllerOf(caller)
	switch a.What {
	case "down":
		s.engines[node].set(func() { s.engines[node].down = true })
	case "up", "return":
		s.comeBack(node, s.repo)
	case "retire":
		s.engines[node].set(func() { s.engines[node].down = true })
		must(s.t, Retire(s.t.Context(), s.repo, node, time.Now()))
	case "sweep":
		_ = c.Sweep(ctx)
	default:
		for range 1 + rng.IntN(4) { // a caller repeats what failed
			c, _ = s.controllerOf(caller)
			if err := s.call(ctx, c, a, node); err == nil || !mayRun(err) {
				return
			}
			time.Sleep(time.Duration(rng.IntN(500)) * time.Millisecond)
		}
	}
}

// comeBack starts a node's engine again, as an engine does it.
func (s *stage) comeBack(id volume.NodeID, repo *repository.Repository) {
	e := s.engines[id]
	e.set(func() { e.down = false })
	ctx := s.t.Context()
	backends := map[string]backend.Backend{volume.BackendLocal: e, volume.BackendObject: s.fronts[id]}
	n, err := repo.Nodes.Latest(ctx, string(id))
	must(s.t, err)
	if err := Exhume(ctx, repo, id, backends); err != nil && !fault.Is(err, fault.Transient) {
		s.t.Error(err) // Transient: another caller took the engine down again
	}
	must(s.t, Announce(ctx, repo, n.Value, false))
	if err := Exhume(ctx, repo, id, backends); err != nil && !fault.Is(err, fault.Transient) {
		s.t.Error(err)
	}
}

func (s *stage) call(ctx context.Context, c *Controller, a act, node volume.NodeID) error {
	name := fmt.Sprint(a.Name)
	v, _ := s.named("v" + name)
	switch a.What {
	case "create", "clone", "restore":
		return s.create(ctx, c, a, name)
	case "delete":
		return s.remove(v, func() error { return c.DeleteVolume(ctx, volume.ID(v)) })
	case "publish":
		_, err := c.Publish(ctx, PublishRequest{volume.ID(v), repository.Publication{Node: node, AccessMode: "SINGLE_NODE_WRITER"}})
		return err
	case "unpublish":
		return c.Unpublish(ctx, volume.ID(v), "")
	case "expand":
		_, err := c.ExpandVolume(ctx, volume.ID(v), volume.Range{RequiredBytes: int64(1+a.Node) * mib})
		return err
	case "snapshot":
		got, err := c.CreateSnapshot(ctx, CreateSnapshotRequest{Name: "s" + name, Volume: volume.ID(v)})
		return s.acknowledge(string(got.ID), "s"+name, err)
	case "deleteSnapshot":
		id, _ := s.named("s" + name)
		return s.remove(id, func() error { return c.DeleteSnapshot(ctx, c.Handle(volume.SnapshotID(id))) })
	case "group":
		return s.group(ctx, c, name)
	case "deleteGroup":
		id, _ := s.named("g" + name)
		return s.remove(id, func() error { return c.DeleteGroup(ctx, c.GroupHandle(volume.GroupID(id)), nil) })
	}
	panic(a.What)
}

func (s *stage) create(ctx context.Context, c *Controller, a act, name string) error {
	r := thick("v"+name, 0)
	if a.Name == 2 { // so a group may have members of both backends
		r.Class = shared("", 0).Class
	}
	r.Request.Range = volume.Range{RequiredBytes: mib, LimitBytes: 3 * mib}
	if a.What == "clone" {
		source, _ := s.named("v" + name)
		r.Name, r.Request.Source.Volume = "v"+name+"c", volume.ID(source)
	}
	if a.What == "restore" {
		source, _ := s.named("s" + name)
		r.Name, r.Request.Source.Snapshot = "v"+name+"r", c.Handle(volume.SnapshotID(source)).String()
		r.Request.Range = volume.Range{}
	}
	v, err := c.CreateVolume(ctx, r)
	return s.acknowledge(string(v.ID), r.Name, err)
}

func (s *stage) group(ctx context.Context, c *Controller, name string) error {
	r := CreateGroupRequest{Name: "g" + name}
	for i := range 3 {
		if v, ok := s.named(fmt.Sprint("v", i)); ok {
			r.Volumes = append(r.Volumes, volume.ID(v))
		}
	}
	g, _, err := c.CreateGroup(ctx, r)
	return s.acknowledge(string(g.ID), r.Name, err)
}

// named returns the id that a name was last acknowledged as, or one that is
// nothing's.
func (s *stage) named(name string) (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, n := range s.created {
		if n == name && !s.deleted[id] {
			return id, true
		}
	}
	return string(volume.NewID()), false
}

func (s *stage) acknowledge(id, name string, err error) error {
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.created[id] = name
	}
	return err
}

func (s *stage) remove(id string, do func() error) error {
	s.mu.Lock()
	s.touched[id] = true
	s.mu.Unlock()
	err := do()
	if err == nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.deleted[id] = true
	}
	return err
}

// promises reports what was acknowledged and did not last.
func (s *stage) promises() (faults []string) {
	for id, name := range s.created {
		err := s.look(id)
		if !s.touched[id] && err != nil {
			faults = append(faults, fmt.Sprintf("%s was acknowledged for %s and is lost: %v", id, name, err))
		}
		if s.deleted[id] && !fault.Is(err, fault.NotFound) {
			faults = append(faults, fmt.Sprintf("%s was deleted and is there: %v", id, err))
		}
	}
	return faults
}

func (s *stage) look(id string) (err error) {
	ctx := s.t.Context()
	switch id[0] {
	case 'v':
		_, err = s.c.Volume(ctx, volume.ID(id))
	case 's':
		_, err = s.c.Snapshot(ctx, s.c.Handle(volume.SnapshotID(id)))
	case 'g':
		_, _, err = s.c.Group(ctx, s.c.GroupHandle(volume.GroupID(id)))
	}
	return err
}
