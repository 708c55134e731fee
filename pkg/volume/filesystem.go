package volume

import "github.com/holkas-io/holkas/pkg/fault"

// Filesystem is what a volume is formatted with. The empty one is none: a raw
// block volume, or one that was never formatted.
type Filesystem string

// The filesystems that a volume can be formatted with.
const (
	NoFilesystem Filesystem = ""
	Ext4         Filesystem = "ext4"
	XFS          Filesystem = "xfs"
	Btrfs        Filesystem = "btrfs"
)

// ParseFilesystem reads a filesystem's name; the empty string is the default,
// ext4.
func ParseFilesystem(s string) (Filesystem, error) {
	switch f := Filesystem(s); f {
	case NoFilesystem:
		return Ext4, nil
	case Ext4, XFS, Btrfs:
		return f, nil
	}
	return "", fault.New(fault.Invalid, `fs_type: %q: want "ext4", "xfs" or "btrfs"`, clip(s))
}

// MinimumBytes is the least size that the filesystem's own tools accept, and
// that it can be grown from: the kernel resizes no btrfs to below 256 MiB.
func (f Filesystem) MinimumBytes() int64 {
	switch f {
	case XFS:
		return 300 << 20
	case Btrfs:
		return 256 << 20
	case Ext4:
		return 4 << 20
	}
	return MinimumBytes
}

// Secrets are what CSI's secrets fields carry. They render as nothing, and are
// never stored.
type Secrets map[string]string

// String hides the content.
func (Secrets) String() string { return "***stripped***" }

// GoString hides the content.
func (Secrets) GoString() string { return "***stripped***" }

// MarshalJSON hides the content.
func (Secrets) MarshalJSON() ([]byte, error) { return []byte(`"***stripped***"`), nil }
