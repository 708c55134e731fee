package local

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/volume"
)

// btrfs is a pool on btrfs: each disk is a file without data copy-on-write in a
// subvolume of its own, and sharing is a snapshot of the subvolume, which takes
// the same few milliseconds whatever is in it.
type btrfs struct {
	root     string
	speed    *speed
	commits  *round
	cleaning *cleaning
}

func (b btrfs) poolType() volume.PoolType { return volume.BtrfsPool }

func subvolume(dir string) string { return filepath.Join(dir, "data") }

func (b btrfs) disk(dir string) string { return filepath.Join(subvolume(dir), "disk") }

func (b btrfs) create(dir string) error {
	if err := createSubvolume(subvolume(dir)); err != nil {
		return err
	}
	crashpoint.Here("local: subvolume created")
	if err := createFile(b.disk(dir)); err != nil {
		return err
	}
	return noCopyOnWrite(b.disk(dir))
}

func (b btrfs) share(from, to string) error {
	return snapshotSubvolume(subvolume(from), subvolume(to))
}

// shareLive does not snapshot the subvolume: while writes are under way, that is
// not one moment for a file without data copy-on-write. FICLONE is, and holds
// writers up as it does on XFS.
func (b btrfs) shareLive(from, to string) error {
	if err := b.create(to); err != nil {
		return err
	}
	return cloneFile(b.disk(from), b.disk(to))
}

func (b btrfs) predict(dir string, live bool) (time.Duration, error) {
	if !live {
		return 0, nil
	}
	return b.speed.predict(b.disk(dir))
}

func (b btrfs) learn(dir string, live bool, took time.Duration) {
	if live {
		b.speed.learn(b.disk(dir), took)
	}
}

func (b btrfs) remove(dir string) error {
	if err := deleteSubvolume(subvolume(dir)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	crashpoint.Here("local: subvolume deleted")
	return removeAll(dir)
}

// owed counts what was written before the newest snapshot, not only what is
// still shared: btrfs copies on the first write after a snapshot, whether or not
// that exists any more, and keeps the old extent until the last of it is
// rewritten.
func (b btrfs) owed(dir string, sizeBytes int64) (int64, error) {
	return owedByGeneration(b.disk(dir), sizeBytes)
}

// settle commits, since btrfs counts what it allocates only then, and wakes up
// what cleans deleted subvolumes away. All who need it meanwhile share a commit.
func (b btrfs) settle() error { return b.commits.do(b.commit) }

func (b btrfs) commit() error {
	f, err := os.Open(b.root)
	if err != nil {
		return err
	}
	return errors.Join(os.NewSyscallError("sync of btrfs", ioctl(f, syncAndClean, nil)), f.Close())
}

// quiet commits, so that a snapshot of a subvolume, which commits, has little to,
// and waits for deleted subvolumes, as reclaim does: while one of 200,000 extents
// is cleaned away, a snapshot takes 100 ms instead of 2.
func (b btrfs) quiet() error { return b.cleaning.round.do(b.clean) }

// reclaim waits for btrfs to take back what subvolumes had that were deleted
// before, which it does in the background. All who need it share a wait.
// The commits around it can take as long as that again, so it ends at the limit
// whatever they do.
func (b btrfs) reclaim() error {
	done := make(chan error, 1)
	go func() { done <- b.quiet() }()
	select {
	case err := <-done:
		return err
	case <-time.After(b.cleaning.limit):
		return nil // what is not back yet is missing in room
	}
}

// cleaningLimit is how long clean waits. Where it waited in vain, as in a pool
// that is too full to be cleaned, it does not wait again for cleaningPatience.
const (
	cleaningLimit    = time.Second
	cleaningPatience = time.Minute
)

// cleaning is the wait for deleted subvolumes.
type cleaning struct {
	round  round
	limit  time.Duration
	inVain time.Time // when it was last; touched only in the round
}

func (b btrfs) clean() error {
	if err := b.settle(); err != nil { // wakes what cleans
		return err
	}
	limit := b.cleaning.limit
	if time.Since(b.cleaning.inVain) < cleaningPatience {
		limit = 0
	}
	clean, err := b.waitForCleaning(limit)
	switch {
	case err != nil:
		return err
	case clean:
		b.cleaning.inVain = time.Time{}
		return b.settle()
	case limit > 0:
		b.cleaning.inVain = time.Now()
	}
	return nil // what is not back yet is missing in room
}

// waitForCleaning reports whether all subvolumes that are deleted now are gone
// within a limit.
func (b btrfs) waitForCleaning(limit time.Duration) (clean bool, err error) {
	f, err := os.Open(b.root)
	if err != nil {
		return false, err
	}
	defer f.Close()
	waitFor, err := deletedSubvolumes(f)
	for began := time.Now(); err == nil && len(waitFor) > 0; <-time.After(5 * time.Millisecond) {
		if time.Since(began) >= limit {
			return false, nil
		}
		var left map[uint64]bool
		left, err = deletedSubvolumes(f)
		maps.DeleteFunc(waitFor, func(id uint64, _ bool) bool { return !left[id] })
	}
	return err == nil, err
}

// room leaves a 16th of all thick volumes and an 8th of all debts for metadata,
// which is kept twice, and a tenth of the pool, from 64 MiB to 1 GiB: btrfs takes
// room for data and for metadata in pieces of that size.
func (b btrfs) room() (roomFunc, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(b.root, &st); err != nil {
		return nil, err
	}
	free, total := int64(st.Bavail)*st.Bsize, int64(st.Blocks)*st.Bsize
	reserve := min(max(total/10, 64<<20), 1<<30)
	return func(thickBytes, owedBytes int64) int64 {
		return free - reserve - thickBytes/16 - owedBytes/8
	}, nil
}
