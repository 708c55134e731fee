package node

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Filesystems are mounted through the kernel's own calls, not through mount(8):
// an option then reaches the filesystem and nothing else, the mount lands on the
// directory that was checked and not on what bears its name a moment later, and
// an error is a number with the kernel's words, not a program's output.

// loose makes a mount of the filesystem on a device that is not in the mount
// table yet. It is gone when the file is closed, or when the process dies.
func loose(device string, fs volume.Filesystem, o mountOptions) (*os.File, error) {
	fd, err := unix.Fsopen(string(fs), unix.FSOPEN_CLOEXEC)
	if errors.Is(err, unix.ENODEV) {
		return nil, fault.New(fault.Precondition, "this node's kernel has no %s: load its module", fs)
	}
	if err != nil {
		return nil, fault.As(fault.Internal, fmt.Errorf("fsopen %s: %w", fs, err))
	}
	context := os.NewFile(uintptr(fd), string(fs))
	defer context.Close()
	if err := configure(fd, device, o); err != nil {
		return nil, mountFault(err, device, fs, context)
	}
	mountFD, err := unix.Fsmount(fd, unix.FSMOUNT_CLOEXEC, int(o.attributes()))
	if err != nil {
		return nil, mountFault(err, device, fs, context)
	}
	return os.NewFile(uintptr(mountFD), device), nil
}

// refusedOption is an option that the kernel does not take.
type refusedOption struct {
	key string
	err error
}

func (r refusedOption) Error() string { return fmt.Sprintf("mount option %s: %v", r.key, r.err) }

func configure(fd int, device string, o mountOptions) error {
	if err := unix.FsconfigSetString(fd, "source", device); err != nil {
		return err
	}
	if o.readOnly {
		if err := unix.FsconfigSetFlag(fd, "ro"); err != nil {
			return err
		}
	}
	for _, option := range o.filesystem {
		var err error
		if option.hasValue {
			err = unix.FsconfigSetString(fd, option.key, option.value)
		} else {
			err = unix.FsconfigSetFlag(fd, option.key)
		}
		if err != nil {
			return refusedOption{option.key, err}
		}
	}
	return unix.FsconfigCreate(fd)
}

// mountFault says what a failed mount means, and what to do.
func mountFault(err error, device string, fs volume.Filesystem, context *os.File) error {
	said := kernelSays(context)
	var refused refusedOption
	switch {
	case errors.As(err, &refused):
		return fault.New(fault.Invalid, "mount_flags: the kernel refuses %s for %s%s: leave it out", refused.key, fs, said)
	case errors.Is(err, unix.EUCLEAN), errors.Is(err, unix.EBADMSG), errors.Is(err, unix.EIO):
		return fault.New(fault.Corrupt, "mount %s: the %s filesystem is damaged: %w%s: look at it with %q while it is not mounted", device, fs, err, said, checkCommand(fs, device))
	case errors.Is(err, unix.EBUSY), errors.Is(err, unix.EEXIST):
		return fault.New(fault.InUse, "mount %s: in use, or a filesystem of the same identity is mounted: %w%s", device, err, said)
	case errors.Is(err, unix.EROFS), errors.Is(err, unix.EACCES):
		return fault.New(fault.Precondition, "mount %s: the %s filesystem must be mounted for writing once: %w%s", device, fs, err, said)
	case errors.Is(err, unix.EINVAL):
		return fault.New(fault.Precondition, "mount %s: the kernel refuses the %s filesystem or its options: %w%s: see the kernel's log, and check it with %q", device, fs, err, said, checkCommand(fs, device))
	}
	return fault.New(fault.Internal, "mount %s as %s: %w%s", device, fs, err, said)
}

// checkCommand is how an operator looks at a filesystem without changing it.
func checkCommand(fs volume.Filesystem, device string) string {
	switch fs {
	case volume.XFS:
		return "xfs_repair -n " + device
	case volume.Btrfs:
		return "btrfs check --readonly " + device
	}
	return "e2fsck -f -n " + device
}

