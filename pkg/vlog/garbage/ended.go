package garbage

import (
	"context"
	"slices"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
)

// planEnded is the plan of a log that was let go: only snapshots need anything.
// The newest checkpoint tells them, and stays while there are any. A snapshot that
// a writer of before completes is not among them: it sees the epoch that is claimed.
func (v *view) planEnded(ctx context.Context) (Plan, error) {
	var p Plan
	newest, err := v.pinEnded(ctx)
	if err != nil {
		return Plan{}, err
	}
	for _, at := range slices.Backward(v.at) {
		s, err := v.summary(ctx, at)
		key := v.keys().Checkpoint(at)
		switch {
		case v.kept[at], fault.Is(err, fault.NotFound):
		case err != nil && !baseIsMissing(err):
			return Plan{}, err
		case at == newest.position, newest.base != nil && at == newest.base.Position:
			p.newest = append(p.newest, key)
		case err != nil, s.base != nil:
			p.Adding = append(p.Adding, key)
		default:
			p.Checkpoints = append(p.Checkpoints, key)
		}
	}
	for e := vlog.Epoch(1); e <= v.in.newest.Epoch; e++ {
		if err := v.scanTo(ctx, e, 0, 0, swept{}); err != nil {
			return Plan{}, err
		}
	}
	last, others, err := v.newestSwept(ctx)
	if p.forgotten = others; last.Epoch > 0 {
		p.forgotten = append(others, v.keys().Object(vlog.SweptKind, last.Position))
	}
	return v.collected(p), err
}

// telling is the checkpoint that tells an ended log's snapshots.
type telling struct {
	position vlog.Position
	base     *checkpoint.Base
}

// pinEnded keeps what the snapshots of the newest checkpoint need.
func (v *view) pinEnded(ctx context.Context) (telling, error) {
	if len(v.at) == 0 {
		return telling{}, nil
	}
	read, err := v.read(ctx, v.at[len(v.at)-1])
	if err == nil {
		err = v.pin(ctx, read)
	}
	if err != nil {
		return telling{}, err
	}
	if len(v.kept) > 0 {
		v.keepBase(read.Position(), read.Base)
	}
	return telling{read.Position(), read.Base}, nil
}
