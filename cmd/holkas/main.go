// Holkas is a CSI storage driver that keeps stateful data portable. This is its
// one program: each process of an installation is a subcommand.
package main

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	if isDevice() {
		os.Exit(device())
	}
	// A second signal changes nothing: what ends is bounded in time, and what it
	// takes away it takes away whole. A closed terminal is like an interrupt.
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// A closed pipe behind the output is an error of writing, not death.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
