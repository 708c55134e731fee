package node

import (
	"context"
	"errors"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// ready makes the filesystem on the device fit to be mounted, and returns the
// device with what it holds. A filesystem that is mounted elsewhere on the node
// already is not touched.
func (n *Node) ready(ctx context.Context, r StageRequest, d backend.Device, mounted bool) (backend.Device, error) {
	if mounted {
		fs, err := agree(d.Filesystem, r.Use.Filesystem)
		d.Filesystem.Type = fs
		return d, err
	}
	if r.Use.Shared {
		return n.readyToShare(r, d)
	}
	if r.Use.ReadOnly {
		return n.readyToRead(ctx, r, d)
	}
	fs, err := n.prepare(ctx, r.ID, d, r.Use.Filesystem)
	if err != nil {
		return d, err
	}
	d.Filesystem = backend.Filesystem{Type: fs, State: backend.Formatted}
	return d, growUnmounted(ctx, fs, d.Path)
}

// readyToRead is ready for a volume that is attached read-only. What a read-only
// device cannot do (a journal to be replayed, a clone's identity) is done with
// the device attached for writing for a moment.
func (n *Node) readyToRead(ctx context.Context, r StageRequest, d backend.Device) (backend.Device, error) {
	fs, err := agree(d.Filesystem, r.Use.Filesystem)
	if err != nil {
		return d, err
	}
	switch d.Filesystem.State {
	case backend.NeverFormatted, backend.Formatting:
		return d, fault.New(fault.Precondition, "the volume was never formatted, and read-only it cannot be: stage it for writing once")
	case backend.Formatted:
		found, err := inspect(d.Path)
		if err != nil {
			return d, err
		}
		if found.filesystem != fs {
			return d, missing(d, fs, found)
		}
		clean, err := mountsReadOnly(d.Path, fs)
		if err != nil || clean {
			return d, err
		}
	}
	return n.settle(ctx, r, fs)
}

// mountsReadOnly tries whether a filesystem mounts from its read-only device, or
// has a journal to replay first.
func mountsReadOnly(device string, fs volume.Filesystem) (bool, error) {
	if fs == volume.Btrfs { // the kernel's word for it, an I/O error, is that of damage
		if logged, err := hasBtrfsLog(device); err != nil || logged {
			return false, err
		}
	}
	m, err := loose(device, fs, mountOptions{}.withDefaults(fs, true))
	if fault.Is(err, fault.Precondition) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return true, m.Close()
}

// settle attaches a volume for writing, prepares it, mounts it once out of
// sight, so that its journal is replayed, and attaches it read-only again.
func (n *Node) settle(ctx context.Context, r StageRequest, fs volume.Filesystem) (backend.Device, error) {
	request := backend.AttachRequest{ID: r.ID, Secrets: r.Secrets}
	d, err := n.attach(ctx, request)
	if err != nil {
		return d, err
	}
	n.here("node: attached for writing")
	if _, err := n.prepare(ctx, r.ID, d, fs); err != nil {
		return d, err
	}
	m, err := loose(d.Path, fs, mountOptions{}.withDefaults(fs, false))
	if err != nil {
		return d, err
	}
	if err := errors.Join(syncMount(m), m.Close()); err != nil {
		return d, fault.Wrap(err, "settle", d.Path)
	}
	n.here("node: settled")
	if err := n.detach(ctx, r.ID); err != nil {
		return d, err
	}
	n.here("node: detached after settling")
	request.ReadOnly = true
	return n.attach(ctx, request)
}
