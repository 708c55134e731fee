package cache

import (
	"context"
	"crypto/rand"
	"sync"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Open opens the cache and finds what is in it, or makes an empty one. A file
// whose content cannot be used is emptied; one that is no cache is left alone:
// Precondition. Invalid; InUse if another process has it open; Unsupported if the
// filesystem cannot allocate space ahead. A disk that fails or is full is no
// error: the cache is then bypassed for good and Health says why.
func Open(ctx context.Context, o Options) (*Cache, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := &Cache{options: o.withDefaults()}
	c.reading.now, c.writing.now = c.options.Now, c.options.Now
	err := c.open(ctx)
	if err != nil && c.file != nil {
		c.file.Close()
		c.file = nil
	}
	switch kind := fault.KindOf(err); {
	case err == nil:
	case ctx.Err() == nil && (kind == fault.Internal || kind == fault.Exhausted):
		c.index = newIndex(1)
		c.reading.die(err)
		c.writing.die(err)
	default:
		return nil, fault.Wrap(err, "open cache", o.Path)
	}
	c.filler.begin(c)
	return c, nil
}

func (c *Cache) open(ctx context.Context) (err error) {
	o := c.options
	lines := linesIn(o.SizeBytes)
	super := disk.Buffer(block)
	_, _ = rand.Read(c.life[:])
	c.file, err = o.Storage.Open(o.Path)
	if fault.Is(err, fault.NotFound) {
		putSuper(super, c.life)
		if c.file, err = o.Storage.Create(o.Path, fileBytes(lines), super); err != nil {
			return err
		}
		c.index = newIndex(lines)
		for slot := range lines {
			c.index.push(&c.index.free, uint32(slot))
		}
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.find(ctx, super); err != nil {
		return err
	}
	if linesIn(o.SizeBytes) != len(c.index.prints) {
		if err := c.Resize(o.SizeBytes); err != nil {
			c.short.Store(&err)
		}
	}
	return nil
}

// find takes over what the file has.
func (c *Cache) find(ctx context.Context, super []byte) error {
	size, err := c.file.Size()
	if err != nil {
		return err
	}
	lines := linesIn(size)
	if lines == 0 {
		return fault.New(fault.Precondition, "got %d bytes, want at least %d: the file is no cache and is left as it is: remove it or name another path", size, int64(MinSize))
	}
	if _, err := c.file.ReadAt(super, 0); err != nil {
		return err
	}
	life, ok, err := decodeSuper(super, c.options.Path)
	if err != nil {
		return err
	}
	c.index = newIndex(lines)
	if ok {
		c.life = life
		return c.load(ctx, lines)
	}
	clear(super)
	putSuper(super, c.life)
	if _, err := c.file.WriteAt(super, 0); err != nil {
		return err
	}
	for slot := range lines {
		c.index.push(&c.index.free, uint32(slot))
	}
	return nil
}

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

// used takes the outcome of a use of the file.
func (c *Cache) used(b *breaker, err error) {
	if err != nil {
		c.count.ioErrors.Add(1)
	}
	b.done(err)
}

// Resize changes the length of the file, online. Lines that are in what is cut off
// are dropped. Exhausted if there is no room to grow: the cache goes on as it was.
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
