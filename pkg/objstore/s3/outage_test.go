package s3

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/retry"
	"github.com/holkas-io/holkas/pkg/objstore/s3/s3test"
)

// TestOutage kills a real server again and again under creators that race for keys,
// and starts it again: each key has one winner, whose bytes it holds.
func TestOutage(t *testing.T) {
	const creators, keys, kills = 4, 60, 3
	own, err := s3test.Start("-delay", "2ms")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Stop)
	if err := own.Bucket("outage"); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{
		Endpoint: own.Endpoint, Bucket: "outage", AllowHTTP: true,
		Credentials: Credentials{AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey},
	})
	store, err := retry.New(s, retry.Options{MaxWait: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	winners := make([][]string, keys)
	reached := make(chan int, creators*keys)
	var all sync.WaitGroup
	for c := range creators {
		all.Go(func() {
			for k := range keys {
				body := fmt.Sprintf("creator %d of key %d", c, k)
				err := store.Create(t.Context(), fmt.Sprintf("k/%03d", k), []byte(body))
				mu.Lock()
				if err == nil {
					winners[k] = append(winners[k], body)
				} else if outcome(err) != "exists" {
					t.Errorf("create: %v", err)
				}
				mu.Unlock()
				reached <- k
			}
		})
	}
	for kill := range kills {
		for k := -1; k < (kill+1)*keys/(kills+1); k = <-reached {
		}
		own.Kill()
		if err := own.Restart(); err != nil {
			t.Fatal(err)
		}
	}
	all.Wait()
	for k, won := range winners {
		body, err := store.Get(t.Context(), fmt.Sprintf("k/%03d", k))
		if err != nil || len(won) != 1 || won[0] != string(body) {
			t.Errorf("key %d: winners %q; the object is %q, %v", k, won, body, err)
		}
	}
	if page, err := store.List(t.Context(), objstore.ListOptions{}); err != nil || len(page.Objects) != keys {
		t.Errorf("listed %d, %v; want %d", len(page.Objects), err, keys)
	}
}

// TestFarAway has a server with a delay be that far away, and not farther.
func TestFarAway(t *testing.T) {
	own, err := s3test.Start("-delay", "50ms", "-bandwidth", "100e6")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(own.Stop)
	if err := own.Bucket("far"); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{
		Endpoint: own.Endpoint, Bucket: "far", AllowHTTP: true,
		Credentials: Credentials{AccessKeyID: s3test.AccessKeyID, SecretAccessKey: s3test.SecretAccessKey},
	})
	began := time.Now()
	if err := s.Create(t.Context(), "a", make([]byte, 4<<20)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < 90*time.Millisecond {
		t.Errorf("4 MiB at 100 MB/s and 50ms took %s: want 92ms or more", took)
	}
}
