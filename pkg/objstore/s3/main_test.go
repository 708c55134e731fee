package s3

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
)

// server is the real one, for all tests.
var server *s3test.Server

func TestMain(m *testing.M) {
	var err error
	if server, err = s3test.Start(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	server.Stop()
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}
