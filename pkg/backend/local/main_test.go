package local

import (
	"flag"
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests, or, as the child that one of them has started, a
// single operation that may die.
func TestMain(m *testing.M) {
	if order := os.Getenv(childOrder); order != "" {
		os.Exit(child(order))
	}
	flag.Parse()
	if runtime.GOMAXPROCS(0) == flag.Lookup("test.parallel").Value.(flag.Getter).Get() {
		_ = flag.Set("test.parallel", "8") // they wait for disks, not for processors
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built {
			binary, _ := mortal()
			os.RemoveAll(filepath.Dir(binary))
		}
		os.Exit(code)
	}))
}
