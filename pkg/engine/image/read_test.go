package image

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/frame"
	"github.com/holkas-io/holkas/pkg/vlog/segment"
	"github.com/holkas-io/holkas/pkg/vlog/table"
)

const secret = "a secret of thirty-two bytes, it"

// TestRequests: what reads cost in requests, and that the cache saves them.
func TestRequests(t *testing.T) {
	for _, cached := range []bool{false, true} {
		t.Run(fmt.Sprintf("cache %v", cached), func(t *testing.T) {
			w := newWorld(t, secret, newCodec(t))
			defer func() { w.m.Close() }()
			w.segment(w.data(0, 600)) // two leaves
			w.segment(func(x *segment.Writer) {
				for b := range vlog.Block(16) { // a frame a block
					w.data(5*table.Fanout+b*16, 1)(x)
				}
			})
			for b := range vlog.Block(12) { // a segment a block
				w.segment(w.data(7*table.Fanout+b*20, 1))
			}
			at := w.checkpoint().Checkpoint.Position()
			if cached {
				c, err := cache.Open(t.Context(), cache.Options{Path: "/cache", SizeBytes: 64 << 20, Storage: &simdisk.Disk{}})
				must(t, err)
				defer c.Abandon()
				w.o.Cache = c
			}
			m := w.restore(at)
			defer m.Close()
			p := make([]byte, 256*vlog.BlockSize)
			read := func(what string, first vlog.Block, blocks, want int) {
				t.Helper()
				if cached && want > 0 {
					w.store.count(func() { must(t, m.Read(t.Context(), first, p[:blocks*vlog.BlockSize])) })
					want = 0 // the second time
				}
				if got := w.store.count(func() { must(t, m.Read(t.Context(), first, p[:blocks*vlog.BlockSize])) }); got != want {
					t.Errorf("%s: got %d requests, want %d", what, got, want)
				}
			}
			read("the first of a directory", 3, 1, 3)
			read("4 KiB of a leaf that is loaded", 300, 1, 1)
			read("4 KiB of one that is not", table.Fanout+50, 1, 2)
			read("1 MiB", 16, 256, 1)
			read("a hole", 9*table.Fanout, 256, 0)
			if !cached {
				w.store.before = func(context.Context) error { time.Sleep(5 * time.Millisecond); return nil }
			}
			read("a leaf, and 16 frames that follow each other", 5*table.Fanout, 256, 2)
			read("a leaf, and 12 frames in 12 segments", 7*table.Fanout, 256, 13)
			if !cached && w.store.most < 4 {
				t.Errorf("frames of one read: %d at the same time, want several", w.store.most)
			}
			w.store.before = nil
			w.hasAll(m)
		})
	}
}

// TestDamage: bits that are wrong once are asked for again; those that stay wrong
// are Corrupt, naming object and offset, and never read.
func TestDamage(t *testing.T) {
	for _, kind := range []vlog.Kind{vlog.SegmentKind, vlog.TableKind} {
		for _, key := range []string{"", secret} {
			for _, times := range []int{1, 2, 1 << 30} {
				t.Run(fmt.Sprintf("%s key %v %d times", kind, key != "", times), func(t *testing.T) {
					w := newWorld(t, key, newCodec(t))
					defer func() { w.m.Close() }()
					w.segment(w.data(0, 40))
					m := w.restore(w.checkpoint().Checkpoint.Position())
					defer m.Close()
					left, where, offset := times, "", int64(0)
					w.store.reply = func(key string, off int64, b []byte, err error) ([]byte, error) {
						if strings.Contains(key, "/"+kind.String()+"/") && left > 0 && err == nil {
							left--
							where, offset = key, off
							b[len(b)/2] ^= 4
						}
						return b, err
					}
					p := bytes.Repeat([]byte{7}, vlog.BlockSize)
					err := m.Read(t.Context(), 20, p)
					if times < 3 {
						must(t, err)
						w.has(m, 20)
						if m.Stats().Bad != uint64(times) {
							t.Errorf("got %d bad reads counted, want %d", m.Stats().Bad, times)
						}
						return
					}
					if !fault.Is(err, fault.Corrupt) || !strings.Contains(err.Error(), where) || !strings.Contains(err.Error(), fmt.Sprint(offset)) {
						t.Errorf("got %v, want Corrupt, naming %s and %d", err, where, offset)
					}
					if !bytes.Equal(p, bytes.Repeat([]byte{7}, vlog.BlockSize)) {
						t.Error("what does not verify was given out")
					}
				})
			}
		}
	}
}

