package faults

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
)

// Op names a method of a store.
type Op string

// The methods.
const (
	Get      Op = "get"
	GetRange Op = "get range"
	Put      Op = "put"
	Create   Op = "create"
	Delete   Op = "delete"
	List     Op = "list"
)

// Request is what a script decides about.
type Request struct {
	Number int64 // 1 for the first
	Op     Op
	Key    string // of Delete the first, of List the prefix
	Time   time.Time
}

// Changes reports a request that changes the store.
func (r Request) Changes() bool { return r.Op == Put || r.Op == Create || r.Op == Delete }

// Fault is what happens to a request. The zero value is none.
type Fault struct {
	// Delay is how long the request takes to arrive.
	Delay time.Duration
	// Silence: it does not arrive, and there is no reply until the context ends.
	Silence bool
	// Before, if not nil, is the reply, and the request takes no effect.
	Before error
	// Late is how long after its reply, which is Lost then, a change takes effect:
	// whatever else happens in between, happens first.
	Late time.Duration
	// Again, if not 0, is how long after it took effect a change does so again.
	Again time.Duration
	// Lost, if not nil, is the reply after the request took effect.
	Lost error
	// Short is how many bytes are missing at the end of what is read.
	Short int
	// Flip, if not 0, is which bit of what is read is wrong, from 1 on, counted
	// around the body.
	Flip int
}

// Script decides what happens to a request.
type Script func(Request) Fault

// Store does to requests what a script says.
type Store struct {
	inner objstore.Store
	late  sync.WaitGroup

	mu     sync.Mutex
	script Script
	counts map[Op]int64
	number int64
}

var _ objstore.Store = (*Store)(nil)

// New returns a store around inner. A nil script does nothing.
func New(inner objstore.Store, script Script) *Store {
	return &Store{inner: inner, script: script, counts: map[Op]int64{}}
}

// Follow changes the script from the next request on.
func (s *Store) Follow(script Script) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.script = script
}

// Count returns how many requests of a kind arrived here.
func (s *Store) Count(op Op) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[op]
}

// Wait returns when all that comes late has come.
func (s *Store) Wait() { s.late.Wait() }

func (s *Store) next(op Op, key string) Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.number++
	s.counts[op]++
	if s.script == nil {
		return Fault{}
	}
	return s.script(Request{Number: s.number, Op: op, Key: key, Time: time.Now()})
}

// arrive has a request arrive, or says what is answered instead.
func (f Fault) arrive(ctx context.Context) error {
	if f.Silence {
		<-ctx.Done()
	}
	if ctx.Err() == nil && f.Delay > 0 {
		pause(ctx, f.Delay)
	}
	if err := ctx.Err(); err != nil {
		return fault.Wrap(err, "", "object store")
	}
	return f.Before
}

// change carries out a request that changes the store. A context that had ended
// before, and what the store refuses as Invalid, see no fault.
func (s *Store) change(ctx context.Context, f Fault, effect func(context.Context) error) error {
	if ctx.Err() != nil {
		return effect(ctx)
	}
	if err := f.arrive(ctx); err != nil {
		return err
	}
	unbound := context.WithoutCancel(ctx)
	if f.Late > 0 {
		s.after(f.Late, func() { _ = effect(unbound) }) // nobody hears of it
		return f.lost()
	}
	err := effect(ctx)
	if f.Again > 0 {
		s.after(f.Again, func() { _ = effect(unbound) })
	}
	if f.Lost != nil && !fault.Is(err, fault.Invalid) {
		return f.Lost
	}
	return err
}

func (f Fault) lost() error {
	if f.Lost != nil {
		return f.Lost
	}
	return ErrLost
}

func (s *Store) after(d time.Duration, do func()) {
	s.late.Go(func() {
		pause(context.Background(), d)
		do()
	})
}

// spoil does to what was read what the fault says.
func (f Fault) spoil(body []byte, err error) ([]byte, error) {
	switch {
	case err != nil:
		return nil, err
	case f.Lost != nil:
		return nil, f.Lost
	}
	body = body[:max(0, len(body)-f.Short)]
	if f.Flip > 0 && len(body) > 0 {
		bit := (f.Flip - 1) % (8 * len(body))
		body[bit/8] ^= 1 << (bit % 8)
	}
	return body, nil
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// Get returns an object whole.
func (s *Store) Get(ctx context.Context, key string) ([]byte, error) {
	f := s.next(Get, key)
	if err := f.arrive(ctx); err != nil && ctx.Err() == nil && objstore.ValidateKey(key) == nil {
		return nil, err
	}
	return f.spoil(s.inner.Get(ctx, key))
}

// GetRange returns a part of an object.
func (s *Store) GetRange(ctx context.Context, key string, offset, length int64) ([]byte, error) {
	f := s.next(GetRange, key)
	if err := f.arrive(ctx); err != nil && ctx.Err() == nil && objstore.ValidateKey(key) == nil && objstore.ValidateRange(offset, length) == nil {
		return nil, err
	}
	return f.spoil(s.inner.GetRange(ctx, key, offset, length))
}

// Put stores an object, replacing one that is there.
func (s *Store) Put(ctx context.Context, key string, body []byte) error {
	f, body := s.next(Put, key), bytes.Clone(body)
	if objstore.ValidateKey(key) != nil {
		f = Fault{}
	}
	return s.change(ctx, f, func(ctx context.Context) error { return s.inner.Put(ctx, key, body) })
}

// Create stores an object if there is none.
func (s *Store) Create(ctx context.Context, key string, body []byte) error {
	f, body := s.next(Create, key), bytes.Clone(body)
	if objstore.ValidateKey(key) != nil {
		f = Fault{}
	}
	return s.change(ctx, f, func(ctx context.Context) error { return s.inner.Create(ctx, key, body) })
}

// Delete removes objects.
func (s *Store) Delete(ctx context.Context, keys ...string) error {
	keys = slices.Clone(keys)
	first := ""
	if len(keys) > 0 {
		first = keys[0]
	}
	f := s.next(Delete, first)
	if slices.ContainsFunc(keys, func(key string) bool { return objstore.ValidateKey(key) != nil }) {
		f = Fault{}
	}
	return s.change(ctx, f, func(ctx context.Context) error { return s.inner.Delete(ctx, keys...) })
}

// List returns a page of the objects.
func (s *Store) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	f := s.next(List, o.Prefix)
	if err := f.arrive(ctx); err != nil && ctx.Err() == nil && o.Validate() == nil {
		return objstore.Page{}, err
	}
	page, err := s.inner.List(ctx, o)
	if err == nil && f.Lost != nil {
		return objstore.Page{}, f.Lost
	}
	return page, err
}
