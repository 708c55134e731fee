package local

import (
	"sync"
	"time"
)

// calm keeps removals and cuts of one pool apart: a cut would wait for what a
// removal left the filesystem to do, and hold its writers up meanwhile. A removal
// waits for the cuts that are under way, and a cut for the removals that came
// before it; neither for longer than calmLimit. The cuts of a pause are not
// counted: they last for as long as a caller likes.
type calm struct {
	mu       sync.Mutex
	cuts     int
	removals int
	waiting  int           // removals, for cuts
	changed  chan struct{} // closed when one of these falls
}

const calmLimit = time.Second

// cut begins a cut, before it makes its filesystem quiet.
func (c *calm) cut() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waitLocked(func() bool { return c.removals+c.waiting == 0 })
	c.cuts++
	return func() { c.end(&c.cuts) }
}

// removal begins a removal.
func (c *calm) removal() (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting++
	c.waitLocked(func() bool { return c.cuts == 0 })
	c.waiting--
	c.removals++
	return func() { c.end(&c.removals) }
}

func (c *calm) end(what *int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	*what--
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

// waitLocked waits until something is so, or for calmLimit, and gives the lock
// free meanwhile.
func (c *calm) waitLocked(is func() bool) {
	limit := time.NewTimer(calmLimit)
	defer limit.Stop()
	for !is() {
		if c.changed == nil {
			c.changed = make(chan struct{})
		}
		changed := c.changed
		c.mu.Unlock()
		select {
		case <-changed:
			c.mu.Lock()
		case <-limit.C:
			c.mu.Lock()
			return
		}
	}
}
