package local

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Capacity implements backend.Backend. A pool that is away has none. A thin
// volume may be larger than what is available as long as no thick one depends
// on it.
func (b *Backend) Capacity(ctx context.Context, class volume.Class) (backend.Capacity, error) {
	var c backend.Capacity
	for _, p := range b.pools {
		if !p.suits(class) {
			continue
		}
		s, err := p.use(ctx)
		if err != nil || s.writable() != nil || !p.suits(class) {
			continue // Health says what is wrong
		}
		available, err := s.space.available(true, volume.MaximumBytes)
		largest := available
		if err == nil && class.Provisioning == volume.Thin {
			largest, err = s.space.available(false, volume.MaximumBytes)
		}
		if err != nil {
			return backend.Capacity{}, fault.Wrap(s.wrap(err), "look up capacity", "")
		}
		c.AvailableBytes += available
		c.MaximumVolumeBytes = max(c.MaximumVolumeBytes, largest)
	}
	return c, nil
}
