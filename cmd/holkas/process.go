package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"k8s.io/klog/v2"
)

// stopLimit is how long a process may take to end in order: longer than the
// services wait for their calls, and less than the 30 s that Kubernetes leaves.
const stopLimit = 25 * time.Second

// part is one of the things that a process does at the same time.
type part struct {
	name string
	run  func(ctx context.Context) error // until ctx ends; it then returns nil
}

// runParts runs the parts of a process until ctx ends or one of them does, asks
// the others to end, and waits for them, but no longer than limit. It returns
// the errors of all that ended badly, the first first.
func runParts(ctx context.Context, limit time.Duration, parts ...part) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type end struct {
		name string
		err  error
	}
	ends, running := make(chan end, len(parts)), map[string]bool{}
	for _, p := range parts {
		running[p.name] = true
		go func() { ends <- end{p.name, p.run(ctx)} }()
	}
	var first error
	var late <-chan time.Time
	stopping := ctx.Done()
	for len(running) > 0 {
		select {
		case e := <-ends:
			delete(running, e.name)
			if e.err == nil && ctx.Err() == nil {
				e.err = errors.New("ended by itself")
			}
			if e.err != nil {
				first = errors.Join(first, fmt.Errorf("%s: %w", e.name, e.err))
			}
			cancel()
		case <-stopping:
			stopping, late = nil, time.After(limit)
			klog.FromContext(ctx).V(0).Info("Stopping", "limit", limit)
		case <-late:
			return errors.Join(first, fmt.Errorf("did not end within %s: %v", limit, slices.Sorted(maps.Keys(running))))
		}
	}
	return first
}
