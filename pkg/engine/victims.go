package engine

import (
	"math"

	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/garbage"
)

// choose chooses victims, and says whether a busy volume should begin with them.
func (c *cleaner) choose(idle bool) (victims []garbage.Victim, begin bool) {
	if c.sealing() {
		return nil, false
	}
	census := c.image.Census()
	c.every = max(1, len(census.Objects)/lookEvery)
	o := garbage.CleaningOptions{Target: c.Target, MaxShare: c.MaxShare, Blocks: math.MaxInt64, Stored: census.Stored}
	if idle {
		o.Target = c.IdleTarget
	} else {
		o.Young = young(census.Position(), len(census.Objects)/youngPart)
	}
	// Of a segment that lives a snapshot behind it needs what lives, and more.
	var pinned vlog.Position
	for _, s := range census.Snapshots {
		if s.Position.Compare(pinned) > 0 {
			pinned = s.Position
		}
	}
	done := map[uint32]bool{}
	for i, x := range census.Objects {
		if live, ok := c.tried[x.Number]; ok && live == census.Live[i] {
			done[x.Number] = true
		}
	}
	o.Pinned = func(x checkpoint.Object) bool {
		return done[x.Number] || (vlog.Position{Epoch: x.Reign.Epoch, Sequence: x.Sequence}).Compare(pinned) <= 0
	}
	victims = garbage.Victims(census.Checkpoint, o)
	freed := uint64(0)
	for _, x := range victims {
		freed += uint64(census.Stored(x.Object) - min(x.Live, census.Stored(x.Object)))
	}
	_, stored := census.Share()
	return victims, worth(freed, stored)
}

// worth reports whether so many blocks, of those that are stored, are worth the
// objects that it takes to free them.
func worth(freed, stored uint64) bool {
	return freed > 0 && freed >= min(worthBlocks, stored/worthPart)
}

// young returns the position so many segments before the last one, or the beginning
// of its epoch.
func young(last vlog.Position, segments int) vlog.Position {
	last.Sequence -= min(last.Sequence, vlog.Sequence(segments))
	return last
}

// sealing reports whether a snapshot is on its way: where it will be, and what it
// needs, is not known yet.
func (v *Volume) sealing() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range v.mu.snapshots {
		if !s.done {
			return true
		}
	}
	return false
}
