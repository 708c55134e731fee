package disk

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Files is the operating system's files: opened with O_DIRECT where the
// filesystem has it, and locked (flock) while they are open.
type Files struct{}

// creating is the suffix of a file that is not whole yet. A leftover is taken over.
const creating = ".creating"

// nocow is FS_NOCOW_FL of linux/fs.h: overwriting takes no new space.
const nocow = 0x00800000

// Create makes a file, see Storage. Unsupported on a filesystem that cannot
// allocate space ahead.
func (Files) Create(path string, bytes int64, head []byte) (File, error) {
	const op = "create"
	if _, err := os.Lstat(path); err == nil {
		return nil, fault.New(fault.Exists, "create %s: there is one already", path)
	}
	f, err := open(path+creating, unix.O_CREAT)
	if err != nil {
		return nil, fault.Wrap(err, op, path)
	}
	err = f.prepare(bytes, head)
	if err == nil {
		err = unix.Renameat2(unix.AT_FDCWD, path+creating, unix.AT_FDCWD, path, unix.RENAME_NOREPLACE)
	}
	if err != nil {
		os.Remove(path + creating) // while it is locked: it is ours
		f.Close()
		return nil, kind(err, op, path)
	}
	if err := syncDir(filepath.Dir(path)); err != nil {
		f.Close()
		return nil, kind(err, op, path)
	}
	return f, nil
}

// Open opens a file, see Storage.
func (Files) Open(path string) (File, error) {
	f, err := open(path, 0)
	if err != nil {
		return nil, fault.Wrap(err, "open", path)
	}
	return f, nil
}

// Remove removes a file, see Storage.
func (Files) Remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return kind(err, "remove", path)
	}
	return kind(syncDir(filepath.Dir(path)), "remove", path)
}

// Link gives a file a second name, see Storage.
func (Files) Link(path, to string) error {
	err := os.Link(path, to)
	if err == nil {
		err = syncDir(filepath.Dir(to))
	}
	return kind(err, "link", path)
}

// Rename renames a file, see Storage.
func (Files) Rename(path, to string) error {
	err := os.Rename(path, to)
	if err == nil {
		err = syncDir(filepath.Dir(to))
	}
	return kind(err, "rename", path)
}

type file struct{ *os.File }

func open(path string, flags int) (file, error) {
	flags |= os.O_RDWR | unix.O_NOFOLLOW
	f, err := os.OpenFile(path, flags|unix.O_DIRECT, 0o600)
	if errors.Is(err, unix.EINVAL) {
		f, err = os.OpenFile(path, flags, 0o600)
	}
	if err != nil {
		return file{}, kind(err, "", "")
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return file{}, kind(err, "lock", "")
	}
	return file{f}, nil
}

// prepare allocates the file and writes its beginning, durably.
func (f file) prepare(bytes int64, head []byte) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return err
	}
	if st.Type == unix.BTRFS_SUPER_MAGIC {
		flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
		if err == nil {
			err = unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|nocow)
		}
		if err != nil {
			return err
		}
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, bytes); err != nil {
		return err
	}
	b := Buffer(len(head))
	copy(b, head)
	if _, err := f.WriteAt(b, 0); err != nil {
		return err
	}
	return f.File.Sync()
}

// Sync is fdatasync: what it leaves out is times.
func (f file) Sync() error {
	for {
		if err := unix.Fdatasync(int(f.Fd())); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// Resize changes the length, see File.
func (f file) Resize(bytes int64) error {
	const op = "resize"
	before, err := f.Size()
	switch {
	case err != nil:
	case bytes <= before:
		err = f.Truncate(bytes)
	default:
		if err = unix.Fallocate(int(f.Fd()), 0, before, bytes-before); err != nil {
			_ = f.Truncate(before) // what it may have got
		}
	}
	if err == nil {
		err = f.File.Sync()
	}
	return kind(err, op, f.Name())
}

func (f file) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func syncDir(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func kind(err error, op, path string) error {
	if err == nil {
		return nil
	}
	k := fault.Internal
	switch {
	case errors.Is(err, fs.ErrNotExist):
		k = fault.NotFound
	case errors.Is(err, fs.ErrExist):
		k = fault.Exists
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EFBIG):
		k = fault.Exhausted
	case errors.Is(err, unix.EWOULDBLOCK):
		return fault.Wrap(fault.New(fault.InUse, "another process has it open"), op, path)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fault.Wrap(fault.New(fault.Unsupported, "%w: want a filesystem that allocates space ahead, as ext4, xfs and btrfs do", err), op, path)
	}
	return fault.Wrap(fault.As(k, err), op, path)
}
