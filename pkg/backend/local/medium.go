package local

import (
	"time"

	"github.com/holkas-io/holkas/pkg/volume"
)

// medium is what the kinds of filesystem under a pool do each in its own way. A
// folder holds one disk: a volume's, a snapshot's, or one that is being built.
type medium interface {
	poolType() volume.PoolType
	// disk is the path of the disk in a folder.
	disk(dir string) string
	// create makes an empty disk in a folder.
	create(dir string) error
	// share makes the disk in the folder `to` from the one in `from`, which
	// nobody writes meanwhile.
	share(from, to string) error
	// shareLive does so while it is being written: the result holds the bytes of
	// one moment between two writes.
	shareLive(from, to string) error
	// predict says for how long writers would be blocked by share (for a frozen
	// filesystem) or, if live, by shareLive; 0 if it does not depend on what is
	// in the disk.
	predict(dir string, live bool) (time.Duration, error)
	// learn is told what a predicted pause really took.
	learn(dir string, live bool, took time.Duration)
	// remove removes a folder with its disk. One that is gone is success.
	remove(dir string) error
	// owed measures how many bytes writes anywhere in the disk may still take
	// from the pool.
	owed(dir string, sizeBytes int64) (int64, error)
	// settle makes what was allocated so far visible to room.
	settle() error
	// quiet brings to its end what the filesystem does in the background and what
	// a cut would have to wait for while it holds writers up.
	quiet() error
	// reclaim does that with what was removed too, as far as a short wait can.
	reclaim() error
	// room looks at the pool's free space.
	room() (roomFunc, error)
}

// roomFunc says how many bytes of data a pool has room for beside the metadata
// that its thick volumes, thickBytes in size altogether and owing owedBytes, may
// come to need.
type roomFunc func(thickBytes, owedBytes int64) int64
