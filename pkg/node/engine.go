package node

import (
	"context"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// patiently calls f again while it fails with Transient, for as long as the
// context and the limit allow: an engine that is starting answers in a moment.
func patiently[T any](ctx context.Context, limit time.Duration, f func() (T, error)) (T, error) {
	deadline := time.Now().Add(limit)
	for pause := 20 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		result, err := f()
		if !fault.Is(err, fault.Transient) || time.Now().Add(pause).After(deadline) {
			return result, err
		}
		select {
		case <-ctx.Done():
			return result, err
		case <-time.After(pause):
		}
	}
}

// volume asks the engine about a volume.
func (n *Node) volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	return patiently(ctx, n.engineWait, func() (backend.Volume, error) { return n.engine.volume(ctx, id) })
}

func (n *Node) record(ctx context.Context, id volume.ID, state backend.FormatState, fs volume.Filesystem) error {
	_, err := patiently(ctx, n.engineWait, func() (struct{}, error) {
		return struct{}{}, n.engine.recordFilesystem(ctx, id, backend.Filesystem{Type: fs, State: state})
	})
	return fault.Wrap(err, "record", string(state)+" "+string(fs))
}

func (n *Node) detach(ctx context.Context, id volume.ID) error {
	_, err := patiently(ctx, n.engineWait, func() (struct{}, error) { return struct{}{}, n.engine.detach(ctx, id) })
	return err
}

// attach gives the volume's device in the mode that is asked for. If it is
// attached in the other one and nothing uses it, an earlier attempt died, and
// the mode is changed.
func (n *Node) attach(ctx context.Context, r backend.AttachRequest) (backend.Device, error) {
	try := func() (backend.Device, error) {
		return patiently(ctx, n.engineWait, func() (backend.Device, error) { return n.engine.attach(ctx, r) })
	}
	d, err := try()
	if !fault.Is(err, fault.InUse) {
		return d, err
	}
	v, volumeErr := n.volume(ctx, r.ID)
	if volumeErr != nil || v.Device == "" {
		return d, err
	}
	uses, usesErr := n.uses(v.Device)
	if usesErr != nil || len(uses) > 0 {
		return d, err
	}
	if detachErr := n.detach(ctx, r.ID); detachErr != nil {
		return d, err
	}
	n.here("node: detached to change the mode")
	return try()
}
