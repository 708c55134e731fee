package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

type retireOptions struct {
	catalogue catalogue
	yes       bool
}

func retireCommand() command {
	var o retireOptions
	s := &config.Set{}
	o.catalogue.add(s)
	config.AddOne(s, config.One[bool]{Name: "yes", Usage: "do not ask", Into: &o.yes, Parse: parseBool})
	return command{
		name: "retire", argument: "NODE", short: "Say that a node is gone",
		long: "Says that a node is gone and is not waited for: its volumes and snapshots can be deleted,\n" +
			"and volumes unpublished from it. Nothing on the node is touched; if its engine starts\n" +
			"again, it first deletes what was deleted meanwhile, and is then a node as before.\n" +
			"Retire a node only if it is off, or cut off: what still runs there goes on writing.",
		example: "  holkas retire node-1 --repository=dir:/var/lib/holkas/repository\n" +
			"  holkas retire node-1 --repository=dir:/var/lib/holkas/repository --yes\n" +
			"  holkas retire node-1 --repository='s3://bucket/site-1?region=eu-central-1'",
		settings: s,
		run:      func(ctx context.Context, s streams, name string) error { return retire(ctx, s, name, o) },
	}
}

func retire(ctx context.Context, s streams, name string, o retireOptions) error {
	id, err := volume.ParseNodeID(name)
	if err != nil {
		return config.Faults{fmt.Errorf("NODE: %w", err)}
	}
	repositories, err := o.catalogue.opener(prometheus.NewRegistry())
	if err != nil {
		return err
	}
	defer repositories.close()
	r, err := repositories.open(ctx)
	if err != nil {
		return err
	}
	node, err := r.Nodes.Latest(ctx, string(id))
	if fault.Is(err, fault.NotFound) {
		known, err := knownNodes(ctx, r)
		return errors.Join(err, fmt.Errorf("node %q: the repository has no such node: want one of %s", id, strings.Join(known, ", ")))
	}
	if err != nil {
		return err
	}
	if node.Value.Retired {
		fmt.Fprintf(s.out, "node %q was retired on %s\n", id, node.Value.Changed.Format(time.RFC3339))
		return nil
	}
	fmt.Fprintf(s.out, "node %q, engine at %s, announced on %s\n", id, node.Value.Address, node.Value.Changed.Format(time.RFC3339))
	if !o.yes && !confirmed(ctx, s) {
		return errors.New("nothing was changed: answer \"yes\", or give --yes")
	}
	if err := controller.Retire(ctx, r, id, time.Now()); err != nil {
		return err
	}
	fmt.Fprintf(s.out, "node %q is retired\n", id)
	return nil
}

// confirmed asks, until there is an answer or an interrupt.
func confirmed(ctx context.Context, s streams) bool {
	fmt.Fprint(s.out, "Is it off, or cut off for good? Its volumes will be counted as gone. [yes/no] ")
	answer := make(chan string, 1)
	go func() {
		line, _ := bufio.NewReader(s.in).ReadString('\n')
		answer <- strings.TrimSpace(line)
	}()
	select {
	case <-ctx.Done():
		return false
	case said := <-answer:
		return said == "yes"
	}
}

func knownNodes(ctx context.Context, r *repository.Repository) (known []string, err error) {
	for after := ""; ; {
		page, next, err := r.Nodes.List(ctx, after, 0)
		if err != nil {
			return known, err
		}
		for _, n := range page {
			known = append(known, fmt.Sprintf("%q", n.Value.ID))
		}
		if next == "" {
			return known, nil
		}
		after = next
	}
}
