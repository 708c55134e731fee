package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

// operation is something that a controller may die in.
type operation struct {
	name string
	// prepare makes what the operation needs; do runs it, repeatedly with the
	// same result; done sees that it has happened.
	prepare func(w *world)
	do      func(ctx context.Context, c *Controller, w *world) (string, error)
	done    func(w *world) error
}

func firstVolume(w *world) repository.Volume {
	page, _, err := w.c.Volumes(w.t.Context(), "", 1)
	if err != nil || len(page) == 0 {
		w.t.Fatal("no volume", err)
	}
	return page[0]
}

func group(w *world) CreateGroupRequest {
	page, _, err := w.c.Volumes(w.t.Context(), "", 0)
	must(w.t, err)
	r := CreateGroupRequest{Name: "group", Consistency: volume.FilesystemConsistent}
	for _, v := range page {
		r.Volumes = append(r.Volumes, v.ID)
	}
	return r
}

func twoVolumes(w *world) {
	for _, node := range []volume.NodeID{"n1", "n2"} {
		r := thick("on "+string(node), mib)
		r.Topology.Requisite = []volume.NodeID{node}
		w.volume(r)
	}
}

func nothing(*world) error { return nil }

func operations() []operation {
	one := func(w *world) { w.volume(thick("one", mib)) }
	var target string // set by prepare
	return []operation{{
		"CreateVolume", func(*world) {},
		func(ctx context.Context, c *Controller, _ *world) (string, error) {
			v, err := c.CreateVolume(ctx, thick("new", mib))
			return fmt.Sprint(v), err
		}, nothing,
	}, {
		"CreateVolume after a full node", func(w *world) { w.engines["n1"].capacity = 4096 },
		func(ctx context.Context, c *Controller, _ *world) (string, error) {
			r := thick("new", mib)
			r.Topology.Preferred = []volume.NodeID{"n1", "n2"}
			v, err := c.CreateVolume(ctx, r)
			return fmt.Sprint(v), err
		}, nothing,
	}, {
		"CreateVolume shared", func(*world) {},
		func(ctx context.Context, c *Controller, _ *world) (string, error) {
			v, err := c.CreateVolume(ctx, shared("new", mib))
			return fmt.Sprint(v), err
		}, nothing,
	}, {
		"DeleteVolume shared", func(w *world) { target = string(w.volume(shared("one", mib)).ID) },
		func(ctx context.Context, c *Controller, _ *world) (string, error) {
			return "", c.DeleteVolume(ctx, volume.ID(target))
		},
		func(w *world) error { return gone(w.c.Volume(w.t.Context(), volume.ID(target))) },
	}, {
		"CreateGroup of both backends", func(w *world) { twoVolumes(w); w.volume(shared("shared", mib)) },
		func(ctx context.Context, c *Controller, w *world) (string, error) {
			g, members, err := c.CreateGroup(ctx, group(w))
			return fmt.Sprint(g, members), err
		}, nothing,
	}, {
		"CreateVolume clone", one,
		func(ctx context.Context, c *Controller, w *world) (string, error) {
			r := thick("clone", mib)
			for _, page := range [][]repository.Volume{mustPage(w)} {
				for _, v := range page {
					if v.Name == "one" {
						r.Request.Source.Volume = v.ID
					}
				}
			}
			v, err := c.CreateVolume(ctx, r)
			return fmt.Sprint(v), err
		}, nothing,
	}, {
		"DeleteVolume", func(w *world) { one(w); target = string(firstVolume(w).ID) },
		func(ctx context.Context, c *Controller, _ *world) (string, error) {
			return "", c.DeleteVolume(ctx, volume.ID(target))
		},
		func(w *world) error { return gone(w.c.Volume(w.t.Context(), volume.ID(target))) },
	}, {
		"ExpandVolume", one,
		func(ctx context.Context, c *Controller, w *world) (string, error) {
			v, err := c.ExpandVolume(ctx, firstVolume(w).ID, volume.Range{RequiredBytes: 2 * mib})
			return fmt.Sprint(v.SizeBytes), err
		}, nothing,
	}, {
		"ModifyVolume", func(w *world) {
			r := thick("thin", mib)
			r.Class.Provisioning = volume.Thin
			w.volume(r)
		},
		func(ctx context.Context, c *Controller, w *world) (string, error) {
			p := volume.Thick
			return "", c.ModifyVolume(ctx, firstVolume(w).ID, volume.Mutable{Provisioning: &p})
		},
		func(w *world) error {
			if v := firstVolume(w); v.Class.Provisioning != volume.Thick {
				return fmt.Errorf("%+v", v)
			}
			return nil
		},
	}, {
		"Publish", one,
		func(ctx context.Context, c *Controller, w *world) (string, error) {
			v := firstVolume(w)
			v, err := c.Publish(ctx, PublishRequest{v.ID, repository.Publication{Node: v.Node, AccessMode: "SINGLE_NODE_WRITER"}})
			return fmt.Sprint(v), err
		}, nothing,
	}, {
		"CreateSnapshot", one,
		func(ctx context.Context, c *Controller, w *world) (string, error) {
			s, err := c.CreateSnapshot(ctx, CreateSnapshotRequest{Name: "snap", Volume: firstVolume(w).ID})
			return fmt.Sprint(s), err
		}, nothing,
	}, {
		"DeleteSnapshot", func(w *world) { one(w); target = string(w.snapshot("snap", firstVolume(w).ID).ID) },
		func(ctx context.Context, c *Controller, _ *world) (string, error) {
			return "", c.DeleteSnapshot(ctx, c.Handle(volume.SnapshotID(target)))
		},
		func(w *world) error {
			return gone(w.c.Snapshot(w.t.Context(), w.c.Handle(volume.SnapshotID(target))))
		},
	}, {
		"CreateGroup", twoVolumes,
		func(ctx context.Context, c *Controller, w *world) (string, error) {
			g, members, err := c.CreateGroup(ctx, group(w))
			return fmt.Sprint(g, members), err
		}, nothing,
	}, {
		"DeleteGroup", func(w *world) {
			twoVolumes(w)
			g, _, err := w.c.CreateGroup(w.t.Context(), group(w))
			must(w.t, err)
			target = string(g.ID)
		},
		func(ctx context.Context, c *Controller, _ *world) (string, error) {
			return "", c.DeleteGroup(ctx, c.GroupHandle(volume.GroupID(target)), nil)
		},
		func(w *world) error {
			_, _, err := w.c.Group(w.t.Context(), w.c.GroupHandle(volume.GroupID(target)))
			return gone(0, err)
		},
	}}
}

