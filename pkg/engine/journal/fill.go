package journal

import (
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk"
)

// fillChunk is the zeros written at once.
const fillChunk = 1 << 20

// filler writes the ring full of zeros ahead of its first use, so that later
// writes change no metadata. Appends of the first lap stay behind it.
type filler struct {
	mu      sync.Mutex
	changed *sync.Cond
	done    int64 // bytes of the ring that were written once
	ended   bool
	waiting int // appends
	quit    chan struct{}
	running sync.WaitGroup
}

func (f *filler) init(done int64) {
	f.done, f.changed, f.quit = done, sync.NewCond(&f.mu), make(chan struct{})
}

// start begins behind what is in use.
func (f *filler) start(j *Journal) {
	j.mu.Lock()
	begin := j.ring.size
	if int64(j.end.at) < begin {
		begin = int64(j.end.at)
	}
	j.mu.Unlock()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.done = max(f.done, begin)
	if f.done < j.ring.size && !f.ended {
		f.running.Go(func() { f.fill(j) })
	}
}

// fill takes half of the disk's time, or all of it while an append waits.
func (f *filler) fill(j *Journal) {
	zeros := disk.Buffer(int(min(fillChunk, j.ring.size)))
	pause := time.NewTimer(0)
	defer pause.Stop()
	for {
		f.mu.Lock()
		at, urgent, ended := f.done, f.waiting > 0, f.ended
		f.mu.Unlock()
		if ended || at == j.ring.size {
			return
		}
		began := time.Now()
		b := zeros[:min(int64(len(zeros)), j.ring.size-at)]
		if _, err := j.file.WriteAt(b, superblocks+at); err != nil {
			_ = j.fail("fill", err)
			return
		}
		f.mu.Lock()
		f.done += int64(len(b))
		f.changed.Broadcast()
		urgent = urgent || f.waiting > 0
		f.mu.Unlock()
		if urgent {
			continue
		}
		pause.Reset(time.Since(began))
		select {
		case <-pause.C:
		case <-f.quit:
			return
		}
	}
}

// reached waits until so much is filled; false if it ends before.
func (f *filler) reached(end int64) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.waiting++
	defer func() { f.waiting-- }()
	for f.done < end && !f.ended {
		f.changed.Wait()
	}
	return f.done >= end
}

func (f *filler) filled() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.done
}

// stop tells the filler to end; wait waits for it.
func (f *filler) stop() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ended {
		f.ended = true
		close(f.quit)
		f.changed.Broadcast()
	}
}

func (f *filler) wait() { f.running.Wait() }
