// Package disk looks at a block device that is to be a pool, and formats it if
// nothing is on it.
package disk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// edge is how much of a device is read at both of its ends. What marks a device
// as used (filesystems, partition tables, RAID, LVM, LUKS, ZFS) has a mark there.
const edge = 1 << 20

// Content returns what blkid finds on a device: a filesystem's name, another
// word for what is there, or nothing if the device is blank, which also means
// that its first and last MiB are zeros. Transient if there is no such device.
func Content(ctx context.Context, device string) (string, error) {
	f, err := os.Open(device)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return "", fault.New(fault.Transient, "device %s: is not there: %w", device, err)
	}
	if err != nil {
		return "", fault.New(fault.Transient, "device %s: %w", device, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || info.Mode().Type() != fs.ModeDevice {
		return "", fault.New(fault.Invalid, "device %s: is no block device", device)
	}
	found, err := signature(ctx, device)
	if err != nil || found != "" {
		return found, err
	}
	zero, err := edgesAreZero(f)
	if err != nil {
		return "", fault.New(fault.Transient, "device %s: %w", device, err)
	}
	if !zero {
		return "unknown data", nil
	}
	return "", nil
}

// signature asks blkid, which ends with 2 if it finds nothing and with 8 if it
// finds several things.
func signature(ctx context.Context, device string) (string, error) {
	cmd := exec.CommandContext(ctx, "blkid", "-p", "-o", "export", device)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		switch exit.ExitCode() {
		case 2:
			return "", nil
		case 8:
			return "several signatures", nil
		}
		return "", fault.New(fault.Transient, "blkid %s: %w: %s", device, err, bytes.TrimSpace(exit.Stderr))
	}
	if err != nil {
		return "", fault.New(fault.Precondition, "blkid: %w: want the package util-linux", err)
	}
	found := "unknown signature"
	for line := range strings.Lines(string(out)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		switch key {
		case "TYPE":
			return value, nil
		case "PTTYPE":
			found = value + " partition table"
		}
	}
	return found, nil
}

func edgesAreZero(f *os.File) (bool, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return false, err
	}
	length := min(size, edge)
	for _, offset := range []int64{0, size - length} {
		b := make([]byte, length)
		if _, err := f.ReadAt(b, offset); err != nil {
			return false, fmt.Errorf("read %d bytes at %d: %w", length, offset, err)
		}
		if len(bytes.TrimLeft(b, "\x00")) > 0 {
			return false, nil
		}
	}
	return true, nil
}

// Format makes a filesystem that can share extents on a blank device. The tools
// themselves refuse a device that is not blank.
func Format(ctx context.Context, device string, as volume.PoolType) error {
	command := []string{"mkfs.xfs", "-q", "-m", "reflink=1", device}
	if as == volume.BtrfsPool {
		command = []string{"mkfs.btrfs", "-q", device}
	}
	out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
	if err != nil {
		return fault.New(fault.Precondition, "%s: %w: %s", strings.Join(command, " "), err, bytes.TrimSpace(out))
	}
	return nil
}
