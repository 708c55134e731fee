package cache

import "github.com/holkas-io/holkas/pkg/fault"

// Resize changes the length of the file, online. Lines that are in what is cut off
// are dropped. Exhausted if there is no room to grow: the cache goes on as it was.
// Everybody waits while the index is copied, about two seconds for 1 TiB, and for
// that long there are two.
func (c *Cache) Resize(sizeBytes int64) error {
	if err := checkSize(sizeBytes); err != nil {
		return err
	}
	if c.file == nil {
		return fault.New(fault.Precondition, "resize cache %s: the file could not be opened", c.options.Path)
	}
	c.shape.Lock()
	defer c.shape.Unlock()
	c.saving.Lock()
	defer c.saving.Unlock()
	lines := linesIn(sizeBytes)
	before, _ := c.index.size()
	if lines < before {
		c.index.resize(lines)
	}
	if lines == before {
		return nil
	}
	if err := c.file.Resize(fileBytes(lines)); err != nil {
		return fault.Wrap(err, "resize cache", c.options.Path)
	}
	if lines > before {
		c.index.resize(lines)
	}
	c.short.Store(nil)
	return nil
}
