package cache

import (
	"context"
	"sync"

	"github.com/holkas-io/holkas/pkg/engine/disk"
)

// loaders is how many groups' pages are read at a time.
const loaders = 16

// load reads the index: what cannot be read or is damaged is not there. Groups
// are read at the same time and taken in their order.
func (c *Cache) load(ctx context.Context, lines int) error {
	groups := (lines + groupLines - 1) / groupLines
	buffers := make([][]byte, loaders)
	bad := make([]error, loaders)
	for first := 0; first < groups; first += loaders {
		if err := ctx.Err(); err != nil {
			return err
		}
		var reading sync.WaitGroup
		n := min(loaders, groups-first)
		for i := range n {
			if buffers[i] == nil {
				buffers[i] = disk.Buffer(unit)
			}
			reading.Go(func() { _, bad[i] = c.file.ReadAt(buffers[i], pageAt((first+i)*lineBlocks)) })
		}
		reading.Wait()
		for i := range n {
			if bad[i] != nil {
				c.count.ioErrors.Add(1)
				clear(buffers[i])
			}
			for p := range lineBlocks {
				c.take((first+i)*lineBlocks+p, buffers[i][p*block:(p+1)*block], lines)
			}
		}
	}
	return nil
}

// take puts the lines of one stored page into the index.
func (c *Cache) take(page int, b []byte, lines int) {
	entries := decodePage(b, c.life, page)
	for i := range pageEntries {
		slot := page*pageEntries + i
		if slot >= lines {
			return
		}
		e := entry{}
		if entries != nil {
			e = entries[i]
		}
		c.index.load(uint32(slot), e)
	}
}

// save brings the index in the file up to date, a page at a time.
func (c *Cache) save(ctx context.Context) error {
	c.saving.Lock()
	defer c.saving.Unlock()
	b := c.buffer()
	defer c.buffers.Put(b)
	lines, _ := c.index.size()
	for page := range pagesOf(lines) {
		entries, dirty := c.index.page(page)
		if !dirty {
			continue
		}
		err := ctx.Err()
		if err == nil && !c.writing.take() {
			err = errResting
		}
		if err == nil {
			clear((*b)[:block])
			putPage((*b)[:block], entries, c.life, page)
			_, err = c.file.WriteAt((*b)[:block], pageAt(page))
			c.used(&c.writing, err)
		}
		if err != nil {
			c.index.unsaved(page)
			return err
		}
	}
	return nil
}
