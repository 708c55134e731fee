package cache

import (
	"errors"
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

var errResting = errors.New("the file failed and is left alone for now")

// breaker keeps everybody from reading, or from writing, a file that fails, but
// for a try now and then.
type breaker struct {
	now  func() time.Time
	open atomic.Bool // whether the file is left alone

	mu    sync.Mutex
	err   error // why
	since time.Time
	rest  time.Duration
	until time.Time
	dead  bool // for good
}

// usable reports whether the file works, or may be tried again.
func (b *breaker) usable() bool {
	if !b.open.Load() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.restedLocked()
}

func (b *breaker) restedLocked() bool { return !b.dead && !b.now().Before(b.until) }

// take is usable for who uses the file at once, and says how that went: of a file
// that failed only one at a time.
func (b *breaker) take() bool {
	if !b.open.Load() {
		return true
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.restedLocked() {
		return false
	}
	b.until = b.now().Add(b.rest)
	return true
}

// done takes the outcome of a use of the file, after take.
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

// health returns why the file is left alone, with what it means; nil if it is not.
func (b *breaker) health(meaning string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open.Load() {
		return nil
	}
	return fault.New(fault.KindOf(b.err), "%s since %s: %w", meaning, b.since.UTC().Format(time.RFC3339), b.err)
}

// Health says whether the cache is what it should be. Nothing that is wrong with
// it makes a read fail.
type Health struct {
	// ReadsBypassed means that reads go to the store, WritesBypassed that nothing
	// new is kept: the file fails.
	ReadsBypassed, WritesBypassed bool
	// Err is what is wrong; nil if nothing is.
	Err error
}

// Health returns whether the cache is what it should be.
func (c *Cache) Health() Health {
	reads := c.reading.health("reads go to the store")
	writes := c.writing.health("nothing new is kept")
	err := reads
	if err == nil {
		err = writes
	}
	if short := c.short.Load(); err == nil && short != nil {
		err = *short
	}
	return Health{reads != nil, writes != nil, fault.Wrap(err, "cache", c.options.Path)}
}

// used takes the outcome of a use of the file.
func (c *Cache) used(b *breaker, err error) {
	if err != nil {
		c.count.ioErrors.Add(1)
	}
	b.done(err)
}
