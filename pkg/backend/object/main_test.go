package object

import (
	"context"
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
)

// TestMain runs the tests, or, as a child that a front-end has started, what must
// not be in its process.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == fuse.Command {
		if err := fuse.Run(context.Background(), os.Args[2:], os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
