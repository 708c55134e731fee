package controller

import (
	"fmt"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// key is what a lock is on.
type key struct{ what, name string }

func (k key) String() string { return fmt.Sprintf("%s %q", k.what, k.name) }

type holder struct {
	operation string
	since     time.Time
}

// locks turn a duplicate away while the first is at work in this process. There
// is no waiting, so there is no order to keep; a lock exists only while held.
type locks struct {
	mu   sync.Mutex
	held map[key]holder // guarded by mu
}

// acquire takes a lock, or says as Busy who has it.
func (l *locks) acquire(k key, operation string, now time.Time) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if h, ok := l.held[k]; ok {
		return nil, fault.New(fault.Busy, "%s: %s is at work on it since %s: try again later", k, h.operation, h.since.Format(time.RFC3339))
	}
	if l.held == nil {
		l.held = map[key]holder{}
	}
	l.held[k] = holder{operation, now}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.held, k)
	}, nil
}

// lock is acquire for the operations of the controller.
func (c *Controller) lock(what, name, operation string) (release func(), err error) {
	return c.locks.acquire(key{what, name}, operation, c.now())
}
