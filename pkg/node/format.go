package node

import (
	"context"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// prepare brings a volume's device, which is attached for writing and not
// mounted, to the point where its filesystem can be mounted, and returns which
// one that is. want is what the request asks for, NoFilesystem for any.
//
// The engine's record goes from NeverFormatted to Formatting before mkfs and to
// Formatted after it; a death in between leaves Formatting, and mkfs is done
// again, since nothing can have been stored. From Cloned it goes to Formatted
// when the filesystem has its own identity. From Formatted it goes nowhere.
func (n *Node) prepare(ctx context.Context, id volume.ID, d backend.Device, want volume.Filesystem) (volume.Filesystem, error) {
	fs, err := agree(d.Filesystem, want)
	if err != nil {
		return "", err
	}
	found, err := inspect(d.Path)
	if err != nil {
		return "", err
	}
	switch d.Filesystem.State {
	case backend.NeverFormatted:
		if !found.blank {
			return "", fault.New(fault.Precondition, "the volume was never formatted, yet is not blank (%s): use it as a block volume, or wipe it", describe(found))
		}
		return fs, n.format(ctx, id, d, fs)
	case backend.Formatting:
		return fs, n.format(ctx, id, d, fs)
	}
	if found.filesystem != fs {
		return "", missing(d, fs, found)
	}
	if err := check(ctx, fs, d.Path); err != nil {
		return "", err
	}
	if d.Filesystem.State == backend.Cloned {
		return fs, n.identify(ctx, id, fs, d.Path)
	}
	return fs, nil
}

// agree settles which filesystem it is: what is recorded, or what is asked for.
func agree(recorded backend.Filesystem, want volume.Filesystem) (volume.Filesystem, error) {
	switch recorded.State {
	case backend.NeverFormatted:
		return volume.ParseFilesystem(string(want))
	case backend.Formatting:
		if want == volume.NoFilesystem {
			want = recorded.Type
		}
		return volume.ParseFilesystem(string(want))
	case backend.Formatted, backend.Cloned:
		if want != volume.NoFilesystem && want != recorded.Type {
			return "", fault.New(fault.Precondition, "fs_type: %q, but the volume is formatted with %q: want %q or none", want, recorded.Type, recorded.Type)
		}
		return recorded.Type, nil
	}
	return "", fault.New(fault.Corrupt, "the volume's format state %q is unknown to this version", recorded.State)
}

func describe(found content) string {
	if found.filesystem != volume.NoFilesystem {
		return "it holds a filesystem that looks like " + string(found.filesystem)
	}
	return "it holds something at its beginning or end"
}

// missing is the fault of a volume that lost its filesystem. Nothing is written
// to it.
func missing(d backend.Device, fs volume.Filesystem, found content) error {
	looks := "an unknown content"
	switch {
	case found.blank:
		looks = "a blank device"
	case found.filesystem != volume.NoFilesystem:
		looks = "a filesystem that looks like " + string(found.filesystem)
	}
	return fault.New(fault.Corrupt, "the volume was formatted with %s, and now there is %s at %s: it is left untouched: restore a snapshot, or look for the filesystem with %q", fs, looks, d.Path, checkCommand(fs, d.Path))
}

func (n *Node) format(ctx context.Context, id volume.ID, d backend.Device, fs volume.Filesystem) error {
	if d.SizeBytes < fs.MinimumBytes() {
		return fault.New(fault.Precondition, "fs_type: %q needs a volume of at least %d bytes, this one has %d", fs, fs.MinimumBytes(), d.SizeBytes)
	}
	if err := n.record(ctx, id, backend.Formatting, fs); err != nil {
		return err
	}
	n.here("node: recorded formatting")
	if err := mkfs(ctx, fs, d.Path); err != nil {
		return err
	}
	n.here("node: formatted")
	if err := n.record(ctx, id, backend.Formatted, fs); err != nil {
		return err
	}
	n.here("node: recorded formatted")
	return nil
}

// mkfs makes a filesystem. Nothing is discarded first: a thick volume has no
// discard, a thin one is empty. What ext4 leaves to be zeroed later is zero
// already, and a data volume needs no blocks kept back for root.
func mkfs(ctx context.Context, fs volume.Filesystem, device string) error {
	var args []string
	switch fs {
	case volume.Ext4:
		// With metadata_csum_seed the UUID can change without rewriting all.
		args = []string{"-F", "-q", "-m", "0", "-O", "metadata_csum_seed", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard"}
	case volume.XFS:
		args = []string{"-f", "-q", "-K", "-s", "size=4096"}
	case volume.Btrfs:
		args = []string{"-f", "-q", "-K"}
	default:
		return fault.New(fault.Invalid, `fs_type: %q: want "ext4", "xfs" or "btrfs"`, fs)
	}
	return mustRun(ctx, "mkfs."+string(fs), append(args, device)...)
}

// The bits of e2fsck's exit code.
const (
	e2fsckCorrected   = 1 | 2
	e2fsckUncorrected = 4
	e2fsckFailed      = 8 // the superblock is unreadable, or the device in use
)

// check makes a filesystem safe to mount: ext4 replays its journal and repairs
// what can be repaired without a decision. XFS and btrfs do as much when they
// are mounted, and have no such program.
func check(ctx context.Context, fs volume.Filesystem, device string) error {
	if fs != volume.Ext4 {
		return nil
	}
	return checkExt4(ctx, device, "-p")
}

func checkExt4(ctx context.Context, device string, flags ...string) error {
	r, err := tool(ctx, "e2fsck", append(flags, device)...)
	switch {
	case err != nil:
		return err
	case r.code&^e2fsckCorrected == 0:
		return nil
	case r.code&e2fsckUncorrected == 0 && inUse(device):
		return fault.New(fault.InUse, "%s: another program has it open: try again when it has ended (e2fsck: %s)", device, r.output)
	case r.code&(e2fsckUncorrected|e2fsckFailed) != 0:
		return fault.New(fault.Corrupt, "the ext4 filesystem on %s is damaged and repairing it needs a decision (e2fsck: %s): take a snapshot, look with %q, repair with %q", device, r.output, checkCommand(volume.Ext4, device), "e2fsck -f "+device)
	}
	return fault.New(fault.Internal, "e2fsck %s: exit code %d: %s", device, r.code, r.output)
}

// newIdentity gives a clone's filesystem an identity of its own. XFS keeps its
// origin's UUID: changing it needs an empty log, and XFS is always mounted with
// nouuid instead.
func newIdentity(ctx context.Context, fs volume.Filesystem, device string) (err error) {
	switch fs {
	case volume.Ext4:
		err = mustRun(ctx, "tune2fs", "-U", "random", device)
	case volume.Btrfs:
		err = newBtrfsIdentity(device)
	}
	return fault.Wrap(err, "give the clone its own identity on", device)
}

// identify is newIdentity, and records that it is done.
func (n *Node) identify(ctx context.Context, id volume.ID, fs volume.Filesystem, device string) error {
	if err := newIdentity(ctx, fs, device); err != nil {
		return err
	}
	n.here("node: gave an identity")
	if err := n.record(ctx, id, backend.Formatted, fs); err != nil {
		return err
	}
	n.here("node: recorded identity")
	return nil
}
