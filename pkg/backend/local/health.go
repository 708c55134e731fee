package local

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/local/internal/record"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// lowSpace is the share of a pool, in percent, below which its free space is low.
const lowSpace = 5

// Health implements backend.Backend.
func (b *Backend) Health(ctx context.Context) ([]backend.Health, error) {
	var all []backend.Health
	for _, p := range b.pools {
		s, err := p.use(ctx)
		if err != nil {
			all = append(all, backend.Health{Severity: backend.Inaccessible, Reason: "PoolInaccessible", Message: err.Error()})
			continue
		}
		all = append(all, s.health()...)
	}
	return all, nil
}

func (s *store) health() (all []backend.Health) {
	if err := s.writable(); err != nil {
		return []backend.Health{{Severity: backend.Inaccessible, Reason: "PoolReadOnly", Message: err.Error()}}
	}
	degraded := func(reason, format string, args ...any) {
		message := fmt.Sprintf("pool %s at %s: ", s.name, s.layout) + fmt.Sprintf(format, args...)
		all = append(all, backend.Health{Severity: backend.Degraded, Reason: reason, Message: message})
	}
	var st unix.Statfs_t
	if err := unix.Statfs(string(s.layout), &st); err != nil {
		degraded("PoolUnreadable", "%v", err)
	} else if st.Bavail*100 < st.Blocks*lowSpace {
		degraded("PoolLowSpace", "%d of %d blocks are free: want at least %d %%: delete snapshots or volumes, or enlarge the pool", st.Bavail, st.Blocks, lowSpace)
	}
	if missing, err := s.space.shortage(); err == nil && missing > 0 {
		degraded("PoolOvercommitted", "thick volumes may meet a full pool: %d bytes are missing: something else takes room there; remove it, or delete snapshots", missing)
	}
	return all
}

// VolumeHealth implements backend.Backend.
func (b *Backend) VolumeHealth(ctx context.Context, id volume.ID) ([]backend.Health, error) {
	p, err := b.findVolume(ctx, id)
	switch fault.KindOf(err) {
	case fault.Transient:
		return []backend.Health{{Severity: backend.Inaccessible, Reason: "PoolInaccessible", Message: err.Error()}}, nil
	case fault.Corrupt, fault.Unsupported:
		return []backend.Health{{Severity: backend.Inaccessible, Reason: "RecordUnreadable", Message: err.Error()}}, nil
	}
	if err != nil {
		return nil, fault.Wrap(err, "look up health of volume", string(id))
	}
	return append(diskHealth(p), p.health()...), nil
}

// diskHealth looks at a volume's disk.
func diskHealth(p place[record.Volume]) []backend.Health {
	err := wholeDisk(p)
	if err == nil {
		return nil
	}
	h := backend.Health{Severity: backend.Inaccessible, Reason: "DiskUnreadable", Message: err.Error()}
	if fault.Is(err, fault.Corrupt) {
		h.Severity, h.Reason = backend.DataLoss, "DiskTooShort"
		if _, err := os.Stat(p.medium.disk(p.dir)); errors.Is(err, fs.ErrNotExist) {
			h.Reason = "DiskMissing"
		}
	}
	return []backend.Health{h}
}
