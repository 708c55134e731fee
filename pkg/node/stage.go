package node

import (
	"context"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Use is how a volume is to be used.
type Use struct {
	// Block is raw block; Filesystem and MountFlags then mean nothing.
	Block bool
	// Filesystem is what a filesystem volume is formatted with; NoFilesystem is
	// whatever it has, and ext4 for a new one.
	Filesystem volume.Filesystem
	MountFlags []string
	ReadOnly   bool
	// Shared, with ReadOnly, says that other nodes read the volume at the same time.
	Shared bool
	// Exclusive allows one target path on the node at a time.
	Exclusive bool
}

// StageRequest says what to stage and where.
type StageRequest struct {
	ID          volume.ID
	StagingPath string
	Use         Use
	Secrets     volume.Secrets
}

// Stage attaches a volume and, unless it is used as raw block, formats it if it
// never was, checks it, mounts it at the staging path and grows it to its
// device. NotFound if the engine does not know the volume; Exists if something
// else is at the staging path; Precondition if what is recorded or what is on
// the volume forbids it; Corrupt if its filesystem is gone or damaged.
func (n *Node) Stage(ctx context.Context, r StageRequest) error {
	return n.exclusively(ctx, "stage", r.ID, r.StagingPath, func(ctx context.Context) error { return n.stage(ctx, r) })
}

func (n *Node) stage(ctx context.Context, r StageRequest) error {
	v, err := n.volume(ctx, r.ID)
	if err != nil {
		return err
	}
	if r.Use.Shared && !v.Class.Shared() {
		return fault.New(fault.Precondition, "volume_capability.access_mode: MULTI_NODE_READER_ONLY: a volume with %s %q is used on one node: want a SINGLE_NODE mode", volume.ParamBackend, v.Class.Backend)
	}
	at, err := n.tree.find("staging_target_path", r.StagingPath)
	if fault.Is(err, fault.NotFound) {
		return fault.As(fault.Precondition, err)
	}
	if err != nil {
		return err
	}
	defer at.Close()
	if !at.is(unix.S_IFDIR) && at.stale == nil {
		return fault.New(fault.Precondition, "staging_target_path: %s: want a directory that exists", r.StagingPath)
	}
	if !r.Use.Block {
		// Anything wrong with the flags is said before anything is changed.
		flags, err := flagsFor(v, r.Use)
		if err != nil {
			return err
		}
		r.Use.ReadOnly = r.Use.ReadOnly || flags.readOnly
	}
	d, err := n.attach(ctx, backend.AttachRequest{ID: r.ID, ReadOnly: r.Use.ReadOnly, Shared: r.Use.Shared, Secrets: r.Secrets})
	if err != nil {
		return err
	}
	n.here("node: attached")
	if r.Use.Block {
		return n.stageBlock(ctx, r, at, d)
	}
	return n.stageFilesystem(ctx, r, at, d)
}

// flagsFor parses the mount flags for the filesystem that the volume has or is
// to have.
func flagsFor(v backend.Volume, u Use) (mountOptions, error) {
	fs, err := agree(v.Filesystem, u.Filesystem)
	if err != nil {
		return mountOptions{}, err
	}
	return parseFlags(fs, u.MountFlags)
}

// stageBlock has nothing to do: the device is attached. It sees that the volume
// is not staged as a filesystem. A formatting that never came to its end is
// forgotten, since it would be done again over what is now to be written.
func (n *Node) stageBlock(ctx context.Context, r StageRequest, at *place, d backend.Device) error {
	uses, err := n.uses(d.Path)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(uses, func(m mount) bool { return m.holds(d.Path) }); i >= 0 {
		return fault.New(fault.Exists, "%s: the volume is mounted as a filesystem at %s: unstage it there first", at.field, uses[i].point)
	}
	if d.Filesystem.State == backend.Formatting && !r.Use.ReadOnly {
		return n.record(ctx, r.ID, backend.NeverFormatted, volume.NoFilesystem)
	}
	return nil
}

func (n *Node) stageFilesystem(ctx context.Context, r StageRequest, at *place, d backend.Device) error {
	staged, err := alreadyStaged(r, at, d)
	if err != nil {
		return err
	}
	if staged {
		return n.growStaged(at, d)
	}
	uses, err := n.uses(d.Path)
	if err != nil {
		return err
	}
	if i := slices.IndexFunc(uses, func(m mount) bool { return m.shows(d.Path) }); i >= 0 {
		return fault.New(fault.Exists, "%s: the volume is published as a block device at %s: unpublish it there first", at.field, uses[i].point)
	}
	d, err = n.ready(ctx, r, d, len(uses) > 0)
	if err != nil {
		return err
	}
	flags, err := parseFlags(d.Filesystem.Type, r.Use.MountFlags)
	if err != nil {
		return err
	}
	if err := n.mountAt(at, d, flags.withDefaults(d.Filesystem.Type, r.Use.ReadOnly)); err != nil {
		return err
	}
	n.here("node: mounted")
	return n.growStaged(at, d)
}

// alreadyStaged reports whether the volume is mounted at the staging path as it
// is asked for. A mount there that is dead is taken away.
func alreadyStaged(r StageRequest, at *place, d backend.Device) (bool, error) {
	t, err := mounts()
	if err != nil {
		return false, err
	}
	m, mounted := t.at(at.real)
	switch {
	case !mounted:
		return false, nil
	case !m.holds(d.Path):
		return false, fault.New(fault.Exists, "%s: %s holds a %s mount of %s already: want a path of this volume's own", at.field, r.StagingPath, m.fstype, m.source)
	case dead(at):
		return false, unmountAll(at)
	case r.Use.Filesystem != volume.NoFilesystem && volume.Filesystem(m.fstype) != r.Use.Filesystem:
		return false, fault.New(fault.Exists, "%s: %s is mounted as %s, not as fs_type %q: unstage it first", at.field, r.StagingPath, m.fstype, r.Use.Filesystem)
	case m.readOnly && !r.Use.ReadOnly:
		return false, fault.New(fault.Exists, "%s: %s is mounted read-only, either as staged before or after damage: unstage it first", at.field, r.StagingPath)
	case !m.readOnly && r.Use.ReadOnly:
		return false, fault.New(fault.Exists, "%s: %s is mounted for writing: unstage it first", at.field, r.StagingPath)
	}
	return true, nil
}

// dead reports whether the mount at a place no longer answers.
func dead(at *place) bool {
	if at.stale != nil {
		return true
	}
	f, err := at.open()
	if err != nil {
		return false
	}
	defer f.Close()
	return deadFile(f) != nil
}

// deadFile is the error of a directory or device that no longer answers. A
// filesystem that shut itself down still has its numbers, but opens nothing.
func deadFile(f *os.File) error {
	fd, err := unix.Open(fdPath(f), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	return unix.Close(fd)
}

func (n *Node) mountAt(at *place, d backend.Device, o mountOptions) error {
	m, err := loose(d.Path, d.Filesystem.Type, o)
	if err != nil {
		return err
	}
	defer m.Close()
	return putMount(m, at)
}
