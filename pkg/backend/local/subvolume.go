package local

import (
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The ioctls of linux/btrfs.h.
const (
	subvolCreate = 0x5000940e // struct btrfs_ioctl_vol_args
	snapDestroy  = 0x5000940f
	snapCreate   = 0x50009401
	syncAndClean = 0x00009408 // BTRFS_IOC_SYNC
	nocowFlag    = 0x00800000 // FS_NOCOW_FL of linux/fs.h
)

// volArgs is struct btrfs_ioctl_vol_args.
type volArgs struct {
	fd   int64
	name [4088]byte
}

func createSubvolume(path string) error { return subvolumeIoctl(path, subvolCreate, 0) }

func deleteSubvolume(path string) error { return subvolumeIoctl(path, snapDestroy, 0) }

func snapshotSubvolume(from, to string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return subvolumeIoctl(to, snapCreate, int64(f.Fd()))
}

func subvolumeIoctl(path string, request uintptr, fd int64) error {
	parent, err := os.Open(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer parent.Close()
	args := volArgs{fd: fd}
	copy(args.name[:len(args.name)-1], filepath.Base(path))
	if err := ioctl(parent, request, unsafe.Pointer(&args)); err != nil {
		return &os.PathError{Op: "subvolume ioctl", Path: path, Err: err}
	}
	return nil
}

func noCopyOnWrite(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	flags, err := unix.IoctlGetInt(int(f.Fd()), unix.FS_IOC_GETFLAGS)
	if err != nil {
		return err
	}
	return unix.IoctlSetPointerInt(int(f.Fd()), unix.FS_IOC_SETFLAGS, flags|nocowFlag)
}
