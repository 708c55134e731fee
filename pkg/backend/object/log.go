package object

import (
	"context"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/vlog/checkpoint"
	"github.com/holkas-io/holkas/pkg/vlog/epoch"
)

// start is where a walk through a log begins. It needs no key.
func (s *site) start(ctx context.Context, log vlog.LogID) (epoch.Start, error) {
	read, err := checkpoint.Reader{Store: s.Store, Log: log}.Newest(ctx)
	if fault.Is(err, fault.NotFound) {
		base, err := epoch.Log{Store: s.Store, ID: log}.Base(ctx)
		return base.Start(), err
	}
	if err != nil {
		return epoch.Start{}, err
	}
	return epoch.Start{Head: read.Head(), Settled: read.Settled}, nil
}

// atRest reports whether nobody has a volume's log open, and nobody has promises to
// keep.
func (s *site) atRest(ctx context.Context, v repository.ObjectVolume) (bool, error) {
	log, err := logOf(v)
	if err != nil {
		return false, err
	}
	start, err := s.start(ctx, log)
	if err != nil {
		return false, err
	}
	found, err := epoch.Log{Store: s.Store, ID: log}.Survey(ctx, start)
	n := len(found.Runs)
	return len(found.Unsettled) == 0 && (n == 0 || found.Runs[n-1].Marker != nil), err
}
