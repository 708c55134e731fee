package object

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Capacity implements backend.Backend: a repository has no end.
func (b *Backend) Capacity(_ context.Context, class volume.Class) (backend.Capacity, error) {
	return backend.Capacity{AvailableBytes: math.MaxInt64, MaximumVolumeBytes: class.MaximumBytes()}, nil
}

// Health implements backend.Backend.
func (b *Backend) Health(ctx context.Context) ([]backend.Health, error) {
	if _, err := b.site(ctx); err != nil {
		return []backend.Health{{Severity: backend.Degraded, Reason: "RepositoryUnreachable", Message: err.Error()}}, nil
	}
	return nil, nil
}

// What is thought of as late, and as nearly full.
const (
	oldBacklog = 5 * time.Minute // beyond the class's upload delay
	nearlyFull = 80              // percent of the journal
)

// VolumeHealth implements backend.Backend. For a volume that is open here it asks
// nothing of the repository.
func (b *Backend) VolumeHealth(ctx context.Context, id volume.ID) ([]backend.Health, error) {
	l, ok := b.look(id)
	if !ok {
		_, err := b.lookUp(ctx, id)
		switch fault.KindOf(err) {
		case fault.Transient:
			return []backend.Health{{Severity: backend.Degraded, Reason: "RepositoryUnreachable", Message: err.Error()}}, nil
		case fault.Corrupt, fault.Unsupported:
			return []backend.Health{{Severity: backend.Inaccessible, Reason: "RecordUnreadable", Message: err.Error()}}, nil
		}
		return nil, fault.Wrap(err, "look up health of volume", string(id))
	}
	switch {
	case l.dead != nil && fault.Is(l.dead, fault.Corrupt):
		return []backend.Health{{Severity: backend.DataLoss, Reason: "LogDamaged", Message: l.dead.Error()}}, nil
	case l.dead != nil:
		return []backend.Health{{Severity: backend.Inaccessible, Reason: "DeviceNotServed", Message: l.dead.Error()}}, nil
	case l.pending:
		return []backend.Health{{Severity: backend.Inaccessible, Reason: "DevicePaused", Message: "the engine was started again, and the volume could not be opened yet"}}, nil
	case l.v == nil:
		return nil, nil
	}
	return stateHealth(l.v.State(), b.options.Now()), nil
}

// stateHealth judges the state of an open volume.
func stateHealth(s engine.State, now time.Time) (all []backend.Health) {
	say := func(severity backend.Severity, reason, format string, args ...any) {
		all = append(all, backend.Health{Severity: severity, Reason: reason, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case s.Err != nil && fault.Is(s.Err, fault.Corrupt):
		say(backend.DataLoss, "LogDamaged", "%v", s.Err)
	case s.Err != nil && fault.Is(s.Err, fault.Fenced):
		say(backend.Inaccessible, "Fenced", "another node took it over: %v; what this node had not uploaded stays in its journal", s.Err)
	case s.Err != nil:
		say(backend.Inaccessible, "JournalFailed", "%v", s.Err)
	}
	if s.StoreErr != nil {
		severity := backend.Degraded
		if fault.Is(s.StoreErr, fault.Corrupt) {
			severity = backend.DataLoss
		}
		say(severity, "RepositoryUnreachable", "for %v: %v; %d bytes wait in the journal of %d, which writers fill meanwhile", now.Sub(s.StoreSince).Round(time.Second), s.StoreErr, s.Backlog, s.JournalSize)
	}
	if age := now.Sub(s.Oldest); !s.Oldest.IsZero() && age > oldBacklog+volume.MaxUploadDelay {
		say(backend.Degraded, "BacklogOld", "%d bytes are not in the repository yet, the oldest since %v: uploads do not keep up with writes", s.Backlog, age.Round(time.Second))
	}
	if s.JournalSize > 0 && s.JournalUsed*100 > s.JournalSize*nearlyFull {
		say(backend.Degraded, "JournalNearlyFull", "%d of %d bytes of the journal are in use: writers are slowed down: want more bandwidth to the repository, or a larger journal", s.JournalUsed, s.JournalSize)
	}
	if len(s.Kept) > 0 {
		say(backend.Degraded, "JournalKept", "another node went on without what this node had acknowledged; it is kept in %s: look whether it is needed, and remove it", strings.Join(s.Kept, ", "))
	}
	if s.Dropped != "" {
		say(backend.Degraded, "RolledBack", "%s", s.Dropped)
	}
	return all
}
