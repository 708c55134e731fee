package engine

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// counting counts ranged reads.
type counting struct {
	objstore.Store
	ranges atomic.Int64
}

func (c *counting) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	c.ranges.Add(1)
	return c.Store.GetRange(ctx, key, offset, length)
}

// TestFull: a volume that is to be wholly on the node is brought there, and is then
// read without the store; what is stored later is there too.
func TestFull(t *testing.T) {
	h := newHouse(t)
	v := h.open()
	for b := range vlog.Block(1000) {
		h.write(v, b*4, 1)
	}
	must(t, v.Close(h.ctx))

	c, err := cache.Open(h.ctx, cache.Options{Path: "/cache", SizeBytes: 32 << 20, Storage: h.disk})
	must(t, err)
	defer c.Abandon()
	store := &counting{Store: h.store}
	o := h.options()
	o.Store, o.Cache, o.Full = store, c, true
	v, err = h.e.Open(h.ctx, o)
	must(t, err)
	for !v.State().Filled {
		time.Sleep(time.Millisecond) // poll
	}
	h.write(v, 2, 2)
	must(t, v.Sync(h.ctx))
	before := store.ranges.Load()
	if before == 0 {
		t.Error("nothing was brought")
	}
	for b := range vlog.Block(1000) {
		h.has(v, b*4, 1)
	}
	h.has(v, 2, 2)
	if n := store.ranges.Load() - before; n != 0 {
		t.Errorf("%d reads of the store, want none", n)
	}
	must(t, v.Close(h.ctx))
}
