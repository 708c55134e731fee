package object

import (
	"context"
	"path/filepath"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

// pendingBytes bounds the memory of a volume's own cache.
const pendingBytes = 4 << 20

func (b *Backend) cachePath(id volume.ID) string {
	return filepath.Join(b.folder("caches"), string(id))
}

// cacheBytes is the size of a volume's own cache; 0: it has none. That of a full one
// has room for what is superseded and not dropped yet.
func cacheBytes(v repository.ObjectVolume) int64 {
	size := v.Class.CacheBytes
	if size == volume.CacheFull {
		size = v.SizeBytes + v.SizeBytes/4 + 16*cache.MinSize
	}
	return min(size/vlog.BlockSize*vlog.BlockSize, cache.MaxSize)
}

// openCache opens the cache that is a volume's own; nil if its class gives it none.
func (b *Backend) openCache(ctx context.Context, v repository.ObjectVolume) (*cache.Cache, error) {
	size := cacheBytes(v)
	if size == 0 {
		return nil, nil
	}
	c, err := cache.Open(ctx, cache.Options{Path: b.cachePath(v.ID), SizeBytes: size, PendingBytes: pendingBytes, Now: b.options.Now})
	return c, fault.Wrap(err, "open the cache of volume", string(v.ID))
}

// fitCache makes a volume's own cache as large as its class says. One that cannot
// grow goes on as it is.
func (b *Backend) fitCache(ctx context.Context, l *live, v repository.ObjectVolume) {
	size := cacheBytes(v)
	if l.cache == nil || size == 0 || size == l.cacheBytes {
		return
	}
	if err := l.cache.Resize(size); err != nil {
		klog.FromContext(ctx).Error(err, "Volume's cache keeps its size", "volumeID", l.id, "want", size)
	}
	l.cacheBytes = size
}

// closeCache closes the cache of a log that is closed. The file goes with the device:
// what is in it is in the repository as well, and the volume may never come back.
func (l *live) closeCache(ctx context.Context) {
	if l.cache == nil {
		return
	}
	if err := l.cache.Close(ctx); err != nil {
		klog.FromContext(ctx).V(2).Info("Volume's cache is found with less in it", "volumeID", l.id, "err", err)
	}
	l.cache = nil
}