// kernelSays reads what the kernel has to say about a failed mount.
func kernelSays(context *os.File) string {
	var said []string
	line := make([]byte, 1024)
	for range 8 {
		count, err := unix.Read(int(context.Fd()), line)
		if err != nil || count <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(line[:count])))
	}
	if len(said) == 0 {
		return ""
	}
	return " (kernel: " + strings.Join(said, "; ") + ")"
}

// putMount puts a loose mount at a place.
func putMount(mount *os.File, at *place) error {
	target, err := at.open()
	if err != nil {
		return err
	}
	defer target.Close()
	const flags = unix.MOVE_MOUNT_F_EMPTY_PATH | unix.MOVE_MOUNT_T_EMPTY_PATH
	if err := unix.MoveMount(int(mount.Fd()), "", int(target.Fd()), "", flags); err != nil {
		return fault.New(fault.Internal, "%s: mount at %s: %w", at.field, at.real, err)
	}
	return nil
}

// bind makes a loose second mount of what source is, read-only from its first
// moment if that is asked for.
func bind(source *os.File, readOnly bool) (*os.File, error) {
	fd, err := unix.OpenTree(int(source.Fd()), "", unix.AT_EMPTY_PATH|unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	if err != nil {
		return nil, fault.New(fault.Internal, "bind %s: %w", source.Name(), err)
	}
	clone := os.NewFile(uintptr(fd), source.Name())
	if readOnly {
		if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}); err != nil {
			clone.Close()
			return nil, fault.New(fault.Internal, "bind %s read-only: %w", source.Name(), err)
		}
	}
	return clone, nil
}

// maxStacked bounds how many mounts on top of one another are taken away.
const maxStacked = 16

// unmountAll takes away every mount at a place. InUse if one is busy.
func unmountAll(at *place) error {
	for range maxStacked {
		t, err := mounts()
		if err != nil {
			return err
		}
		m, mounted := t.at(at.real)
		if !mounted {
			return at.look()
		}
		if !mountable(m) && !(at.is(unix.S_IFBLK) || at.is(unix.S_IFREG)) {
			return fault.New(fault.Precondition, "%s: %s holds a %s mount of %s, which Holkas does not make: left as it is", at.field, at.real, m.fstype, m.source)
		}
		if err := unmount(at); err != nil {
			return err
		}
	}
	return fault.New(fault.Internal, "%s: %s: still mounted after %d times", at.field, at.real, maxStacked)
}

func mountable(m mount) bool {
	switch volume.Filesystem(m.fstype) {
	case volume.Ext4, volume.XFS, volume.Btrfs:
		return true
	}
	return false
}

// busyLimit is how long an unmount is tried again that finds the mount busy: a
// program that is being started for another volume holds all of this process's
// descriptors until its exec has closed them, and so does whoever looks at a
// mount in passing.
const busyLimit = time.Second

func unmount(at *place) error {
	// By the parent's descriptor: one of the mount itself would keep it busy.
	name := filepath.Join(fdPath(at.parent), at.name)
	err := unix.Unmount(name, unix.UMOUNT_NOFOLLOW)
	for began := time.Now(); errors.Is(err, unix.EBUSY) && time.Since(began) < busyLimit; {
		time.Sleep(10 * time.Millisecond)
		err = unix.Unmount(name, unix.UMOUNT_NOFOLLOW)
	}
	switch {
	case err == nil, errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		return at.look() // EINVAL: no mount any more
	case errors.Is(err, unix.EBUSY):
		return fault.New(fault.InUse, "%s: %s: a process still uses it: end it, then try again", at.field, at.real)
	default:
		return fault.New(fault.Internal, "%s: unmount %s: %w", at.field, at.real, err)
	}
}

func fdPath(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// syncMount writes out what a filesystem holds in memory. An error that an
// earlier write met unseen is reported here, once.
func syncMount(mount *os.File) error {
	fd, err := unix.Open(fdPath(mount), unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err == nil {
		err = errors.Join(unix.Syncfs(fd), unix.Close(fd))
	}
	if err != nil {
		return fault.New(fault.Internal, "sync %s: %w: what was written last may be lost", mount.Name(), err)
	}
	return nil
}
