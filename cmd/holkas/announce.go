package main

import (
	"context"
	"reflect"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
)

const (
	// lookEvery is the time between two looks at what the engine says of itself,
	// for a pool that came back. They cost the repository nothing.
	lookEvery = 30 * time.Second
	// announceRetry is the first pause after an attempt that did not succeed;
	// each next one is twice as long, up to announceRetryMax.
	announceRetry    = 100 * time.Millisecond
	announceRetryMax = 10 * time.Second
)

// announcer makes the node known to the controllers, through the repository. The
// data path does not wait for it: the repository's store may be away.
type announcer struct {
	open     func(ctx context.Context) (*repository.Repository, error)
	node     func(ctx context.Context) repository.Node
	backends map[string]backend.Backend
	oneDir   bool // the repository is a directory, which serves one machine

	repository *repository.Repository // once it could be opened
}

// run announces the node, and again when what it says changes, until ctx ends.
// It returns an error if the repository refuses the node (Precondition).
func (a *announcer) run(ctx context.Context) error {
	log := klog.FromContext(ctx)
	var said repository.Node
	pause := announceRetry
	for {
		wait := lookEvery
		node := a.node(ctx)
		if !sameButTime(said, node) {
			err := a.announce(ctx, node)
			switch {
			case err == nil:
				said, pause = node, announceRetry
				log.V(0).Info("Announced the node", "node", node.ID, "address", node.Address, "pools", node.Pools)
			case ctx.Err() != nil:
				return nil
			case fault.Is(err, fault.Precondition):
				return err
			default:
				log.Error(err, "Node is not announced: volumes can be used, but controllers do not know of it; trying again", "node", node.ID, "after", pause)
				wait, pause = pause, min(2*pause, announceRetryMax)
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(wait):
		}
	}
}

// announce executes tombstones before the controllers see the node, so that
// nothing deleted is ever seen again, and those that were written just then.
func (a *announcer) announce(ctx context.Context, node repository.Node) error {
	if a.repository == nil {
		r, err := a.open(ctx)
		if err != nil {
			return passing(err)
		}
		a.repository = r
	}
	if err := controller.Exhume(ctx, a.repository, node.ID, a.backends); err != nil {
		return passing(err)
	}
	if err := controller.Announce(ctx, a.repository, node, a.oneDir); err != nil {
		return err
	}
	return passing(controller.Exhume(ctx, a.repository, node.ID, a.backends))
}

// passing is an error that is no refusal, whatever its kind: it may be mended
// while the engine runs.
func passing(err error) error { return fault.As(fault.Transient, err) }

func sameButTime(a, b repository.Node) bool {
	a.Changed = b.Changed
	return reflect.DeepEqual(a, b)
}
