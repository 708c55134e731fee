package local

import (
	"os"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// TestMain runs the tests, or, as the child that one of them has started, a
// single operation that may die.
func TestMain(m *testing.M) {
	if order := os.Getenv(childOrder); order != "" {
		os.Exit(child(order))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if built {
			binary, _ := mortal()
			os.RemoveAll(filepath.Dir(binary))
		}
		os.Exit(code)
	}))
}
