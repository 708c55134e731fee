package engine

import (
	"context"
	"slices"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/garbage"
)

// cleaner has what lives in sparse segments moved out of them, so that they can be
// collected: while the volume is written, up to Cleaning.Target; when it has rested
// for a while, up to Cleaning.IdleTarget, once, until something is written again.
// It decides and reads; the former forms the moves, and what is applied decides
// which of them happen. So whatever goes wrong here costs space, never data.
type cleaner struct {
	*Volume
	Cleaning
	every int               // segments of data between two looks of a busy volume
	tried map[uint32]uint32 // live blocks of victims that are done with, by number
}

// A look is taken each time the log grew by a part of its segments, and cleaning
// begins if it frees a segment's worth of blocks, or a part of what there is.
const (
	lookEvery    = 64
	worthBlocks  = segmentBytes / vlog.BlockSize
	worthPart    = 16
	youngPart    = 16
	handPatience = time.Minute // for the former to take a batch
	cleanRetry   = 10 * time.Second
	cleanRetries = 5 * time.Minute
)

// soil notes that the log has garbage that it did not have, of so many segments.
func (v *Volume) soil(segments int) {
	v.mu.Lock()
	v.mu.soiled = true
	v.mu.dirt += segments
	v.mu.soiledAt = v.e.o.Now()
	v.mu.Unlock()
	v.wakeCleaner()
}

func (v *Volume) wakeCleaner() {
	select {
	case v.tidy <- struct{}{}:
	default:
	}
}

// cleaning cleans until the volume ends. It asks nothing of the store but when
// there is garbage to clean.
func (v *Volume) cleaning() {
	c := &cleaner{Volume: v, every: 1}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	retry := cleanRetry
	for {
		c.Cleaning = v.tuning.Load().Cleaning
		due, idle, wait := c.due()
		if due {
			err := c.job(idle)
			switch {
			case v.ctx.Err() != nil || v.Err() != nil:
				return
			case err == nil:
				retry = cleanRetry
				continue
			}
			v.soil(0)
			wait, retry = retry, min(2*retry, cleanRetries)
			if c.sleep(wait) != nil {
				return
			}
			continue
		}
		timer.Stop()
		if wait > 0 {
			timer.Reset(wait)
		}
		select {
		case <-v.ctx.Done():
			return
		case <-v.tidy:
		case <-timer.C:
		}
	}
}

func (c *cleaner) sleep(d time.Duration) error {
	if d <= 0 {
		return c.ctx.Err()
	}
	select {
	case <-time.After(d):
		return nil
	case <-c.ctx.Done():
		return c.ctx.Err()
	}
}

// due says whether there is a job, or in how long there may be one; 0: not before
// something happens.
func (c *cleaner) due() (due, idle bool, wait time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.Rate < 0, !c.mu.soiled, c.mu.err != nil:
		return false, false, 0
	case c.mu.dirt >= c.every:
		c.mu.dirt = 0
		return true, false, 0
	case !c.restingLocked(): // what comes will wake it
		return false, false, 0
	}
	if wait = c.mu.soiledAt.Add(c.IdleAfter).Sub(c.e.o.Now()); wait > 0 {
		return false, false, wait
	}
	c.mu.soiled, c.mu.dirt = false, 0
	return true, true, 0
}

// restingLocked reports whether nothing is on its way into the table.
func (v *Volume) restingLocked() bool { return v.mu.newest <= v.mu.applied && len(v.mu.inflight) == 0 }

// job cleans until the target is reached, or nothing more is to be gained. An idle
// job ends with a checkpoint that does without the victims, and what else died, and
// at once when something is written.
func (c *cleaner) job(idle bool) error {
	c.tried = map[uint32]uint32{}
	if idle {
		if err := c.between(c.ctx, c.reclaim); err != nil {
			return err
		}
	}
	for first := true; ; first = false {
		victims, begin := c.choose(idle)
		if len(victims) == 0 || first && !idle && !begin {
			break
		}
		began := c.e.o.Now()
		blocks, err := c.move(idle, victims)
		if err != nil {
			return err
		}
		took := time.Duration(float64(blocks*vlog.BlockSize) / float64(c.Rate) * float64(time.Second))
		if err := c.sleep(took - c.e.o.Now().Sub(began)); err != nil {
			return err
		}
		c.mu.Lock()
		busy := c.mu.soiled
		c.mu.Unlock()
		if idle && busy {
			return nil
		}
	}
	if !idle {
		return nil
	}
	return c.between(c.ctx, func(ctx context.Context) error {
		census := c.image.Census()
		if _, stored := census.Share(); !c.movedSince && !worth(uint64(census.Dead/vlog.BlockSize), stored) {
			return nil
		}
		return c.checkpoint(ctx)
	})
}

// move moves what lives in the first victims, one segment's worth, and returns how
// many blocks. It ends when the moves are in the table.
func (c *cleaner) move(idle bool, victims []garbage.Victim) (int, error) {
	b, err := c.send(idle, victims)
	if err != nil || b.upload == nil {
		return 0, err
	}
	err = c.await(c.ctx, func() (bool, error) { return !slices.Contains(c.mu.inflight, b.upload), nil })
	c.stats.cleaned.Add(b.whole)
	return len(b.blocks), err
}

// send reads a batch and has it formed. The engine's memory is for one such batch
// at a time.
func (c *cleaner) send(idle bool, victims []garbage.Victim) (*batch, error) {
	if err := c.e.moving.Acquire(c.ctx, 1); err != nil {
		return nil, err
	}
	defer c.e.moving.Release(1)
	arena := c.e.arenas.Get().(*[]byte)
	defer c.e.arenas.Put(arena)
	b := &batch{arena: *arena, most: segmentBytes / vlog.BlockSize}
	if c.o.Durability == ObjectDurability && !idle {
		b.most /= 8 // a flush waits for what was begun before it
	}
	if err := c.gather(b, victims); err != nil || len(b.blocks) == 0 {
		return b, err
	}
	return b, c.hand(b)
}

// gather reads what lives of victims, until the batch is full.
func (c *cleaner) gather(b *batch, victims []garbage.Victim) error {
	for _, x := range victims {
		c.tried[x.Number] = x.Live
		all, err := c.take(b, x)
		switch {
		case fault.Is(err, fault.Corrupt), fault.Is(err, fault.NotFound), fault.Is(err, fault.Unsupported), fault.Is(err, fault.Precondition):
			continue // who reads it is told; or it died and went in between
		case err != nil:
			return err
		case !all:
			delete(c.tried, x.Number)
			return nil
		}
		b.whole++
	}
	return nil
}

// take adds what lives of a victim to the batch, and reports whether all of it had
// room.
func (c *cleaner) take(b *batch, x garbage.Victim) (all bool, err error) {
	if len(b.blocks) >= b.most {
		return false, nil
	}
	tail, err := c.image.Tail(c.ctx, x.Number)
	if err != nil {
		return false, err
	}
	living, err := c.image.Living(c.ctx, x.Number, tail.Index)
	if err != nil {
		return false, err
	}
	pieces, all := first(living, b.most-len(b.blocks))
	if err := c.image.ReadPieces(c.ctx, x.Number, pieces, b.arena[len(b.blocks)*vlog.BlockSize:]); err != nil {
		return false, err
	}
	b.add(x.Object, pieces)
	return all, nil
}
