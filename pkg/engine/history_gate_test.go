package engine_test

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/faults"
)

// gate is what a process reaches its disk and its store through: once it is dead
// nothing passes any more, and its context has ended. It can be made to die in a
// step, before or after that takes effect.
type gate struct {
	ctx  context.Context
	kill context.CancelFunc

	mu    sync.Mutex
	steps int
	dieAt int // 0: never
	after bool
	away  atomic.Bool                                      // the store, from here
	hold  atomic.Pointer[func(key string) <-chan struct{}] // until when a creation waits
	slow  atomic.Bool                                      // the disk, for what gives a journal's space back: it takes until death
}

var errDead = fault.New(fault.Transient, "the process is dead")

func newGate() *gate {
	g := &gate{}
	g.ctx, g.kill = context.WithCancel(context.Background())
	return g
}

func (g *gate) dead() bool { return g.ctx.Err() != nil }

// dieIn makes the process die in the n-th step from now on.
func (g *gate) dieIn(n int, after bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.dieAt, g.after = g.steps+n, after
}

// pass makes a step.
func (g *gate) pass(do func() error) error {
	g.mu.Lock()
	g.steps++
	last, after := g.steps == g.dieAt, g.after
	g.mu.Unlock()
	if last && !after {
		g.kill()
	}
	if g.dead() {
		return errDead
	}
	err := do()
	if last {
		g.kill()
	}
	if g.dead() {
		return errDead
	}
	return err
}

// gatedStore is a store as a process sees it.
type gatedStore struct {
	objstore.Store
	g *gate
}

func (s gatedStore) pass(do func() error) error {
	if s.g.away.Load() {
		return faults.ErrDown
	}
	return s.g.pass(do)
}

func (s gatedStore) Get(ctx context.Context, key string) (b []byte, err error) {
	err = s.pass(func() error { b, err = s.Store.Get(ctx, key); return err })
	return b, err
}

func (s gatedStore) GetRange(ctx context.Context, key string, offset, length int64) (b []byte, err error) {
	err = s.pass(func() error { b, err = s.Store.GetRange(ctx, key, offset, length); return err })
	return b, err
}

func (s gatedStore) Create(ctx context.Context, key string, body []byte) error {
	if hold := s.g.hold.Load(); hold != nil {
		if until := (*hold)(key); until != nil {
			select {
			case <-until:
			case <-s.g.ctx.Done():
			}
		}
	}
	return s.pass(func() error { return s.Store.Create(ctx, key, body) })
}

func (s gatedStore) Delete(ctx context.Context, keys ...string) error {
	return s.pass(func() error { return s.Store.Delete(ctx, keys...) })
}

func (s gatedStore) List(ctx context.Context, o objstore.ListOptions) (page objstore.Page, err error) {
	err = s.pass(func() error { page, err = s.Store.List(ctx, o); return err })
	return page, err
}

// lives is the storage of an engine that stands for the processes of many nodes: a
// path begins with the number of the life whose disk and gate are meant.
type lives []gatedDisk

func (s *lives) of(path string) (gatedDisk, string) {
	n, rest, _ := strings.Cut(path[1:], "/")
	i, _ := strconv.Atoi(n)
	return (*s)[i], "/" + rest
}

func (s *lives) Create(path string, bytes int64, head []byte) (disk.File, error) {
	d, path := s.of(path)
	return d.Create(path, bytes, head)
}

func (s *lives) Open(path string) (disk.File, error) {
	d, path := s.of(path)
	return d.Open(path)
}

func (s *lives) Remove(path string) error {
	d, path := s.of(path)
	return d.Remove(path)
}

func (s *lives) Rename(path, to string) error {
	d, path := s.of(path)
	_, to = s.of(to)
	return d.Rename(path, to)
}

func (s *lives) Link(path, to string) error {
	d, path := s.of(path)
	_, to = s.of(to)
	return d.Link(path, to)
}

// gatedDisk is a disk as a process sees it.
type gatedDisk struct {
	disk.Storage
	g *gate
}

func (d gatedDisk) Create(path string, bytes int64, head []byte) (f disk.File, err error) {
	err = d.g.pass(func() error { f, err = d.Storage.Create(path, bytes, head); return err })
	return gatedFile{f, d.g}, err
}

func (d gatedDisk) Open(path string) (f disk.File, err error) {
	err = d.g.pass(func() error { f, err = d.Storage.Open(path); return err })
	return gatedFile{f, d.g}, err
}

func (d gatedDisk) Remove(path string) error {
	return d.g.pass(func() error { return d.Storage.Remove(path) })
}

func (d gatedDisk) Link(path, to string) error {
	return d.g.pass(func() error { return d.Storage.Link(path, to) })
}

func (d gatedDisk) Rename(path, to string) error {
	return d.g.pass(func() error { return d.Storage.Rename(path, to) })
}

type gatedFile struct {
	disk.File
	g *gate
}

// WriteAt takes a moment, in which others come to wait and are written together.
func (f gatedFile) WriteAt(p []byte, off int64) (n int, err error) {
	if time.Sleep(50 * time.Microsecond); off < 2*disk.Align && f.g.slow.Load() {
		<-f.g.ctx.Done()
	}
	err = f.g.pass(func() error { n, err = f.File.WriteAt(p, off); return err })
	return n, err
}

func (f gatedFile) Sync() error { return f.g.pass(f.File.Sync) }

func (f gatedFile) Resize(bytes int64) error {
	return f.g.pass(func() error { return f.File.Resize(bytes) })
}

// Close closes the file whether or not the process is dead: its kernel does.
func (f gatedFile) Close() error {
	if f.File == nil {
		return nil
	}
	return f.File.Close()
}
