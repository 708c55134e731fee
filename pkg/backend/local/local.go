package local

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/internal/keylock"
	"github.com/holkas-io/holkas/pkg/backend/internal/pause"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Backend keeps volumes in this node's pools. See the package's documentation
// for the order of its locks.
type Backend struct {
	options  Options
	pools    []*pool
	locks    keylock.Locks[volume.ID]
	cutLocks keylock.Locks[volume.SnapshotID]
	pauses   pause.Pauses[*hold]
	freezing freezing
	devices  devices
}

var _ backend.Backend = (*Backend)(nil)

// Open opens the pools, and finishes or undoes in each what an earlier process
// left unfinished: filesystems that are still frozen go on, half-made volumes and
// snapshots are removed, half-deleted ones are deleted.
//
// A pool that is missing or whose disk fails does not keep the others from
// working: it is inaccessible until it is back. Open fails if a configured place
// cannot be a pool at all: Invalid for the options, Precondition for the place,
// InUse if another engine has the pool.
func Open(ctx context.Context, o Options) (*Backend, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	b := &Backend{options: o.withDefaults()}
	var faults []error
	for _, c := range o.Pools {
		p := &pool{config: c, opener: b.openPool}
		p.lastID = b.rememberedID(c.Name)
		b.pools = append(b.pools, p)
		if err := p.open(ctx); err != nil && b.unusable(p, err) {
			faults = append(faults, fault.Wrap(err, "open pool", c.Name))
		}
	}
	if len(faults) > 0 {
		b.closePools()
		return nil, fault.As(fault.KindOf(faults[0]), errors.Join(faults...))
	}
	return b, nil
}

// unusable tells a mistake in the configuration from a pool that is away. Where
// a pool is known to have been, it is away.
func (b *Backend) unusable(p *pool, err error) bool {
	switch fault.KindOf(err) {
	case fault.InUse, fault.Invalid:
		return true
	case fault.Precondition:
		return p.lastID == ""
	}
	return false
}

// Close ends the pauses that are still held and gives the pools free. Attached
// devices stay: the data path outlives this process.
func (b *Backend) Close(ctx context.Context) error {
	b.pauses.EndAll(ctx)
	b.closePools()
	return nil
}

func (b *Backend) closePools() {
	for _, p := range b.pools {
		p.close()
	}
}

// Pool is a configured pool.
type Pool struct {
	Name string
	Type volume.PoolType // empty while it is not known, since the pool was never accessible
}

// Pools returns the configured pools, in their order.
func (b *Backend) Pools(ctx context.Context) []Pool {
	pools := make([]Pool, 0, len(b.pools))
	for _, p := range b.pools {
		_, _ = p.use(ctx) // may bring it back; Health says why not
		pools = append(pools, Pool{Name: p.config.Name, Type: p.poolType()})
	}
	return pools
}

// openPool opens one pool and tidies it.
func (b *Backend) openPool(ctx context.Context, c PoolConfig, lastID string) (*store, error) {
	if c.Device != "" {
		if err := mountDevice(ctx, c, lastID == ""); err != nil {
			return nil, err
		}
	}
	s, err := openStore(c.resolved(), c.Name, lastID, b.options.Now())
	if err != nil {
		return nil, err
	}
	if err := errors.Join(b.remember(s), b.tidy(ctx, s)); err != nil {
		s.close()
		return nil, access(err)
	}
	return s, nil
}

// rememberedID returns the id of the pool that this name stood for in an earlier
// life of the engine, if that is known.
func (b *Backend) rememberedID(name string) string {
	if b.options.StateDir == "" {
		return ""
	}
	p, err := record.Read[record.Pool](b.memory(name))
	if err != nil {
		return "" // the pool's own file decides
	}
	return p.ID
}

func (b *Backend) remember(s *store) error {
	if b.options.StateDir == "" || b.rememberedID(s.name) == s.pool.ID {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(b.memory(s.name)), 0o700); err != nil {
		return fault.New(fault.Precondition, "stateDir: %w", err)
	}
	return record.Write(b.memory(s.name), s.pool)
}

func (b *Backend) memory(pool string) string {
	return filepath.Join(b.options.StateDir, "pools", pool+".json")
}
