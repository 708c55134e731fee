package node

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
)

// tree is the directory that every path must lie under. The directory itself
// may be, or lie behind, a symbolic link; below it none is followed.
type tree struct{ dir string }

// place is a path that was walked: its parent directory, opened, and the last
// element, which may be absent but is not a symbolic link.
type place struct {
	field  string
	parent *os.File // O_PATH
	name   string
	// real is the path as the mount table has it.
	real string
	// mode is of what is there, seen through mounts: zero if nothing is.
	mode uint32
	// stale is why what is there cannot be looked at, as after a mount's device
	// has died.
	stale error
}

const maxPathBytes = unix.PathMax - 1

// relative validates a path by its spelling and returns what lies below the
// tree. field names it in the error, which is Invalid.
func (t tree) relative(field, path string) (string, error) {
	clipped := clip(path)
	switch {
	case path == "":
		return "", fault.New(fault.Invalid, "%s: empty: want an absolute path below %s", field, t.dir)
	case len(path) > maxPathBytes:
		return "", fault.New(fault.Invalid, "%s: %d bytes: want at most %d", field, len(path), maxPathBytes)
	case strings.IndexFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) >= 0:
		return "", fault.New(fault.Invalid, "%s: %q: want a path without control characters", field, clipped)
	case !filepath.IsAbs(path) || filepath.Clean(path) != path:
		return "", fault.New(fault.Invalid, "%s: %q: want an absolute path without //, . and .. and with no / at its end", field, clipped)
	}
	if below, ok := strings.CutPrefix(path, t.dir+"/"); ok {
		return below, nil
	}
	if real, err := t.real(); err == nil {
		if below, ok := strings.CutPrefix(path, real+"/"); ok {
			return below, nil
		}
	}
	return "", fault.New(fault.Invalid, "%s: %q: want a path below the kubelet's directory %s", field, clipped, t.dir)
}

// real is the tree's path as the mount table has it.
func (t tree) real() (string, error) {
	real, err := filepath.EvalSymlinks(t.dir)
	return real, fault.As(fault.Internal, err)
}

// find walks a path. Invalid if it is not one that Holkas may touch; NotFound if
// its parent directory does not exist.
func (t tree) find(field, path string) (*place, error) {
	below, err := t.relative(field, path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenFile(t.dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		return nil, fault.New(fault.NotFound, "%s: kubelet directory: %w", field, err)
	}
	defer root.Close()
	parent, err := openBelow(root, filepath.Dir(below), unix.O_DIRECTORY)
	if err != nil {
		return nil, walkFault(field, path, err)
	}
	p := &place{field: field, parent: parent, name: filepath.Base(below)}
	if err := p.look(); err != nil {
		p.Close()
		return nil, err
	}
	return p, nil
}

// clip is what of a path a message holds.
func clip(path string) string { return path[:min(len(path), 200)] }

// openBelow opens a path below a directory for looking up only, refusing every
// symbolic link.
func openBelow(dir *os.File, path string, flags uint64) (*os.File, error) {
	fd, err := unix.Openat2(int(dir.Fd()), path, &unix.OpenHow{
		Flags:   flags | unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), filepath.Join(dir.Name(), path)), nil
}

func walkFault(field, path string, err error) error {
	path = clip(path)
	switch {
	case errors.Is(err, unix.ENOENT):
		return fault.New(fault.NotFound, "%s: %q: its parent directory does not exist", field, path)
	case errors.Is(err, unix.ELOOP), errors.Is(err, unix.EXDEV):
		return fault.New(fault.Invalid, "%s: %q: leads through a symbolic link: want a path without any", field, path)
	case errors.Is(err, unix.ENOTDIR):
		return fault.New(fault.Invalid, "%s: %q: an element before the last is not a directory", field, path)
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.New(fault.Invalid, "%s: %q: an element is too long: want at most 255 bytes", field, path)
	}
	return fault.New(fault.Internal, "%s: %q: %w", field, path, err)
}

// look sees what is there now.
func (p *place) look() error {
	dir, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(int(p.parent.Fd())))
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	p.real = filepath.Join(dir, p.name)
	p.mode, p.stale = 0, nil
	var st unix.Stat_t
	switch err := unix.Fstatat(int(p.parent.Fd()), p.name, &st, unix.AT_SYMLINK_NOFOLLOW); {
	case err == nil:
		p.mode = st.Mode
	case errors.Is(err, unix.ENOENT):
	case errors.Is(err, unix.ENAMETOOLONG):
		return fault.New(fault.Invalid, "%s: %q: the last element is too long: want at most 255 bytes", p.field, clip(p.real))
	default:
		p.stale = err
	}
	if p.is(unix.S_IFLNK) {
		return fault.New(fault.Invalid, "%s: %q: is a symbolic link: want a path without any", p.field, clip(p.real))
	}
	return nil
}

func (p *place) is(kind uint32) bool { return p.mode&unix.S_IFMT == kind }

func (p *place) absent() bool { return p.mode == 0 && p.stale == nil }

// open opens what is there for looking up only: the topmost mount, if any.
func (p *place) open() (*os.File, error) {
	f, err := openBelow(p.parent, p.name, 0)
	if err != nil {
		return nil, walkFault(p.field, p.real, err)
	}
	return f, nil
}

// make creates an empty directory or file there unless one is there already.
func (p *place) make(directory bool) error {
	var err error
	if directory {
		err = unix.Mkdirat(int(p.parent.Fd()), p.name, 0o750)
	} else {
		var fd int
		fd, err = unix.Openat(int(p.parent.Fd()), p.name, unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o640)
		if err == nil {
			err = unix.Close(fd)
		}
	}
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return fault.New(fault.Internal, "%s: create %s: %w", p.field, p.real, err)
	}
	if err := p.look(); err != nil {
		return err
	}
	if directory != p.is(unix.S_IFDIR) {
		return fault.New(fault.Precondition, "%s: %s is in the way: want a directory for a filesystem, a file for a block volume", p.field, p.real)
	}
	return nil
}

// remove takes away the empty directory, or the file, that is there.
func (p *place) remove() error {
	flags := 0
	if p.is(unix.S_IFDIR) {
		flags = unix.AT_REMOVEDIR
	}
	err := unix.Unlinkat(int(p.parent.Fd()), p.name, flags)
	switch {
	case err == nil, errors.Is(err, unix.ENOENT):
		return nil
	case errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.EEXIST):
		return fault.New(fault.Precondition, "%s: %s is not empty and nothing is mounted there: its content is not the volume's, look at it and remove it", p.field, p.real)
	case errors.Is(err, unix.EBUSY):
		return fault.New(fault.InUse, "%s: %s: %w", p.field, p.real, err)
	}
	return fault.New(fault.Internal, "%s: remove %s: %w", p.field, p.real, err)
}

// Close lets the parent directory go.
func (p *place) Close() { p.parent.Close() }
