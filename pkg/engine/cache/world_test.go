package cache

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/engine/disk/simdisk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const testPath = "/cache"

var (
	ctx  = context.Background()
	soak = os.Getenv("HOLKAS_SOAK") == "1"
)

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Fatalf(format string, args ...any)
}

func must(t tb, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func mustBe(t tb, err error, kind fault.Kind) {
	t.Helper()
	if !fault.Is(err, kind) {
		t.Fatalf("got %v, want %s", err, kind)
	}
}

// object returns the i-th object of a log.
func object(log byte, i int, sizeBytes int64) Object {
	return Object{Log: vlog.LogID{log, 7}, Nonce: vlog.Nonce{log, 9}, Kind: vlog.SegmentKind, Sequence: vlog.Sequence(i + 1), SizeBytes: sizeBytes}
}

// content returns what an object has, the same every time.
func content(o Object) []byte {
	seed := o.printer().of(0)
	random := rand.New(rand.NewPCG(uint64(seed), uint64(o.SizeBytes)))
	b := make([]byte, o.SizeBytes+8)
	for i := 0; i < int(o.SizeBytes); i += 8 {
		le.PutUint64(b[i:], random.Uint64())
	}
	return b[:o.SizeBytes]
}

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// testOptions are of a cache that stores its index when it is told to.
func testOptions(s disk.Storage) Options {
	return Options{Path: testPath, SizeBytes: MinSize, Storage: s, SaveEvery: time.Hour}
}

func open(t tb, o Options) *Cache {
	t.Helper()
	c, err := Open(ctx, o)
	must(t, err)
	return c
}

// quiet waits until everything that was fetched is in the file.
func quiet(c *Cache) {
	for c.filler.pending() != 0 {
		runtime.Gosched()
	}
}

// fetcher returns a Fetch for an object that counts its calls.
func fetcher(t tb, o Object, calls *int) Fetch {
	return func(_ context.Context, need Range) (int64, []byte, error) {
		*calls++
		if need.At < 0 || need.At >= need.End || need.End > o.SizeBytes {
			t.Fatalf("fetch of %v of %d bytes", need, o.SizeBytes)
		}
		return need.At, content(o)[need.At:need.End], nil
	}
}

// read reads and checks a part of an object, and reports whether it was a hit.
func read(t tb, c *Cache, o Object, at, n int64) bool {
	t.Helper()
	calls := 0
	p := bytes.Repeat([]byte{0xee}, int(n))
	source, err := c.Read(ctx, o, at, p, fetcher(t, o, &calls))
	must(t, err)
	if !bytes.Equal(p, content(o)[at:at+n]) {
		t.Fatalf("%s: bytes %d to %d are not the object's (source %d)", o, at, at+n, source)
	}
	if calls > 1 || calls == 1 != (source == Miss) {
		t.Fatalf("%s: %d to %d: %d fetches, source %d", o, at, at+n, calls, source)
	}
	return source == Hit
}

// check verifies that the index is in itself what it should be; nobody uses it.
func (x *index) check(t tb) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	seen := make([]bool, len(x.prints))
	walk := func(q queue, name string, want func(slot uint32) bool) {
		n := 0
		for s := q.head; s != 0; s = x.next[s-1] {
			if seen[s-1] || !want(s-1) {
				t.Fatalf("%s: slot %d: twice %v, print %x, state %b", name, s-1, seen[s-1], x.prints[s-1], x.states[s-1])
			}
			seen[s-1] = true
			n++
		}
		if n != q.length {
			t.Fatalf("%s: got %d, want %d", name, n, q.length)
		}
	}
	walk(x.free, "free", func(s uint32) bool { return x.prints[s] == 0 })
	for i, q := range x.queues {
		walk(q, fmt.Sprint("queue ", i), func(s uint32) bool {
			return int(x.states[s].queue()>>2) == i && x.states[s]&(writing|doomed) == 0 && (x.prints[s] == 0) == (x.blocks[s] == 0)
		})
	}
	used := 0
	for slot, p := range x.prints {
		if !seen[slot] {
			t.Fatalf("slot %d is in no queue", slot)
		}
		if p == 0 {
			continue
		}
		used++
		if at, ok := x.find(p); !ok || at != uint32(slot) {
			t.Fatalf("line %x: found in %d, %v, want %d", p, at, ok, slot)
		}
	}
	if used != x.used {
		t.Fatalf("%d lines, counted %d", used, x.used)
	}
}

// flaky is a storage whose files fail when told to.
type flaky struct {
	disk.Storage
	mu            sync.Mutex
	reads, writes bool // fail
	resizes       bool
	onRead        func() // called before a read
}

func (f *flaky) set(reads, writes bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads, f.writes = reads, writes
}

func (f *flaky) fails(kind *bool) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return *kind
}

func (f *flaky) wrap(file disk.File, err error) (disk.File, error) {
	if err != nil {
		return nil, err
	}
	return flakyFile{file, f}, nil
}

func (f *flaky) Open(path string) (disk.File, error) { return f.wrap(f.Storage.Open(path)) }
func (f *flaky) Create(path string, n int64, head []byte) (disk.File, error) {
	return f.wrap(f.Storage.Create(path, n, head))
}

type flakyFile struct {
	disk.File
	f *flaky
}

func (h flakyFile) ReadAt(p []byte, at int64) (int, error) {
	if h.f.fails(&h.f.reads) {
		return 0, syscall.EIO
	}
	if h.f.onRead != nil {
		h.f.onRead()
	}
	return h.File.ReadAt(p, at)
}

func (h flakyFile) WriteAt(p []byte, at int64) (int, error) {
	if h.f.fails(&h.f.writes) {
		return 0, syscall.EIO
	}
	return h.File.WriteAt(p, at)
}

func (h flakyFile) Resize(n int64) error {
	if h.f.fails(&h.f.resizes) {
		return fault.New(fault.Exhausted, "no space")
	}
	return h.File.Resize(n)
}

var _ disk.Storage = (*simdisk.Disk)(nil)