// TestOtherKey: an image is not opened without its key.
func TestOtherKey(t *testing.T) {
	w := newWorld(t, secret, newCodec(t))
	defer func() { w.m.Close() }()
	w.segment(w.data(0, 40))
	c := w.read(w.checkpoint().Checkpoint.Position())
	w.key, _ = frame.NewDataKey([]byte(strings.Repeat("x", 32)))
	if m, err := Restore(w.o, c.Checkpoint); !fault.Is(err, fault.Precondition) {
		t.Errorf("restore with another key: got %v %v, want Precondition", m, err)
	}
	w.o.Key = func(frame.KeyID) (*frame.DataKey, error) { return w.key, nil }
	m, err := Restore(w.o, c.Checkpoint)
	if err == nil {
		err = m.Read(t.Context(), 0, make([]byte, vlog.BlockSize))
		m.Close()
	}
	if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Precondition) {
		t.Errorf("read with a false key: got %v, want Corrupt or Precondition", err)
	}
}

// TestAway: a store that is away, or that does not answer, is waited for as long as
// the class says, and no longer.
func TestAway(t *testing.T) {
	for _, silent := range []bool{false, true} {
		t.Run(fmt.Sprintf("silent %v", silent), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				codec, err := frame.NewCodec(1)
				must(t, err)
				defer codec.Close()
				w := newWorld(t, "", codec)
				defer func() { w.m.Close() }()
				w.segment(w.data(0, 40))
				m := w.restore(w.checkpoint().Checkpoint.Position())
				defer m.Close()
				var until time.Time
				w.store.before = func(ctx context.Context) error {
					if silent && time.Now().Before(until) {
						select {
						case <-ctx.Done():
							return ctx.Err()
						case <-time.After(time.Until(until)):
						}
					}
					if time.Now().Before(until) {
						return fault.New(fault.Transient, "away")
					}
					return nil
				}
				until = time.Now().Add(40 * time.Second)
				w.has(m, 20)
				until = time.Now().Add(time.Hour)
				began := time.Now()
				err = m.Read(t.Context(), 39, make([]byte, vlog.BlockSize))
				if waited := time.Since(began); !fault.Is(err, fault.Transient) || waited != time.Minute {
					t.Errorf("got %v after %v, want Transient after a minute", err, waited)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				began = time.Now()
				err = m.Read(ctx, 39, make([]byte, vlog.BlockSize))
				if waited := time.Since(began); !fault.Is(err, fault.Deadline) || waited != time.Second {
					t.Errorf("got %v after %v, want Deadline after a second", err, waited)
				}
			})
		})
	}
}

// TestRetriedPages: a page that cannot be had while a segment is applied leaves
// what can be repeated, and it counts once.
func TestRetriedPages(t *testing.T) {
	w := newWorld(t, "", newCodec(t))
	w.segment(w.data(0, 40))
	at := w.checkpoint().Checkpoint.Position()
	w.m.Close()
	w.m = w.restore(at)
	defer w.m.Close()
	w.begin()
	w.store.before = func(context.Context) error { return fault.New(fault.NotFound, "away") }
	s := w.form(w.data(10, 20))
	if err := w.m.Apply(w.ctx, s); err == nil {
		t.Fatal("a directory that cannot be had: got success")
	}
	w.store.before = nil
	must(t, w.m.Apply(w.ctx, s))
	w.hasAll(w.m)
	if p := w.checkpoint(); len(p.Checkpoint.Objects) != 4 {
		t.Errorf("got %d objects, want two segments and two tables", len(p.Checkpoint.Objects))
	}
}

