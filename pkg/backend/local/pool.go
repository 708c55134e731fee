package local

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// retryInterval is how long an inaccessible pool is left alone before the next
// operation tries to open it again.
const retryInterval = time.Second

// pool is a pool of the configuration: open, or inaccessible for a reason.
type pool struct {
	config PoolConfig
	opener func(ctx context.Context, c PoolConfig, lastID string) (*store, error)

	mu      sync.Mutex
	store   *store
	reason  error // why store is nil
	retryAt time.Time
	lastID  string // the id of the pool that was here last
	lastHad map[volume.ID]bool
	is      volume.PoolType
}

// open opens the pool for the first time.
func (p *pool) open(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.openLocked(ctx)
}

// use returns the open pool, after looking that it is still there. An
// inaccessible one is tried again. Transient, naming the pool and its path.
func (p *pool) use(ctx context.Context) (*store, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store != nil {
		err := p.store.present()
		if err == nil {
			return p.store, nil
		}
		p.loseLocked(ctx, err)
	}
	if time.Now().Before(p.retryAt) {
		return nil, p.inaccessibleLocked()
	}
	if err := p.openLocked(ctx); err != nil {
		return nil, p.inaccessibleLocked()
	}
	klog.FromContext(ctx).Info("Pool is accessible again", "pool", p.config.Name, "path", p.config.root())
	return p.store, nil
}

func (p *pool) loseLocked(ctx context.Context, reason error) {
	klog.FromContext(ctx).Error(reason, "Pool became inaccessible", "pool", p.config.Name, "path", p.config.root())
	p.lastHad = p.store.space.volumes()
	p.store.close()
	p.store, p.reason, p.retryAt = nil, reason, time.Time{}
}

// openLocked opens the pool and keeps the reason if it cannot.
func (p *pool) openLocked(ctx context.Context) error {
	s, err := p.opener(ctx, p.config, p.lastID)
	if err != nil {
		p.reason, p.retryAt = err, time.Now().Add(retryInterval)
		return err
	}
	p.store, p.reason, p.lastID, p.lastHad, p.is = s, nil, s.pool.ID, nil, s.pool.Type
	return nil
}

func (p *pool) inaccessibleLocked() error {
	return fault.New(fault.Transient, "pool %s at %s is inaccessible: %w", p.config.Name, p.config.root(), p.reason)
}

// had reports whether the pool is inaccessible and held the volume when it was
// last seen.
func (p *pool) had(id volume.ID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lastHad[id]
}

func (p *pool) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.store != nil {
		p.store.close()
		p.store, p.reason = nil, fault.New(fault.Transient, "the backend is closed")
		p.retryAt = time.Now().Add(1000 * time.Hour)
	}
}

// poolType is the type of the pool, or of what its device is to be formatted as
// while it was never accessible.
func (p *pool) poolType() volume.PoolType {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.is == "" {
		return p.config.Format
	}
	return p.is
}

// suits reports whether a class allows the pool, so far as is known of it.
func (p *pool) suits(class volume.Class) bool {
	is := p.poolType()
	return (class.Pool == "" || class.Pool == p.config.Name) &&
		(class.PoolType == volume.AnyPool || is == "" || is == class.PoolType)
}

// poolsInWords lists the pools for a message.
func (b *Backend) poolsInWords() string {
	words := make([]string, len(b.pools))
	for i, p := range b.pools {
		words[i] = fmt.Sprintf("%s (%s)", p.config.Name, cmp.Or(string(p.poolType()), "not accessible yet"))
	}
	return strings.Join(words, ", ")
}
