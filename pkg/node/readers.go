package node

import (
	"context"
	"errors"
	"sync"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// readyToShare is ready for a volume that other nodes read at the same time. Nothing
// may be written then, so a filesystem that has a journal to replay is refused: what
// it shows without would be torn.
func (n *Node) readyToShare(r StageRequest, d backend.Device) (backend.Device, error) {
	fs, err := agree(d.Filesystem, r.Use.Filesystem)
	if err != nil {
		return d, err
	}
	if s := d.Filesystem.State; s == backend.NeverFormatted || s == backend.Formatting {
		return d, fault.New(fault.Precondition, "the volume was never formatted, and its readers cannot: stage it for writing once, on one node")
	}
	found, err := inspect(d.Path)
	if err != nil {
		return d, err
	}
	if found.filesystem != fs {
		return d, missing(d, fs, found)
	}
	clean, err := mountsReadOnly(d.Path, fs)
	if err == nil && !clean {
		err = fault.New(fault.Precondition, "the %s filesystem has a journal to replay, or cannot be mounted by readers: stage the volume for writing once, on one node, or make one for MULTI_NODE_READER_ONLY alone from a snapshot of it", fs)
	}
	return d, err
}

// Settling is a backend that has volumes for readers alone ready for them when their
// creation returns: the journal of a clone's filesystem is replayed, and it has an
// identity of its own. That is done once, where the volume is made, and not on every
// node that reads it. It is for the engine's process: the volume is attached there,
// and mounted where nobody sees it.
func Settling(b backend.Backend) backend.Backend {
	return &settling{Backend: b, busy: map[volume.ID]bool{}}
}

type settling struct {
	backend.Backend

	mu   sync.Mutex
	busy map[volume.ID]bool // being created; guarded by mu
}

// CreateVolume is the backend's. The filesystem is Formatted when it is settled and
// the volume detached again, so a retry, or a duplicate that comes late, knows what
// is left to be done.
func (s *settling) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	if !r.ReadOnly {
		return s.Backend.CreateVolume(ctx, r)
	}
	if !s.begin(r.ID) {
		return backend.Volume{}, fault.New(fault.Busy, "volume %s: it is being created: try again later", r.ID)
	}
	defer s.end(r.ID)
	v, err := s.Backend.CreateVolume(ctx, r)
	if err != nil || v.Filesystem.State != backend.Cloned {
		return v, err
	}
	if err := s.settle(ctx, r, v.Filesystem.Type); err != nil {
		return backend.Volume{}, s.undo(ctx, r.ID, fault.Wrap(err, "settle volume", string(r.ID)))
	}
	return s.Volume(ctx, r.ID)
}

func (s *settling) begin(id volume.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[id] {
		return false
	}
	s.busy[id] = true
	return true
}

func (s *settling) end(id volume.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, id)
}

func (s *settling) settle(ctx context.Context, r backend.CreateVolumeRequest, fs volume.Filesystem) error {
	d, err := s.Attach(ctx, backend.AttachRequest{ID: r.ID, Secrets: r.Secrets})
	if err != nil {
		return err
	}
	err = settleDevice(ctx, d, fs)
	if left := s.Detach(context.WithoutCancel(ctx), r.ID); err == nil {
		err = fault.As(fault.Transient, left) // whoever holds it lets go of it
	}
	if err != nil {
		return err
	}
	return s.RecordFilesystem(ctx, r.ID, backend.Filesystem{Type: fs, State: backend.Formatted})
}

// settleDevice does what the first mount of a clone would, and unmounts it. Done
// again after a death it does no harm.
func settleDevice(ctx context.Context, d backend.Device, fs volume.Filesystem) error {
	found, err := inspect(d.Path)
	if err != nil {
		return err
	}
	if found.filesystem != fs {
		return missing(d, fs, found)
	}
	if err := check(ctx, fs, d.Path); err != nil {
		return err
	}
	if err := newIdentity(ctx, fs, d.Path); err != nil {
		return err
	}
	m, err := loose(d.Path, fs, mountOptions{}.withDefaults(fs, false))
	if err != nil {
		return err
	}
	return errors.Join(syncMount(m), m.Close())
}

// undo deletes what could not be settled for good; what may be tried again stays.
func (s *settling) undo(ctx context.Context, id volume.ID, cause error) error {
	switch fault.KindOf(cause) {
	case fault.Transient, fault.Busy, fault.Canceled, fault.Deadline:
		return cause
	}
	if err := s.DeleteVolume(ctx, id); err != nil {
		return fault.New(fault.Transient, "not undone yet: %w (after: %w)", err, cause)
	}
	return cause
}
