package freeze

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
	"k8s.io/mount-utils"

	"github.com/holkas-io/holkas/pkg/fault"
)

const mountInfo = "/proc/self/mountinfo"

// Mount is how a device's filesystem is mounted.
type Mount struct {
	Point    string // one of its mount points; empty: it is not mounted
	ReadOnly bool   // wherever it is mounted, nobody writes
}

// Find looks at how a device is mounted now.
func Find(device string) (Mount, error) {
	mounts, err := mount.ParseMountInfo(mountInfo)
	if err != nil {
		return Mount{}, fault.New(fault.Transient, "%s: %w", mountInfo, err)
	}
	node, err := os.Stat(device)
	if err != nil {
		return Mount{}, fault.New(fault.Transient, "%w", err)
	}
	var found Mount
	for _, m := range mounts {
		if !mountedFrom(m, device, node) {
			continue
		}
		found.Point = unescape(m.MountPoint)
		if slices.Contains(m.SuperOptions, "ro") {
			found.ReadOnly = true
		}
	}
	return found, nil
}

// mountedFrom reports whether a mount shows a device's filesystem. Most have the
// device's number; btrfs has numbers of its own, and is known by its source.
func mountedFrom(m mount.MountInfo, path string, node fs.FileInfo) bool {
	if m.FsType == "devtmpfs" {
		return false // the node of a raw block volume
	}
	return m.Source == path || isDevice(node, m.Major, m.Minor)
}

// isDevice reports whether a device node has these numbers.
func isDevice(node fs.FileInfo, major, minor int) bool {
	st, ok := node.Sys().(*syscall.Stat_t)
	return ok && st.Rdev == unix.Mkdev(uint32(major), uint32(minor))
}

// unescape decodes what the kernel writes as octal in mountinfo.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
