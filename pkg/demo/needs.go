package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/demo/postgres"
	"github.com/holkas-io/holkas/pkg/volume"
)

// freeBytes is what a run writes to the disk at most, with some room.
const freeBytes = 6 * gib

// packages are the programs that a run calls and the Debian packages that have
// them.
func (o Options) packages() map[string]string {
	needed := map[string]string{"losetup": "mount", "mount": "mount", "umount": "mount", "blkid": "util-linux"}
	filesystems := []string{o.Filesystem}
	for _, kind := range o.On {
		filesystems = append(filesystems, string(kind))
	}
	for _, fs := range filesystems {
		for _, program := range programsOf[fs].programs {
			needed[program] = programsOf[fs].pkg
		}
	}
	return needed
}

var programsOf = map[string]struct {
	pkg      string
	programs []string
}{
	string(volume.Ext4):      {"e2fsprogs", []string{"mkfs.ext4", "e2fsck", "tune2fs", "resize2fs"}},
	string(volume.XFSPool):   {"xfsprogs", []string{"mkfs.xfs"}},
	string(volume.BtrfsPool): {"btrfs-progs", []string{"mkfs.btrfs"}},
}

// findNeeds looks for all that a run needs of the machine, and says at once what
// is missing and what to install.
func (d *demo) findNeeds(context.Context) (string, error) {
	// A shell that became root by su may not have these.
	faults := []error{os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin")}
	say := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if os.Geteuid() != 0 {
		say("not root: the demo makes loop devices and mounts: run it with sudo")
	}
	if _, err := os.Stat("/dev/loop-control"); err != nil {
		say("no loop devices (%w): run: modprobe loop (in a container: give it the host's /dev, privileged)", err)
	}
	missing, programs := []string{}, []string{}
	for program, pkg := range d.packages() {
		if _, err := exec.LookPath(program); err != nil {
			missing, programs = append(missing, pkg), append(programs, program)
		}
	}
	where, err := postgres.Programs()
	if err != nil {
		missing, programs = append(missing, "postgresql"), append(programs, "PostgreSQL")
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		slices.Sort(programs)
		say("not installed: %s: run: apt-get install %s", strings.Join(programs, ", "), strings.Join(slices.Compact(missing), " "))
	}
	faults = append(faults, hasRoom(d.Dir), isOpen(d.Dir))
	return fmt.Sprintf("PostgreSQL of %s; files under %s", where, d.Dir), errors.Join(faults...)
}

// hasRoom sees that a directory is on a disk with room for a run.
func hasRoom(dir string) error {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return fmt.Errorf("%s: %w: want an existing directory: --dir", dir, err)
	}
	switch free := st.Bavail * uint64(st.Bsize); {
	case st.Type == unix.TMPFS_MAGIC || st.Type == unix.OVERLAYFS_SUPER_MAGIC:
		return fmt.Errorf("%s is on tmpfs or overlayfs, which loop devices with direct I/O cannot use: want a directory on a disk: --dir", dir)
	case free < freeBytes:
		return fmt.Errorf("%s has %d MiB free: want %d MiB, or another directory: --dir", dir, free>>20, int64(freeBytes)>>20)
	}
	return nil
}

// isOpen sees that PostgreSQL's user can go where its files are to be.
func isOpen(dir string) error {
	if !filepath.IsAbs(dir) || strings.ContainsAny(dir, " \t\n\\") {
		return fmt.Errorf("%q: want an absolute path without blanks: --dir", dir)
	}
	for ; dir != "/"; dir = filepath.Dir(dir) {
		if info, err := os.Stat(dir); err == nil && info.Mode()&0o001 == 0 {
			return fmt.Errorf("%s cannot be entered by the user postgres (mode %s): want a directory that is open to all: --dir", dir, info.Mode())
		}
	}
	return nil
}
