package main

import (
	"context"
	"fmt"
	"os"

	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
)

// isDevice reports whether this process was started by an engine, for what is
// not to be in the engine's own. It is no command for people.
func isDevice() bool { return len(os.Args) > 1 && os.Args[1] == fuse.Command }

// device is the whole of such a process. It returns the exit code.
func device() int {
	if err := fuse.Run(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "holkas %s: %v\n", fuse.Command, err)
		return exitFailed
	}
	return exitOK
}
