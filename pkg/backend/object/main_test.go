package object

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
	"github.com/holkas-io/holkas/pkg/vlog/keyring"
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
	if order := os.Getenv(childOrder); order != "" {
		os.Exit(child(order))
	}
	// The keeper of devices is waited for as long as this process lives.
	keeper := goleak.IgnoreAnyFunction("github.com/holkas-io/holkas/pkg/blockdev/fuse.(*hold).start.func1")
	goleak.VerifyTestMain(m, keeper, goleak.Cleanup(func(code int) {
		if built {
			binary, _ := mortal()
			os.RemoveAll(filepath.Dir(binary))
		}
		os.Exit(code)
	}))
}

func nokeys() (keyring.Keys, error) { return keyring.Keys{}, nil }

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
