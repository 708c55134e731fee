package retry_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/objstoretest"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seeds returns how many seeds a test plays.
func seeds(usual, soak int) uint64 {
	if os.Getenv("HOLKAS_SOAK") != "" {
		return uint64(soak)
	}
	return uint64(usual)
}

func wrap(t *testing.T, inner objstore.Store, o retry.Options) *retry.Store {
	t.Helper()
	s, err := retry.New(inner, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestContract has the contract hold over a store of which nearly every other
// request fails before or after it took effect.
func TestContract(t *testing.T) {
	hasty := retry.Options{Try: 20 * time.Millisecond, Total: time.Minute, Wait: time.Microsecond, MaxWait: 10 * time.Microsecond}
	rates := faults.Rates{Before: 0.15, Lost: 0.2, Throttled: 0.05, Silence: 0.001, Delay: 0.05, MaxDelay: 100 * time.Microsecond}
	for seed := range seeds(2, 20) {
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			objstoretest.Run(t, func(t *testing.T) objstore.Store {
				return wrap(t, faults.New(memory.New(), faults.Random(seed, rates)), hasty)
			})
		})
	}
}

// TestContractWithoutFaults has the wrapper itself keep to the contract.
func TestContractWithoutFaults(t *testing.T) {
	objstoretest.Run(t, func(t *testing.T) objstore.Store { return wrap(t, memory.New(), retry.Options{}) })
}