// TestNoNumbers: when every number is in use the segment has none, however often it
// is tried.
func TestNoNumbers(t *testing.T) {
	w := newWorld(t, "", newCodec(t))
	defer func() { w.m.Close() }()
	w.m.most = 1
	w.segment(w.data(0, 10))
	s := w.form(w.data(100, 10))
	for range 2 {
		if err := w.m.Apply(w.ctx, s); !fault.Is(err, fault.Exhausted) {
			t.Errorf("got %v, want Exhausted", err)
		}
	}
	w.m.most = 2
	must(t, w.m.Apply(w.ctx, s))
	w.hasAll(w.m)
}

// TestAdding: with many objects, checkpoints add to one that stands alone, and read
// back whole.
func TestAdding(t *testing.T) {
	w := newWorld(t, secret, newCodec(t))
	defer func() { w.m.Close() }()
	for i := range vlog.Block(300) {
		w.segment(w.data(i*3, 1))
	}
	w.checkpoint()
	adding, alone := 0, 0
	for i := range vlog.Block(12) {
		for k := range 10 {
			w.segment(w.data(1000+i*20+vlog.Block(k), 1))
		}
		if i%3 == 0 {
			w.segment(w.zero(i*20, 15))
		}
		p := w.checkpoint()
		c := w.read(p.Checkpoint.Position())
		if c.Base != nil {
			adding++
		} else {
			alone++
		}
		if fmt.Sprint(c.Objects, c.Live, c.Root) != fmt.Sprint(p.Checkpoint.Objects, p.Checkpoint.Live, p.Checkpoint.Root) {
			t.Fatal("it reads back as another")
		}
	}
	if adding < 5 || alone < 1 {
		t.Errorf("%d checkpoints add to one before, %d stand alone: want both", adding, alone)
	}
	m := w.restore(w.published)
	defer m.Close()
	w.hasAll(m)
}

// TestReadersBeside: readers find a block as it was or as it becomes, while segments
// are applied and checkpoints made that give numbers again at once and delete what
// they do not list.
func TestReadersBeside(t *testing.T) {
	const blocks = 64
	w := newWorld(t, "", newCodec(t))
	defer func() { w.m.Close() }()
	w.m.reuse = 0
	w.segment(w.data(0, blocks))
	var done atomic.Bool
	var reads, tries atomic.Int64
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() {
			p := make([]byte, blocks*vlog.BlockSize)
			last := make([]uint64, blocks)
			for !done.Load() {
				if err := w.m.Read(context.Background(), 0, p); err != nil {
					tries.Add(1) // three look-ups were overtaken: the caller is told, and has nothing wrong
					if !fault.Is(err, fault.Corrupt) {
						t.Errorf("read: %v", err)
						return
					}
					continue
				}
				reads.Add(1)
				for b := range last {
					got := p[b*vlog.BlockSize:][:vlog.BlockSize]
					n := uint64(got[0]) | uint64(got[1])<<8 | uint64(got[2])<<16
					if n < last[b] || !bytes.Equal(got, content(vlog.Block(b), n)) {
						t.Errorf("block %d: got write %d, want %d or a later one", b, n, last[b])
						return
					}
					last[b] = n
				}
			}
		})
	}
	for i := range 200 {
		w.segment(w.data(vlog.Block(i*7%blocks/2), 1+i%32))
		if i%2 == 1 {
			w.checkpoint()
		}
	}
	done.Store(true)
	wg.Wait()
	t.Logf("%d reads, %d that were overtaken", reads.Load(), tries.Load())
	if tries.Load() > reads.Load()/20+5 {
		t.Errorf("%d reads, %d that were overtaken: want few", reads.Load(), tries.Load())
	}
}
