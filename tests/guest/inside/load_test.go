//go:build guest

package inside

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// load writes to a device past the page cache and reads back, with several
// writers that each have a part of it, and knows what every block holds.
type load struct {
	stop    atomic.Bool
	done    atomic.Int64 // requests
	slowest atomic.Int64 // nanoseconds of a request since it was last asked for
	writers sync.WaitGroup
}

const loadBlock = 4096

// startLoad writes to the first bytes of a device until finish.
func startLoad(t *testing.T, path string, bytes int) *load {
	t.Helper()
	l := new(load)
	const writers = 4
	blocks := bytes / writers / loadBlock
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for w := range writers {
		dev := open(t, path, 0)
		l.writers.Go(func() {
			l.write(t, dev, int64(w*blocks)*loadBlock, make([]uint64, blocks), rand.New(rand.NewPCG(seed, uint64(w))))
			dev.Close()
		})
	}
	return l
}

// write writes numbers of its own, looks at what it wrote before, and syncs now
// and then; in the end it looks at everything.
func (l *load) write(t *testing.T, dev *os.File, base int64, holds []uint64, random *rand.Rand) {
	b := aligned(8 * loadBlock)
	check := func(block int) bool {
		p := b[:loadBlock]
		if _, err := l.timed(func() (int, error) { return dev.ReadAt(p, base+int64(block)*loadBlock) }); err != nil {
			t.Errorf("read: %v", err)
			return false
		}
		for i := 0; i < loadBlock; i += 8 {
			if got := binary.LittleEndian.Uint64(p[i:]); got != holds[block] {
				t.Errorf("block %d holds %d, want %d", block, got, holds[block])
				return false
			}
		}
		return true
	}
	for number := uint64(1); !l.stop.Load(); {
		block := random.IntN(len(holds))
		switch random.IntN(8) {
		case 0, 1:
			if !check(block) {
				return
			}
		case 2:
			if _, err := l.timed(func() (int, error) { return 0, dev.Sync() }); err != nil {
				t.Errorf("sync: %v", err)
				return
			}
		default:
			n := min(random.IntN(8)+1, len(holds)-block)
			p := b[:n*loadBlock]
			for i := range n {
				number++
				holds[block+i] = number
				for j := 0; j < loadBlock; j += 8 {
					binary.LittleEndian.PutUint64(p[i*loadBlock+j:], number)
				}
			}
			if _, err := l.timed(func() (int, error) { return dev.WriteAt(p, base+int64(block)*loadBlock) }); err != nil {
				t.Errorf("write: %v", err)
				return
			}
		}
	}
	for block := range holds {
		if holds[block] != 0 && !check(block) {
			return
		}
	}
}

func (l *load) timed(do func() (int, error)) (int, error) {
	start := time.Now()
	n, err := do()
	took := int64(time.Since(start))
	for old := l.slowest.Load(); took > old && !l.slowest.CompareAndSwap(old, took); old = l.slowest.Load() {
	}
	l.done.Add(1)
	return n, err
}

// progress waits until more requests are done.
func (l *load) progress(t *testing.T, requests int64) {
	t.Helper()
	from := l.done.Load()
	eventually(t, "the load goes on", func() bool { return l.done.Load() >= from+requests || t.Failed() })
}

// finish has every block looked at.
func (l *load) finish(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.writers.Wait()
	t.Logf("%d requests", l.done.Load())
}
