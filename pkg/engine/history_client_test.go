package engine_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// client does operations on a volume, one after another.
type client struct {
	*life
	rand *rand.Rand
}

// burst has clients do operations at once, and returns when they are done.
func (l *life) burst(clients, operations int) (wait func()) {
	var all sync.WaitGroup
	for range clients {
		c := client{l, rand.New(rand.NewPCG(l.b.w.rand.Uint64(), 0))}
		all.Go(func() {
			for range 1 + c.rand.IntN(operations) {
				if l.b.w.over() || l.g.dead() {
					return
				}
				c.operate()
			}
		})
	}
	return all.Wait
}

func (c client) operate() {
	switch n := c.rand.IntN(20); {
	case n < 6:
		c.write(c.blocks(1 + c.rand.IntN(6)))
	case n < 9:
		off, length := c.blocks(1 + c.rand.IntN(2))
		skip := c.rand.Int64N(length/sector) * sector
		c.write(off+skip, (1+c.rand.Int64N((length-skip)/sector))*sector)
	case n < 11:
		off, length := c.blocks(1 + c.rand.IntN(8))
		skip := c.rand.Int64N(2) * c.rand.Int64N(length/sector) * sector
		c.zero(off+skip, length-skip, c.rand.IntN(2) == 0)
	case n < 12: // a large one
		sectors := int64(c.b.blocks) * sectors
		off := c.rand.Int64N(sectors)
		c.zero(off*sector, (1+c.rand.Int64N(sectors-off))*sector, c.rand.IntN(2) == 0)
	case n < 15:
		c.flush()
	case n < 19:
		off, length := c.blocks(1 + c.rand.IntN(8))
		c.read(off, length)
	default:
		time.Sleep(time.Duration(c.rand.Int64N(int64(3 * time.Second))))
	}
}

// blocks chooses some neighbours of those that are kept account of.
func (c client) blocks(n int) (off, length int64) {
	for {
		cluster := clusters[c.rand.IntN(len(clusters))]
		if cluster.first >= c.b.blocks {
			continue
		}
		have := min(cluster.count, int(c.b.blocks-cluster.first))
		n = min(n, have)
		at := cluster.first + vlog.Block(c.rand.IntN(have-n+1))
		return int64(at) * vlog.BlockSize, int64(n) * vlog.BlockSize
	}
}

// place tells a range of bytes, for people.
func place(off, length int64) string {
	if off%vlog.BlockSize == 0 && length%vlog.BlockSize == 0 {
		return fmt.Sprintf("%d blocks from %d", length/vlog.BlockSize, off/vlog.BlockSize)
	}
	return fmt.Sprintf("%d sectors from %d+%d", length/sector, off/vlog.BlockSize, off%vlog.BlockSize/sector)
}

// change does something that changes the volume.
func (c client) change(name string, off, length int64, write uint32, do func(context.Context) error) {
	p := c.b.o.begin(name, off, length, write)
	err := do(c.g.ctx)
	c.b.o.end(p, err)
	c.ended(p, err)
}

func (c client) ended(p *op, err error) {
	if c.b.w.logf("%s: %d: %s: until %d: %v", c.life, p.begin, p.name, p.end, err); err != nil && !c.passing(err) {
		c.b.w.failf("%s: %s: %v", c.life, p.name, err)
	}
}

func (c client) write(off, length int64) {
	n := c.b.w.writes.Add(1)
	p := make([]byte, length)
	stamp(p, off, n)
	c.change(fmt.Sprintf("write %d: %s", n, place(off, length)), off, length, n, func(ctx context.Context) error {
		err := c.v.WriteAt(ctx, p, off)
		clear(p) // it is the caller's again
		return err
	})
}

func (c client) zero(off, length int64, discard bool) {
	name := "zero "
	if discard {
		name = "discard "
	}
	c.change(name+place(off, length), off, length, 0, func(ctx context.Context) error { return c.v.Zero(ctx, off, length, discard) })
}

// flush flushes, and holds the volume to it.
func (c client) flush() {
	p := c.b.o.begin("flush", 0, 0, 0)
	err := c.v.Flush(c.g.ctx)
	c.b.o.end(p, err)
	if err == nil {
		c.b.flushed(p.begin)
	}
	c.ended(p, err)
}

// read reads, and checks it.
func (c client) read(off, length int64) {
	began := c.b.o.tick()
	s, err := c.observe(c.g.ctx, off, length)
	if err != nil {
		if !c.passing(err) {
			c.b.w.failf("%s: read %s: %v", c.life, place(off, length), err)
		}
		return
	}
	if c.fenced.Load() || c.g.dead() {
		return
	}
	for b, got := range s {
		if err := c.b.o.read(b, began, got); err != nil {
			c.b.w.failf("%s: %v", c.life, err)
		}
	}
}

// reader is a volume or a view.
type reader interface {
	ReadAt(ctx context.Context, p []byte, off int64) error
	Size() int64
}

// observe reads whole blocks.
func (l *life) observe(ctx context.Context, off, length int64) (state, error) {
	return observe(ctx, l.v, off, length)
}

func observe(ctx context.Context, r reader, off, length int64) (state, error) {
	p := make([]byte, length)
	if err := r.ReadAt(ctx, p, off); err != nil {
		return nil, err
	}
	s := state{}
	for ; len(p) > 0; p, off = p[vlog.BlockSize:], off+vlog.BlockSize {
		b := vlog.Block(off / vlog.BlockSize)
		c, err := decode(p, b)
		if err != nil {
			return nil, err
		}
		s[b] = c
	}
	return s, nil
}

// everything reads all blocks that are kept account of.
func everything(ctx context.Context, r reader, blocks vlog.Block) (state, error) {
	if got, want := r.Size(), int64(blocks)*vlog.BlockSize; got != want {
		return nil, fmt.Errorf("the size is %d, want %d", got, want)
	}
	all := state{}
	for _, c := range clusters {
		if c.first >= blocks {
			continue
		}
		s, err := observe(ctx, r, int64(c.first)*vlog.BlockSize, int64(min(c.count, int(blocks-c.first)))*vlog.BlockSize)
		if err != nil {
			return nil, err
		}
		for b, got := range s {
			all[b] = got
		}
	}
	return all, nil
}
