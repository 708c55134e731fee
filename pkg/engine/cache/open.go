package cache

import (
	"context"
	"crypto/rand"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Open opens the cache and finds what is in it, or makes an empty one. A file
// whose content cannot be used is emptied; one that is no cache is left alone:
// Precondition. Invalid; InUse if another process has it open; Unsupported if the
// filesystem cannot allocate space ahead. A disk that fails or is full is no
// error: the cache is then bypassed for good and Health says why. A full cache of
// 1 TiB takes a few seconds: 200 MiB of index are read.
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
		c.index = emptyIndex(1)
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
		c.index = emptyIndex(lines)
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
	if ok {
		c.index, c.life = newIndex(lines), life
		return c.load(ctx, lines)
	}
	clear(super)
	putSuper(super, c.life)
	c.index = emptyIndex(lines)
	_, err = c.file.WriteAt(super, 0)
	return err
}