func mustPage(w *world) []repository.Volume {
	page, _, err := w.c.Volumes(w.t.Context(), "", 0)
	must(w.t, err)
	return page
}

func gone[T any](_ T, err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return fmt.Errorf("want NotFound, got: %w", err)
}

// TestDeathAtEveryStep lets a controller die before and after each effect that
// an operation has on the store or on an engine, for every one of them; the
// number of steps ends the walk by itself. What follows is a retry on another
// controller, or nothing but sweeps.
func TestDeathAtEveryStep(t *testing.T) {
	for _, op := range operations() {
		for _, retry := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s/retry=%t", op.name, retry), func(t *testing.T) {
				steps := 0
				for done := false; !done; steps++ {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t, memory.New(), 2)
						op.prepare(w)
						done = die(t, w, op, steps, retry)
					})
				}
				if steps < 3 {
					t.Errorf("%d steps: want more than the walk's own", steps)
				}
			})
		}
	}
}

// die runs an operation that dies after some steps, and reports whether it had
// no more steps than that.
func die(t *testing.T, w *world, op operation, steps int, retry bool) bool {
	p := mortal(steps)
	acknowledged, err := op.do(t.Context(), w.controller(p), w)
	if !p.died() && err != nil {
		t.Fatalf("%d steps: %v", steps, err)
	}
	if retry {
		again, err := op.do(t.Context(), w.controller(immortal()), w)
		if err != nil {
			t.Fatalf("died after %d steps; retry: %v", steps, err)
		}
		if !p.died() && again != acknowledged {
			t.Errorf("the reply to a retry is %s, to the first call it was %s", again, acknowledged)
		}
		if err := op.done(w); err != nil {
			t.Errorf("died after %d steps; after the retry: %v", steps, err)
		}
	}
	if op.name == "ExpandVolume" || op.name == "ModifyVolume" {
		if !retry { // the engine may be ahead of the record until a retry
			return !p.died()
		}
	}
	w.sweepAll()
	w.clean(fmt.Sprintf("died after %d steps", steps))
	return !p.died()
}
