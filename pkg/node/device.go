package node

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// content is what lies on a device, seen from its superblock alone.
type content struct {
	blank      bool // nothing but zeros at both ends
	filesystem volume.Filesystem
	sizeBytes  int64 // of the filesystem
}

// endBytes is how much of each end of a device is looked at before it is called
// blank: every filesystem, partition table and volume manager leaves its mark
// there.
const endBytes = 1 << 20

// inspect looks at a device without changing it.
func inspect(device string) (content, error) {
	f, err := os.Open(device)
	if err != nil {
		return content{}, fault.As(fault.Internal, err)
	}
	defer f.Close()
	sizeBytes, err := deviceSize(f)
	if err != nil {
		return content{}, fault.As(fault.Internal, err)
	}
	head := make([]byte, min(endBytes, sizeBytes))
	tail := make([]byte, len(head))
	if _, err := f.ReadAt(head, 0); err != nil {
		return content{}, fault.As(fault.Internal, fmt.Errorf("read %s: %w", device, err))
	}
	if _, err := f.ReadAt(tail, sizeBytes-int64(len(tail))); err != nil && !errors.Is(err, io.EOF) {
		return content{}, fault.As(fault.Internal, fmt.Errorf("read %s: %w", device, err))
	}
	c := recognize(head)
	c.blank = allZero(head) && allZero(tail)
	return c, nil
}

func allZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// recognize reads the superblock of one of our filesystems, whose fields are at
// the places that the kernel's headers give. The zero content is none of them.
func recognize(head []byte) content {
	little, big := binary.LittleEndian, binary.BigEndian
	switch {
	case len(head) >= 2048 && little.Uint16(head[1024+0x38:]) == 0xEF53:
		super := head[1024:]
		blocks := uint64(little.Uint32(super[0x4:]))
		if little.Uint32(super[0x60:])&0x80 != 0 { // 64bit
			blocks |= uint64(little.Uint32(super[0x150:])) << 32
		}
		return content{filesystem: volume.Ext4, sizeBytes: int64(blocks << (10 + little.Uint32(super[0x18:])&0x1f))}
	case len(head) >= 512 && string(head[:4]) == "XFSB":
		return content{filesystem: volume.XFS, sizeBytes: int64(big.Uint64(head[8:]) * uint64(big.Uint32(head[4:])))}
	case len(head) >= btrfsSuperOffset+btrfsSuperBytes && btrfsSuper(head[btrfsSuperOffset:]).valid():
		return content{filesystem: volume.Btrfs, sizeBytes: btrfsSuper(head[btrfsSuperOffset:]).deviceBytes()}
	}
	return content{}
}

// deviceSize is the size of an opened block device in bytes.
func deviceSize(f *os.File) (int64, error) {
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return 0, &os.PathError{Op: "size of", Path: f.Name(), Err: errno}
	}
	return int64(size), nil
}

// blockDevice says what a device is like now.
type blockDevice struct {
	sizeBytes int64
	readOnly  bool
	number    uint64
}

func lookAtDevice(path string) (blockDevice, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return blockDevice{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return blockDevice{}, err
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return blockDevice{}, &os.PathError{Op: "look at", Path: path, Err: unix.ENOTBLK}
	}
	sizeBytes, err := deviceSize(f)
	if err != nil {
		return blockDevice{}, err
	}
	readOnly, err := unix.IoctlGetInt(int(f.Fd()), unix.BLKROGET)
	return blockDevice{sizeBytes: sizeBytes, readOnly: readOnly != 0, number: st.Rdev}, err
}

// inUse reports whether a filesystem or a program holds a device for itself.
func inUse(device string) bool {
	f, err := os.OpenFile(device, os.O_RDONLY|unix.O_EXCL, 0)
	if err == nil {
		f.Close()
	}
	return errors.Is(err, unix.EBUSY)
}
