package local

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/volume"
)

// xfs is a pool on XFS: disks are files, and sharing is FICLONE, which holds
// writers up while it copies the list of extents.
type xfs struct {
	root     string
	speed    *speed
	removals *removals
}

func (x xfs) poolType() volume.PoolType { return volume.XFSPool }

func (x xfs) disk(dir string) string { return filepath.Join(dir, "disk") }

func (x xfs) create(dir string) error { return createFile(x.disk(dir)) }

func (x xfs) share(from, to string) error { return cloneFile(x.disk(from), x.disk(to)) }

// shareLive is the same: FICLONE locks writers out.
func (x xfs) shareLive(from, to string) error { return x.share(from, to) }

func (x xfs) predict(dir string, _ bool) (time.Duration, error) {
	return x.speed.predict(x.disk(dir))
}

func (x xfs) learn(dir string, _ bool, took time.Duration) { x.speed.learn(x.disk(dir), took) }

func (x xfs) remove(dir string) error { return removeAll(dir) }

// owed counts what is shared and what is a hole: XFS writes everything else in
// place.
func (x xfs) owed(dir string, sizeBytes int64) (int64, error) {
	return owedByExtents(x.disk(dir), sizeBytes)
}

// settle has nothing to do: XFS counts at once.
func (x xfs) settle() error { return nil }

// quiet waits for the removal of what was deleted: FICLONE would wait for its locks
// at every extent, and take ten times as long.
func (x xfs) quiet() error { return x.finishRemovals() }

// reclaim waits for that, too, but not for long: the removal of a large volume
// written at random takes tens of seconds, and until then there is less room than
// there will be, which is no reason to keep anybody waiting.
func (x xfs) reclaim() error {
	select {
	case <-x.removals.finish(x.finishRemovals):
	case <-time.After(removalPatience):
	}
	return nil
}

// removalPatience is how long reclaim waits.
const removalPatience = time.Second

// removals is a wait for the removal of what was deleted that is under way, which
// all who wait share.
type removals struct {
	mu   sync.Mutex
	done chan struct{}
}

func (r *removals) finish(wait func() error) <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done != nil {
		return r.done
	}
	done := make(chan struct{})
	r.done = done
	go func() {
		_ = wait() // it only makes the figures better
		r.mu.Lock()
		r.done = nil
		r.mu.Unlock()
		close(done)
	}()
	return done
}

// finishRemovals waits until XFS has taken back what unlinked files had, which it
// does in the background, and what it set aside for copies that were not written.
func (x xfs) finishRemovals() error {
	f, err := os.Open(x.root)
	if err != nil {
		return err
	}
	defer f.Close()
	r := eofBlocks{version: 1}
	return os.NewSyscallError("free unused blocks of xfs", ioctl(f, freeEOFBlocks, unsafe.Pointer(&r)))
}

// XFS_IOC_FREE_EOFBLOCKS and struct xfs_fs_eofblocks of xfs/xfs_fs.h. Without
// flags it looks at all files, and passes over those that are busy.
const freeEOFBlocks = 0x8080583a

type eofBlocks struct {
	version, flags          uint32
	user, group, project, _ uint32
	minimumFileSize         uint64
	_                       [12]uint64
}

// room leaves a 64th of all thick volumes for the records of extents, which
// become many when preallocated space is written in random order, a 32nd of all
// debts for those of copies and of their reference counts, and a 64th of the
// pool, from 16 MiB to 1 GiB, for folders, logs and what other things there are.
func (x xfs) room() (roomFunc, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(x.root, &st); err != nil {
		return nil, err
	}
	free, total := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	reserve := min(max(total/64, 16<<20), 1<<30)
	return func(thickBytes, owedBytes int64) int64 {
		return free - reserve - thickBytes/64 - owedBytes/32
	}, nil
}

func createFile(path string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// cloneFile makes a file that shares all bytes of another.
func cloneFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	for {
		err = unix.IoctlFileClone(int(target.Fd()), int(source.Fd()))
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		err = &os.PathError{Op: "clone", Path: from, Err: err}
	}
	return errors.Join(err, target.Close())
}
