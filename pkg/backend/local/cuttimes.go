package local

import (
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/volume"
)

// cutTimes gives the snapshots of each volume times that grow, however the clock
// is set.
type cutTimes struct {
	mu   sync.Mutex
	last map[volume.ID]time.Time
}

// saw notes a snapshot that exists.
func (c *cutTimes) saw(id volume.ID, at time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.sawLocked(id, at)
}

func (c *cutTimes) sawLocked(id volume.ID, at time.Time) {
	if c.last == nil {
		c.last = map[volume.ID]time.Time{}
	}
	if at.After(c.last[id]) {
		c.last[id] = at
	}
}

// next returns now, or the least later time that no snapshot of the volume has.
func (c *cutTimes) next(id volume.ID, now time.Time) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	at := now.UTC().Round(0)
	if last := c.last[id]; !at.After(last) {
		at = last.Add(1)
	}
	c.sawLocked(id, at)
	return at
}

// forget drops a volume that was deleted.
func (c *cutTimes) forget(id volume.ID) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.last, id)
}
