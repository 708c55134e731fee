// Package keylock gives locks by key: one volume, one snapshot.
//
// A lock says who holds it, and waiting for it ends with the waiter's context.
// Nothing is kept for a key that nobody holds or waits for.
package keylock

import (
	"context"
	"sync"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Locks holds the locks of keys of one type. The zero value is ready.
type Locks[K comparable] struct {
	mu    sync.Mutex
	locks map[K]*lock
}

type lock struct {
	token  chan struct{} // holds one element while the lock is free
	users  int           // holder and waiters
	holder string
}

// Lock takes the lock of a key for holder, which says in words what is being
// done, and returns the function that gives it back. When ctx ends first it
// fails with Busy, naming the holder.
func (l *Locks[K]) Lock(ctx context.Context, key K, holder string) (unlock func(), err error) {
	k := l.join(key)
	select {
	case <-k.token: // free: taken even if ctx has ended, so that what is asked for decides
	default:
		select {
		case <-k.token:
		case <-ctx.Done():
			return nil, l.giveUp(key, k, ctx.Err())
		}
	}
	l.mu.Lock()
	k.holder = holder
	l.mu.Unlock()
	return sync.OnceFunc(func() { l.unlock(key, k) }), nil
}

func (l *Locks[K]) join(key K) *lock {
	l.mu.Lock()
	defer l.mu.Unlock()
	k := l.locks[key]
	if k == nil {
		k = &lock{token: make(chan struct{}, 1)}
		k.token <- struct{}{}
		if l.locks == nil {
			l.locks = map[K]*lock{}
		}
		l.locks[key] = k
	}
	k.users++
	return k
}

func (l *Locks[K]) giveUp(key K, k *lock, cause error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.leaveLocked(key, k)
	return fault.New(fault.Busy, "%s is under way: try again when it is done (%w)", k.holder, cause)
}

func (l *Locks[K]) unlock(key K, k *lock) {
	l.mu.Lock()
	defer l.mu.Unlock()
	k.holder = ""
	k.token <- struct{}{}
	l.leaveLocked(key, k)
}

func (l *Locks[K]) leaveLocked(key K, k *lock) {
	if k.users--; k.users == 0 {
		delete(l.locks, key)
	}
}
