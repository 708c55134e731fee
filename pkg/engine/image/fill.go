package image

import (
	"context"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/vlog"
)

// Fill brings what is stored of blocks into the cache, and returns how many bytes it
// got from the store for that. What is there already costs nothing.
func (m *Image) Fill(ctx context.Context, first vlog.Block, count uint64) (got int64, err error) {
	pointers, err := m.table.LookupRun(ctx, first, count, nil)
	if err != nil {
		return 0, err
	}
	var at vlog.Pointer // of the run
	var end int64
	flush := func() error {
		if at.Hole() {
			return nil
		}
		n, err := m.fill(ctx, at.Object(), cache.Range{At: at.Offset(), End: end})
		got += n
		return err
	}
	for _, p := range pointers {
		if p.Hole() || !at.Hole() && p.Object() == at.Object() && p.Offset() >= at.Offset() && p.Offset()+p.Stored() <= end {
			continue
		}
		if !at.Hole() && p.Object() == at.Object() && p.Offset() == end && end-at.Offset() < runBytes {
			end += p.Stored()
			continue
		}
		if err := flush(); err != nil {
			return got, err
		}
		at, end = p, p.Offset()+p.Stored()
	}
	return got, flush()
}

func (m *Image) fill(ctx context.Context, number uint32, r cache.Range) (got int64, err error) {
	o, err := m.object(number)
	if err != nil {
		return 0, err
	}
	lines := o.cached().Lines(r)
	if m.o.Cache.Has(o.cached(), lines) {
		return 0, nil
	}
	p := make([]byte, lines.End-lines.At)
	_, err = m.o.Cache.Read(ctx, o.cached(), lines.At, p, func(ctx context.Context, need cache.Range) (int64, []byte, error) {
		b, err := m.fetch(ctx, o, need)
		got += int64(len(b))
		return need.At, b, err
	})
	return got, err
}
