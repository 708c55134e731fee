package node

import (
	"path"
	"slices"
	"strconv"
	"strings"

	mountutils "k8s.io/mount-utils"

	"github.com/holkas-io/holkas/pkg/fault"
)

// mount is one line of the mount table.
type mount struct {
	point    string
	root     string // of what is mounted, inside its filesystem
	source   string
	fstype   string
	readOnly bool // the mount or its filesystem
	// superReadOnly is the filesystem's own, and superOptions all of its.
	superReadOnly bool
	superOptions  []string
}

// table is the mount table of this process, in the order of mounting.
type table []mount

func mounts() (table, error) {
	infos, err := mountutils.ParseMountInfo("/proc/self/mountinfo")
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	t := make(table, 0, len(infos))
	for _, i := range infos {
		t = append(t, mount{
			point: unescape(i.MountPoint), root: unescape(i.Root), source: unescape(i.Source), fstype: i.FsType,
			readOnly:      slices.Contains(i.MountOptions, "ro") || slices.Contains(i.SuperOptions, "ro"),
			superReadOnly: slices.Contains(i.SuperOptions, "ro"),
			superOptions:  i.SuperOptions,
		})
	}
	return t, nil
}

// at returns the topmost mount at a path.
func (t table) at(real string) (mount, bool) {
	for _, m := range slices.Backward(t) {
		if m.point == real {
			return m, true
		}
	}
	return mount{}, false
}

// of returns the mounts of a device: those of the filesystem on it, and those of
// its node.
func (t table) of(device string) table {
	var found table
	for _, m := range t {
		if m.holds(device) || m.shows(device) {
			found = append(found, m)
		}
	}
	return found
}

// holds reports whether the mount is of the filesystem on a device.
func (m mount) holds(device string) bool { return m.source == device }

// shows reports whether the mount is of the device's node, on a file.
func (m mount) shows(device string) bool {
	return (m.fstype == "devtmpfs" || m.fstype == "tmpfs") && m.root == "/"+path.Base(device)
}

// published reports whether a mount can be a publication, and is not one of
// those that the kubelet makes of a publication: subPath volumes, and the global
// map of a block volume.
func (m mount) published() bool {
	if strings.Contains(m.point, "/volumeDevices/") && path.Base(path.Dir(m.point)) == "dev" {
		return false
	}
	return !strings.Contains(m.point, "/volume-subpaths/")
}

// uses returns the mounts of a device now.
func (n *Node) uses(device string) (table, error) {
	t, err := mounts()
	if err != nil {
		return nil, err
	}
	return t.of(device), nil
}

func (t table) points() string {
	var points []string
	for _, m := range t {
		points = append(points, m.point)
	}
	return strings.Join(points, ", ")
}

// unescape undoes the mount table's octal escapes of blanks and backslashes.
func unescape(s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\\' && i+3 < len(s) {
			if c, err := strconv.ParseUint(s[i+1:i+4], 8, 8); err == nil {
				b.WriteByte(byte(c))
				i += 3
				continue
			}
		}
		b.WriteByte(s[i])
	}
	return b.String()
}
