package local

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

// shareProbe is a file that is made for a moment to see whether a filesystem can
// share extents.
const shareProbe = "holkas-probe"

// mediumAt returns the kind of filesystem under a folder. Precondition if it is
// none that can be a pool; Transient if the folder is not there.
func mediumAt(root string) (medium, error) {
	info, err := os.Stat(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fault.New(fault.Transient, "%s does not exist: want an existing folder", root)
	}
	if err != nil {
		return nil, fault.New(fault.Transient, "%w", err)
	}
	if !info.IsDir() {
		return nil, fault.New(fault.Precondition, "%s is no folder: want one", root)
	}
	var st unix.Statfs_t
	if err := unix.Statfs(root, &st); err != nil {
		return nil, fault.New(fault.Transient, "%s: %w", root, err)
	}
	switch st.Type {
	case unix.XFS_SUPER_MAGIC:
		return xfs{root: root, speed: newSpeed(), removals: &removals{}}, nil
	case unix.BTRFS_SUPER_MAGIC:
		return btrfs{root: root, speed: newSpeed(), commits: &round{}, cleaning: &cleaning{limit: cleaningLimit}}, nil
	}
	return nil, fault.New(fault.Precondition, "%s is on a filesystem (statfs type %#x) whose files cannot share extents as snapshots need it: want XFS with reflink, or btrfs", root, st.Type)
}

// canShare tries to share an extent. Precondition if the filesystem cannot.
func canShare(root string) error {
	probe := filepath.Join(root, shareProbe)
	if err := os.RemoveAll(probe); err != nil {
		return err
	}
	if err := os.Mkdir(probe, 0o700); err != nil {
		return err
	}
	one, two := filepath.Join(probe, "1"), filepath.Join(probe, "2")
	err := os.WriteFile(one, make([]byte, 64<<10), 0o600)
	if err == nil {
		err = cloneFile(one, two)
	}
	if errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.EINVAL) {
		err = fault.New(fault.Precondition, "%s: the filesystem cannot share extents (%w): want XFS made with mkfs.xfs -m reflink=1, or btrfs", root, err)
	}
	return errors.Join(err, os.RemoveAll(probe))
}
