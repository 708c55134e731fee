package engine_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/memory"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
	"github.com/holkas-io/holkas/pkg/volume"
)

// The targets that are numbers of requests, and of journeys to the store and back:
// in a time of their own, in which nothing but the store takes any.

const rtt = 20 * time.Millisecond

// distant is a store that every request takes a journey to, and that counts them.
type distant struct {
	objstore.Store
	mu       sync.Mutex
	requests []string
	bytes    int // of segments, either way
}

func (s *distant) travel(ctx context.Context, op, key string, bytes int) {
	s.mu.Lock()
	s.requests = append(s.requests, op+" "+key)
	if strings.Contains(key, "/segments/") {
		s.bytes += bytes
	}
	s.mu.Unlock()
	select {
	case <-time.After(rtt):
	case <-ctx.Done():
	}
}

func (s *distant) Get(ctx context.Context, key string) ([]byte, error) {
	s.travel(ctx, "get", key, 0)
	return s.Store.Get(ctx, key)
}

func (s *distant) GetRange(ctx context.Context, key string, off, n int64) ([]byte, error) {
	s.travel(ctx, "get a part of", key, int(n))
	return s.Store.GetRange(ctx, key, off, n)
}

func (s *distant) Put(ctx context.Context, key string, b []byte) error {
	s.travel(ctx, "put", key, len(b))
	return s.Store.Put(ctx, key, b)
}

func (s *distant) Create(ctx context.Context, key string, b []byte) error {
	s.travel(ctx, "create", key, len(b))
	return s.Store.Create(ctx, key, b)
}

func (s *distant) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	s.travel(ctx, "list", o.Prefix, 0)
	return s.Store.List(ctx, o)
}

// cost is what something took.
type cost struct {
	requests, bytes int
	journeys        float64
}

// cost counts what f takes, and fails where that is more than it may be.
func (s *distant) cost(t *testing.T, what string, most cost, f func() error) {
	t.Helper()
	s.mu.Lock()
	s.requests, s.bytes = nil, 0
	s.mu.Unlock()
	began := time.Now()
	must(t, f())
	took := time.Since(began)
	s.mu.Lock()
	defer s.mu.Unlock()
	got := cost{len(s.requests), s.bytes, float64(took) / float64(rtt)}
	t.Logf("%s: %d requests, %.1f journeys, %d bytes of segments", what, got.requests, got.journeys, got.bytes)
	if got.requests > most.requests || got.journeys > most.journeys || got.bytes > most.bytes {
		t.Errorf("%s: got %+v, want at most %+v:\n%s", what, got, most, strings.Join(s.requests, "\n"))
	}
}

// far is an engine and a volume on a distant store.
type far struct {
	store *distant
	e     *engine.Engine
	o     engine.OpenOptions
}

// inBubble runs f in a time of its own, with a new log of so many blocks.
func inBubble(t *testing.T, blocks vlog.Block, f func(t *testing.T, x *far)) {
	synctest.Test(t, func(t *testing.T) {
		x := &far{store: &distant{Store: memory.New()}}
		e, err := engine.New(engine.Options{Storage: &simdisk.Disk{}})
		must(t, err)
		x.e, x.o = e, options(x.store, vlog.NewLogID(), blocks)
		must(t, engine.Create(t.Context(), x.store, x.o.Log, epoch.Base{Blocks: blocks, Time: time.Now()}))
		f(t, x)
		must(t, e.Close())
	})
}

