package cache

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// How long the file is left alone after an error: doubled each time in between.
const (
	firstRest = time.Second
	longRest  = 5 * time.Minute
)

// breaker keeps everybody away from a file that fails, but for a try now and
// then.
type breaker struct {
	what string
	now  func() time.Time
	open atomic.Bool // whether the file is left alone

	mu    sync.Mutex
	err   error // why
	since time.Time
	rest  time.Duration
	until time.Time
	dead  bool // for good
	short error
}

// usable reports whether the file may be used; for the one who may try it if it
// failed.
func (b *breaker) usable() bool {
	if !b.open.Load() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.dead || b.now().Before(b.until) {
		return false
	}
	b.until = b.now().Add(b.rest)
	return true
}

// done takes the outcome of a use of the file.
func (b *breaker) done(err error) {
	if err == nil && !b.open.Load() {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		if !b.dead {
			b.open.Store(false)
			b.rest = 0
		}
		return
	}
	if !b.open.Load() {
		b.since = b.now()
	}
	b.err, b.rest = err, min(max(firstRest, 2*b.rest), longRest)
	b.until = b.now().Add(b.rest)
	b.open.Store(true)
}

// die leaves the file alone for good.
func (b *breaker) die(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.err, b.since, b.dead = err, b.now(), true
	b.open.Store(true)
}

// shrunk notes that the file could not have the size that was asked for.
func (b *breaker) shrunk(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.short = err
}

// health returns why the cache is not what it should be.
func (b *breaker) health() Health {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open.Load() {
		return Health{Bypassed: true, Err: fault.Wrap(fault.New(fault.KindOf(b.err), "not used since %s, reads go to the store: %w", b.since.UTC().Format(time.RFC3339), b.err), "cache", b.what)}
	}
	return Health{Err: fault.Wrap(b.short, "cache", b.what)}
}
