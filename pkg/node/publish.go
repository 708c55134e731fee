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

// PublishRequest says what to publish and where.
type PublishRequest struct {
	ID          volume.ID
	StagingPath string
	TargetPath  string
	Use         Use // ReadOnly is of this target alone
}

// Publish shows a staged volume at a target path: a filesystem as a directory, a
// block volume as a device node. NotFound if the engine does not know the
// volume; Precondition if it is not staged in that way, or if it is exclusive
// and published elsewhere on the node; Exists if something else is at the path.
func (n *Node) Publish(ctx context.Context, r PublishRequest) error {
	return n.exclusively(ctx, "publish", r.ID, r.TargetPath, func(ctx context.Context) error { return n.publish(ctx, r) })
}

func (n *Node) publish(ctx context.Context, r PublishRequest) error {
	target, err := n.tree.find("target_path", r.TargetPath)
	if fault.Is(err, fault.NotFound) {
		return fault.As(fault.Precondition, err)
	}
	if err != nil {
		return err
	}
	defer target.Close()
	v, err := n.volume(ctx, r.ID)
	if err != nil {
		return err
	}
	source, err := n.source(r, v)
	if err != nil {
		return err
	}
	defer source.Close()
	published, err := alreadyPublished(r, target, v)
	if err != nil || published {
		return err
	}
	if err := n.shareable(r, v); err != nil {
		return err
	}
	return n.show(r, source, target)
}

// source opens what is to be shown: the staged filesystem, or the device node.
func (n *Node) source(r PublishRequest, v backend.Volume) (*os.File, error) {
	if v.Device == "" {
		return nil, fault.New(fault.Precondition, "the volume is not staged: stage it first")
	}
	if r.Use.Block {
		return blockSource(r, v)
	}
	at, err := n.tree.find("staging_target_path", r.StagingPath)
	if fault.Is(err, fault.NotFound) {
		return nil, fault.As(fault.Precondition, err)
	}
	if err != nil {
		return nil, err
	}
	defer at.Close()
	t, err := mounts()
	if err != nil {
		return nil, err
	}
	m, mounted := t.at(at.real)
	switch {
	case !mounted || !m.holds(v.Device):
		return nil, fault.New(fault.Precondition, "staging_target_path: no filesystem of the volume is mounted at %s: stage it there first", r.StagingPath)
	case r.Use.Filesystem != volume.NoFilesystem && string(r.Use.Filesystem) != m.fstype:
		return nil, fault.New(fault.Precondition, "fs_type: %q, but the volume is staged as %q: want the same", r.Use.Filesystem, m.fstype)
	case m.readOnly && !r.Use.ReadOnly:
		return nil, fault.New(fault.Precondition, "the volume is mounted read-only at %s, either as staged or after damage: publish it read-only, or unstage it and stage it for writing", r.StagingPath)
	case dead(at):
		return nil, fault.New(fault.Precondition, "the filesystem at %s no longer answers: unpublish and unstage the volume, and see the kernel's log", r.StagingPath)
	}
	return at.open()
}

func blockSource(r PublishRequest, v backend.Volume) (*os.File, error) {
	t, err := mounts()
	if err != nil {
		return nil, err
	}
	if i := slices.IndexFunc(t, func(m mount) bool { return m.holds(v.Device) }); i >= 0 {
		return nil, fault.New(fault.Precondition, "the volume is staged as a filesystem at %s, not as a block device", t[i].point)
	}
	d, err := lookAtDevice(v.Device)
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	if d.readOnly != r.Use.ReadOnly {
		// A read-only mount does not keep a device node from being written to.
		return nil, fault.New(fault.Precondition, "readonly: %t, but the device is attached with read-only %t: stage the block volume as it is to be published", r.Use.ReadOnly, d.readOnly)
	}
	fd, err := unix.Open(v.Device, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fault.As(fault.Internal, &os.PathError{Op: "open", Path: v.Device, Err: err})
	}
	return os.NewFile(uintptr(fd), v.Device), nil
}

// alreadyPublished reports whether the volume is at the target path as it is
// asked for.
func alreadyPublished(r PublishRequest, target *place, v backend.Volume) (bool, error) {
	t, err := mounts()
	if err != nil {
		return false, err
	}
	m, mounted := t.at(target.real)
	switch {
	case !mounted:
		return false, nil
	case r.Use.Block && m.shows(v.Device):
		return true, nil
	case r.Use.Block || !m.holds(v.Device) || m.root != "/":
		return false, fault.New(fault.Exists, "target_path: %s holds a mount of %s (%s) already: want a path of its own", r.TargetPath, m.source, m.fstype)
	case m.readOnly != r.Use.ReadOnly:
		return false, fault.New(fault.Exists, "target_path: %s is published with readonly %t, not %t: unpublish it first", r.TargetPath, m.readOnly, r.Use.ReadOnly)
	case dead(target):
		return false, unmountAll(target)
	}
	return true, nil
}

// shareable refuses a second target path of an exclusive volume.
func (n *Node) shareable(r PublishRequest, v backend.Volume) error {
	if !r.Use.Exclusive {
		return nil
	}
	others, err := n.targets(v.Device, r.StagingPath, r.TargetPath)
	if err != nil {
		return err
	}
	others = slices.DeleteFunc(others, func(m mount) bool { return !m.published() })
	if len(others) > 0 {
		return fault.New(fault.Precondition, "access_mode: SINGLE_NODE_SINGLE_WRITER: the volume is published at %s already: unpublish it there first", others.points())
	}
	return nil
}

func (n *Node) show(r PublishRequest, source *os.File, target *place) error {
	fresh := target.absent()
	if err := target.make(!r.Use.Block); err != nil {
		return err
	}
	n.here("node: made the target")
	shown, err := bind(source, r.Use.ReadOnly)
	if err == nil {
		err = putMount(shown, target)
		shown.Close()
	}
	if err != nil && fresh {
		_ = target.remove() // the error that counts is there already
	}
	if err == nil {
		n.here("node: published")
	}
	return err
}

// Unpublish takes away what is mounted at a target path, and the directory or
// file there. What is not there is success. It needs no engine: a pod can end
// whatever else is down. InUse while a process uses it; Precondition if there is
// something that Holkas did not make.
func (n *Node) Unpublish(ctx context.Context, id volume.ID, targetPath string) error {
	return n.exclusively(ctx, "unpublish", id, targetPath, func(context.Context) error {
		target, err := n.tree.find("target_path", targetPath)
		if fault.Is(err, fault.NotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		defer target.Close()
		if err := unmountAll(target); err != nil {
			return err
		}
		n.here("node: unpublished")
		if target.absent() {
			return nil
		}
		return target.remove()
	})
}
