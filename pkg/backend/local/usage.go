package local

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend/internal/freeze"
	"github.com/holkas-io/holkas/pkg/volume"
)

// usage says who may be writing a volume.
type usage struct {
	writable   bool   // it is attached, and not read-only
	device     string // its device, if it is attached
	mountPoint string // one of its mount points; empty: it is not mounted
}

// usage looks at how a volume is used now. A filesystem that is mounted
// read-only, wherever it is, writes nothing.
func (b *Backend) usage(ctx context.Context, s *store, id volume.ID) (usage, error) {
	d, attached, err := b.device(ctx, s.layout, id)
	if err != nil || !attached {
		return usage{}, err
	}
	u := usage{device: d.Path, writable: !d.ReadOnly}
	m, err := freeze.Find(d.Path)
	if err != nil {
		return usage{}, err
	}
	u.mountPoint = m.Point
	u.writable = u.writable && !m.ReadOnly
	return u, nil
}
