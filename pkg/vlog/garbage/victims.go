package garbage

import (
	"math"
	"slices"

	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
)

// Victim is a segment worth cleaning: its live blocks are to be written anew, as
// conditional moves, and it goes.
type Victim struct {
	checkpoint.Object
	Live  uint32  // blocks, at most
	Share float64 // of its blocks that live
}

// CleaningOptions say how much is cleaned.
type CleaningOptions struct {
	// Target is the live share of the whole log above which nothing is cleaned; 0
	// means 0.6, idle times afford 0.8.
	Target float64
	// MaxShare is the live share from which on a segment is not worth it; 0 means
	// 0.9. Where moved blocks are copied to another cloud it is to be low.
	MaxShare float64
	// Blocks bounds how many blocks are written anew: the rate limit.
	Blocks uint64
	// Young is a position: what is stored behind it is left to die by itself.
	Young vlog.Position
	// Stored returns the blocks that a segment had when it was stored; nil means
	// one for each 4096 bytes, which is wrong where blocks were compressed.
	Stored func(checkpoint.Object) uint32
	// Pinned reports a segment that a snapshot needs: to clean it frees nothing.
	Pinned func(checkpoint.Object) bool
}

// Victims chooses the segments to clean by a checkpoint of the log: greedily, the
// least live first, until the log would reach its target, or the blocks are used
// up. It never chooses tables or other logs' segments. A segment with nothing
// live needs no cleaning: it goes by itself.
func Victims(c *checkpoint.Checkpoint, o CleaningOptions) []Victim {
	if o.Target == 0 {
		o.Target = 0.6
	}
	if o.MaxShare == 0 {
		o.MaxShare = 0.9
	}
	var all []Victim
	var live, stored float64
	for i, object := range c.Objects {
		if object.Kind != vlog.SegmentKind || object.Reign.Log != c.Reign.Log || object.Reign.Repository != "" || c.Live[i] == 0 {
			continue
		}
		blocks := o.stored(object)
		v := Victim{Object: object, Live: c.Live[i], Share: min(1, float64(c.Live[i])/blocks)}
		live, stored = live+v.Share*blocks, stored+blocks
		at := vlog.Position{Epoch: object.Reign.Epoch, Sequence: object.Sequence}
		if v.Share < o.MaxShare && (o.Young == (vlog.Position{}) || at.Compare(o.Young) <= 0) && (o.Pinned == nil || !o.Pinned(object)) {
			all = append(all, v)
		}
	}
	slices.SortStableFunc(all, func(a, b Victim) int {
		switch {
		case a.Share < b.Share:
			return -1
		case a.Share > b.Share:
			return 1
		}
		return 0
	})
	n := 0
	for ; n < len(all) && live < o.Target*stored && uint64(all[n].Live) <= o.Blocks; n++ {
		o.Blocks -= uint64(all[n].Live)
		stored -= (1 - all[n].Share) * o.stored(all[n].Object)
	}
	return all[:n]
}

func (o CleaningOptions) stored(object checkpoint.Object) float64 {
	if o.Stored != nil {
		return max(1, float64(o.Stored(object)))
	}
	return max(1, float64(object.SizeBytes/vlog.BlockSize))
}

// Cost returns the blocks stored for each block written that greedy cleaning costs
// in theory under uniform overwriting, at a live share of the log between 0 and 1:
// 1.48 at 0.6, 2.69 at 0.8. A segment is cleaned when u of it lives, where the
// live share is (1-u)/ln(1/u), and freeing 1-u of one costs 1 stored.
func Cost(live float64) float64 {
	low, high := 0.0, 1.0
	for range 60 {
		u := (low + high) / 2
		if (1-u)/-math.Log(u) < live {
			low = u
		} else {
			high = u
		}
	}
	return 1 / (1 - low)
}
