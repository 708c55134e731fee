package local

import (
	"context"
	"io/fs"
	"os"
	"slices"
	"strings"

	"k8s.io/mount-utils"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

const mountInfo = "/proc/self/mountinfo"

// usage says who may be writing a volume.
type usage struct {
	writable   bool   // it is attached, and not read-only
	device     string // its device, if it is attached
	mountPoint string // one of its mount points; empty: it is not mounted
}

// usage looks at how a volume is used now. A filesystem that is mounted
// read-only, wherever it is, writes nothing.
func (b *Backend) usage(ctx context.Context, s *store, id volume.ID) (usage, error) {
	d, attached, err := b.device(ctx, s.layout, id)
	if err != nil || !attached {
		return usage{}, err
	}
	u := usage{device: d.Path, writable: !d.ReadOnly}
	mounts, err := mount.ParseMountInfo(mountInfo)
	if err != nil {
		return usage{}, fault.New(fault.Transient, "%s: %w", mountInfo, err)
	}
	node, err := os.Stat(d.Path)
	if err != nil {
		return usage{}, fault.New(fault.Transient, "%w", err)
	}
	for _, m := range mounts {
		if !mountedFrom(m, d.Path, node) {
			continue
		}
		u.mountPoint = unescape(m.MountPoint)
		if slices.Contains(m.SuperOptions, "ro") {
			u.writable = false
		}
	}
	return u, nil
}

// mountedFrom reports whether a mount shows a device's filesystem. Most have the
// device's number; btrfs has numbers of its own, and is known by its source.
func mountedFrom(m mount.MountInfo, path string, node fs.FileInfo) bool {
	if m.FsType == "devtmpfs" {
		return false // the node of a raw block volume
	}
	return m.Source == path || isDevice(node, m.Major, m.Minor)
}

// unescape decodes what the kernel writes as octal in mountinfo.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}
