package engine

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

const (
	// fillBlocks is how many blocks are filled at once, fillRate the most bytes a
	// second that are got for that.
	fillBlocks = 1024
	fillRate   = 128 << 20
	// fillAgain is the share of the volume, one of so many, that is stored anew before
	// it is looked through again: what the cache gave up meanwhile comes back.
	fillAgain = 16
)

// filler keeps all of the volume in the cache: it brings what lacks, and looks again
// when much was stored anew. It asks nothing of an idle volume's store.
func (v *Volume) filler() {
	for {
		stored := v.stats.segmentBytes.Load()
		if err := v.fillAll(v.ctx); err != nil {
			if fault.Is(err, fault.Corrupt) {
				v.storeSaid(err) // its blocks say so when they are read; the others are filled next time
			}
			if !v.pause(time.Minute) {
				return
			}
			continue
		}
		v.filled.Store(true)
		for v.stats.segmentBytes.Load()-stored < uint64(v.Size()/fillAgain) {
			if !v.pause(10 * time.Second) {
				return
			}
		}
	}
}

// fillAll looks through the volume once.
func (v *Volume) fillAll(ctx context.Context) error {
	for first := vlog.Block(0); first < v.image.Blocks(); {
		next, count := v.image.Blocks(), uint64(0)
		if err := v.image.Table().Allocated(ctx, first, func(r table.Range) bool {
			next, count = r.First, min(r.Count, fillBlocks)
			return false
		}); err != nil {
			return err
		}
		if count == 0 {
			break
		}
		got, err := v.image.Fill(ctx, next, count)
		if err != nil {
			return err
		}
		if got > 0 && !v.pause(time.Duration(got)*time.Second/fillRate) {
			return v.ended()
		}
		first = next + vlog.Block(count)
	}
	return nil
}

// pause waits, and reports whether the volume is still open.
func (v *Volume) pause(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-v.ctx.Done():
		return false
	}
}
