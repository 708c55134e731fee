// Package e2e tests what csi-sanity does not reach, over sockets against real
// processes: the content of snapshots, groups, deltas, paging, duplicates, many
// volumes at once, several nodes.
package e2e

import (
	"fmt"
	"os"
	"testing"

	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/build"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

var program string

func TestMain(m *testing.M) {
	built, remove, err := build.Holkas("")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = built
	code := m.Run()
	remove()
	os.Exit(code)
}

// onEach runs a test of volumes on a site of its own for each kind of them.
func onEach(t *testing.T, sizeBytes int64, test func(l *lab.Lab, kind lab.Kind)) {
	for _, kind := range lab.Kinds {
		t.Run(string(kind), func(t *testing.T) { test(lab.On(t, kind, program, sizeBytes), kind) })
	}
}

// onEachPool runs a test on a site of its own for each pool type.
func onEachPool(t *testing.T, sizeBytes int64, test func(l *lab.Lab, pool volume.PoolType)) {
	for _, pool := range lab.PoolTypes {
		t.Run(string(pool), func(t *testing.T) { test(lab.Start(t, lab.Pool(program, pool, sizeBytes)), pool) })
	}
}
