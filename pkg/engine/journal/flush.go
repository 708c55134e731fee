package journal

import (
	"context"

	"github.com/holkas-io/holkas/pkg/vlog"
)

// Flush waits until every batch whose Append returned before survives the loss of
// power. Concurrent flushes share one sync. If ctx ends before, that is not known.
// Internal if the journal failed: then nothing is acknowledged any more.
func (j *Journal) Flush(ctx context.Context) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.flushLocked(ctx, j.writes)
}

// flushLocked waits until a sync that began after the n-th write succeeded. There
// is one sync at a time: of two, the kernel would tell only one of an error.
func (j *Journal) flushLocked(ctx context.Context, n uint64) error {
	for j.synced < n {
		if j.err != nil {
			return j.err
		}
		running := j.syncing
		if running == nil {
			j.syncLocked()
			continue
		}
		j.mu.Unlock()
		select {
		case <-running:
		case <-ctx.Done():
		}
		j.mu.Lock()
		if err := ctx.Err(); err != nil && j.synced < n {
			return err
		}
	}
	return nil
}

// syncLocked is the one sync of whoever waits for it.
func (j *Journal) syncLocked() {
	ended := make(chan struct{})
	j.syncing = ended
	n, end := j.writes, j.end.at
	j.mu.Unlock()
	err := j.file.Sync()
	if err != nil {
		_ = j.fail("sync", err)
	}
	j.mu.Lock()
	if err == nil {
		j.durable, j.synced = max(j.durable, end), max(j.synced, n)
		j.stats.Syncs++
	}
	j.syncing = nil
	close(ended)
}

// Durable returns the position up to which everything survives a loss of power.
func (j *Journal) Durable() vlog.LSN {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.durable
}
