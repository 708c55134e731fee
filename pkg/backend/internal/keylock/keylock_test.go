package keylock

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

func TestWaiterNamesTheHolder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var l Locks[string]
		unlock, err := l.Lock(t.Context(), "v", "expanding")
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = l.Lock(ctx, "v", "deleting")
		if !fault.Is(err, fault.Busy) || !strings.Contains(err.Error(), "expanding") {
			t.Errorf("second lock: %v, want busy, naming the expansion", err)
		}
		if _, err := l.Lock(ctx, "w", "deleting"); err != nil {
			t.Errorf("lock of another key: %v, want it", err)
		}
		unlock()
		unlock() // twice is once
		again, err := l.Lock(t.Context(), "v", "deleting")
		if err != nil {
			t.Fatal(err)
		}
		again()
		if len(l.locks) != 1 {
			t.Errorf("%d locks remembered, want only the one that is held", len(l.locks))
		}
	})
}

func TestOneAtATime(t *testing.T) {
	var l Locks[int]
	var wg sync.WaitGroup
	inside := 0
	for range 16 {
		wg.Go(func() {
			for range 100 {
				unlock, err := l.Lock(t.Context(), 1, "counting")
				if err != nil {
					t.Error(err)
					return
				}
				inside++
				unlock()
			}
		})
	}
	wg.Wait()
	if inside != 1600 || len(l.locks) != 0 {
		t.Errorf("counted %d with %d locks left, want 1600 and none", inside, len(l.locks))
	}
}