func options(store objstore.Store, log vlog.LogID, blocks vlog.Block) engine.OpenOptions {
	return engine.OpenOptions{
		LogOptions: engine.LogOptions{Store: store, Log: log}, Volume: volume.NewID(), Blocks: blocks, Owner: "node",
		Journal: "/journal-" + log.String(), JournalBytes: 16 << 20, Durability: engine.JournalDurability,
	}
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

var block = func() []byte {
	b := make([]byte, vlog.BlockSize)
	for i := range b {
		b[i] = byte(i*i ^ i>>3)
	}
	return b
}()

// TestSnapshotJourneys (T13): a snapshot of a volume whose writes are uploaded is
// ready after three journeys: the seal, the checkpoint, the look for a successor.
func TestSnapshotJourneys(t *testing.T) {
	inBubble(t, tib, func(t *testing.T, x *far) {
		v, err := x.e.Open(t.Context(), x.o)
		must(t, err)
		snapshot := func() error {
			_, err := v.Snapshot(t.Context(), volume.NewSnapshotID())
			return err
		}
		write := func() {
			for i := range int64(100) {
				must(t, v.WriteAt(t.Context(), block, i*3<<30))
			}
		}
		write()
		must(t, v.Checkpoint(t.Context()))
		x.store.cost(t, "snapshot of an idle volume", cost{requests: 3, journeys: 3, bytes: 2048}, snapshot)
		write()
		must(t, v.Sync(t.Context()))
		x.store.cost(t, "snapshot of one with pages that changed", cost{requests: 5, journeys: 4, bytes: 2048}, snapshot)
		write()
		x.store.cost(t, "snapshot of one with 100 writes to upload", cost{requests: 5, journeys: 4, bytes: 500 << 10}, snapshot)
		must(t, v.Close(t.Context()))
	})
}

// TestCloneJourneys (T14, T15): a clone is made, and opened, and so is a snapshot, in
// as many requests whatever they hold.
func TestCloneJourneys(t *testing.T) {
	inBubble(t, tib, func(t *testing.T, x *far) {
		v, err := x.e.Open(t.Context(), x.o)
		must(t, err)
		for i := range int64(2000) {
			must(t, v.WriteAt(t.Context(), block, i*tibBytes/2000/vlog.BlockSize*vlog.BlockSize))
		}
		s, err := v.Snapshot(t.Context(), volume.NewSnapshotID())
		must(t, err)
		clone := options(x.store, vlog.NewLogID(), tib)
		x.store.cost(t, "create a clone", cost{requests: 2, journeys: 2}, func() error {
			return engine.Create(t.Context(), x.store, clone.Log, epoch.Base{From: x.o.Log, Head: s.Head, Checkpoint: s.Checkpoint, Blocks: s.Blocks, Time: time.Now()})
		})
		var c *engine.Volume
		x.store.cost(t, "open it", cost{requests: 11, journeys: 11}, func() (err error) {
			c, err = x.e.Open(t.Context(), clone)
			return err
		})
		x.store.cost(t, "first write", cost{}, func() error { return c.WriteAt(t.Context(), block, 0) })
		p := make([]byte, vlog.BlockSize)
		x.store.cost(t, "first read", cost{requests: 3, journeys: 3, bytes: 8192}, func() error {
			return c.ReadAt(t.Context(), p, tibBytes/2000/vlog.BlockSize*vlog.BlockSize)
		})
		must(t, c.Close(t.Context()))
		x.store.cost(t, "open a snapshot, to its first byte", cost{requests: 4, journeys: 4, bytes: 8192}, func() error {
			w, err := x.e.View(t.Context(), engine.ViewOptions{LogOptions: x.o.LogOptions, At: s.Head.Position, Checkpoint: s.Checkpoint})
			if err == nil {
				defer w.Close()
				err = w.ReadAt(t.Context(), p, 0)
			}
			return err
		})
		must(t, v.Close(t.Context()))
		x.store.cost(t, "open a volume that was closed", cost{requests: 15, journeys: 15}, func() (err error) {
			v, err = x.e.Open(t.Context(), x.o)
			return err
		})
		must(t, v.Close(t.Context()))
	})
}

// TestIdle (T22): a volume that has settled asks nothing of the store, with a lease
// neither.
func TestIdle(t *testing.T) {
	for _, rollback := range []bool{false, true} {
		inBubble(t, tib, func(t *testing.T, x *far) {
			x.o.TakeOver, x.o.Rollback = rollback, rollback
			v, err := x.e.Open(t.Context(), x.o)
			must(t, err)
			for i := range int64(1000) {
				must(t, v.WriteAt(t.Context(), block, i%100<<30))
			}
			must(t, v.Flush(t.Context()))
			time.Sleep(10 * time.Minute)
			x.store.cost(t, "idle for ten minutes", cost{journeys: float64(10 * time.Minute / rtt)}, func() error {
				time.Sleep(10 * time.Minute)
				return nil
			})
			must(t, v.Close(t.Context()))
		})
	}
}
