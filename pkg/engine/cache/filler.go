package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// filler is the one goroutine of a cache: it writes what was fetched, and now and
// then the index.
type filler struct {
	queue chan *flight
	bytes atomic.Int64
	limit int64
	wake  chan struct{} // has one if something was written since
	stop  chan struct{}
	runs  sync.WaitGroup
}

// maxPending is how many flights wait at most, whatever their bytes.
const maxPending = 1024

func (f *filler) begin(c *Cache) {
	f.queue, f.stop, f.limit = make(chan *flight, maxPending), make(chan struct{}), c.options.PendingBytes
	f.wake = make(chan struct{}, 1)
	f.runs.Go(func() { f.run(c) })
}

// offer hands a flight over, unless too much is waiting.
func (f *filler) offer(one *flight) bool {
	n := int64(len(one.data))
	if f.bytes.Add(n) <= f.limit {
		select {
		case f.queue <- one:
			return true
		default:
		}
	}
	f.bytes.Add(-n)
	return false
}

func (f *filler) pending() int64 { return f.bytes.Load() }

func (f *filler) run(c *Cache) {
	// The index is stored some time after the first fill since it last was, so that
	// a cache that nobody fills does nothing.
	save := time.NewTimer(0)
	save.Stop()
	defer save.Stop()
	armed := false
	for {
		select {
		case <-f.stop:
			return
		case one := <-f.queue:
			c.store(one.object, one.at, one.data, func() bool { return c.flights.isDoomed(one) })
			c.flights.leave(one)
			f.bytes.Add(-int64(len(one.data)))
		case <-save.C:
			armed = false
			_ = c.save(context.Background()) // Health says what is wrong
			continue
		case <-f.wake:
		}
		if !armed {
			armed = true
			save.Reset(c.options.SaveEvery)
		}
	}
}

// end stops the goroutine and lets go of what waits.
func (f *filler) end() {
	close(f.stop)
	f.runs.Wait()
	for {
		select {
		case one := <-f.queue:
			f.bytes.Add(-int64(len(one.data)))
		default:
			return
		}
	}
}
