package node

import (
	"sync"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// key is what a lock is taken on: a volume or a path.
type key struct{ kind, name string }

func volumeKey(id volume.ID) key { return key{"volume", string(id)} }
func pathKey(path string) key    { return key{"path", path} }

// locks excludes operations from one another. A taken lock is not waited for:
// the caller of CSI retries.
type locks struct {
	mu      sync.Mutex
	holders map[key]string // the operation that holds the key
}

// acquire takes all the keys or none. Busy names the holder.
func (l *locks) acquire(op string, keys ...key) (release func(), err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, k := range keys {
		if holder, taken := l.holders[k]; taken {
			return nil, fault.New(fault.Busy, "%s %s: %q is under way: try again later", k.kind, k.name, holder)
		}
	}
	if l.holders == nil {
		l.holders = make(map[key]string)
	}
	for _, k := range keys {
		l.holders[k] = op
	}
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		for _, k := range keys {
			delete(l.holders, k)
		}
	}, nil
}
