package retry_test

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
)

// TestRacingCreators plays the rule of the package: creators race for a key over a
// store that loses replies, delivers late and twice, and is silent. Whatever each
// is told must agree with what the object is once all has arrived.
func TestRacingCreators(t *testing.T) {
	told := map[string]int{}
	for seed := range seeds(1500, 200_000) {
		synctest.Test(t, func(t *testing.T) { race(t, seed, told) })
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
	t.Logf("creators were told: %v", told)
	for _, outcome := range []string{"won", "lost", "unknown"} {
		if told[outcome] == 0 {
			t.Errorf("nobody was ever told %q: the test shows nothing", outcome)
		}
	}
}

func race(t *testing.T, seed uint64, told map[string]int) {
	const creators, rounds = 4, 3
	m := memory.New()
	store := faults.New(m, faults.Random(seed, faults.Rates{
		Before: 0.1, Lost: 0.2, Throttled: 0.05, Silence: 0.1, Delay: 0.1, Late: 0.1, Again: 0.1, MaxDelay: 3 * time.Second,
	}))
	for round := range rounds {
		key := fmt.Sprintf("slot/%d", round)
		results := make([]error, creators)
		var all sync.WaitGroup
		for i := range results {
			all.Go(func() {
				s, err := retry.New(store, retry.Options{Try: time.Second, Total: time.Duration(i+1) * 2 * time.Second})
				if err != nil {
					t.Error(err)
					return
				}
				results[i] = s.Create(t.Context(), key, fmt.Appendf(nil, "creator %d", i))
			})
		}
		all.Wait()
		store.Wait()
		body, err := m.Get(t.Context(), key)
		if err != nil {
			body = nil
		}
		for i, result := range results {
			isMine := string(body) == fmt.Sprintf("creator %d", i)
			switch {
			case result == nil && !isMine:
				t.Errorf("%s: creator %d was told that it won; the object is %q", key, i, body)
			case fault.Is(result, fault.Exists) && (isMine || body == nil):
				t.Errorf("%s: creator %d was told that it lost; the object is %q", key, i, body)
			case result == nil:
				told["won"]++
			case fault.Is(result, fault.Exists):
				told["lost"]++
			case fault.Is(result, fault.Transient):
				told["unknown"]++
			default:
				t.Errorf("%s: creator %d: %v", key, i, result)
			}
		}
	}
}
