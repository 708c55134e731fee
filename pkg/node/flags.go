package node

import (
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// mountOptions are mount flags, taken apart.
type mountOptions struct {
	readOnly   bool
	set        uint64 // of the mount: MOUNT_ATTR_*
	filesystem []option
}

// option is one that the filesystem gets.
type option struct {
	key, value string
	hasValue   bool
}

func (o mountOptions) attributes() uint64 {
	attributes := o.set
	if o.readOnly {
		attributes |= unix.MOUNT_ATTR_RDONLY
	}
	return attributes
}

func (o mountOptions) has(key string) bool {
	return slices.ContainsFunc(o.filesystem, func(p option) bool { return p.key == key })
}

// attributes are the flags that belong to a mount, and those that undo them.
var attributes = map[string]struct{ set, clear uint64 }{
	"nosuid":      {set: unix.MOUNT_ATTR_NOSUID},
	"suid":        {clear: unix.MOUNT_ATTR_NOSUID},
	"nodev":       {set: unix.MOUNT_ATTR_NODEV},
	"dev":         {clear: unix.MOUNT_ATTR_NODEV},
	"noexec":      {set: unix.MOUNT_ATTR_NOEXEC},
	"exec":        {clear: unix.MOUNT_ATTR_NOEXEC},
	"noatime":     {set: unix.MOUNT_ATTR_NOATIME, clear: unix.MOUNT_ATTR__ATIME},
	"relatime":    {clear: unix.MOUNT_ATTR__ATIME},
	"strictatime": {set: unix.MOUNT_ATTR_STRICTATIME, clear: unix.MOUNT_ATTR__ATIME},
	"atime":       {clear: unix.MOUNT_ATTR__ATIME},
	"nodiratime":  {set: unix.MOUNT_ATTR_NODIRATIME},
	"diratime":    {clear: unix.MOUNT_ATTR_NODIRATIME},
	"nosymfollow": {set: unix.MOUNT_ATTR_NOSYMFOLLOW},
}

// The options of each filesystem that are let through, besides those that every
// filesystem has. What is missing here on purpose: options that name other
// devices or files (device=, logdev=, journal_path=), that mount another part of
// the volume than its root (subvol=), that not every kernel has (quotas), that let a damaged volume stop the machine
// (errors=panic), and that break what a flush promises (nobarrier).
var (
	everyOption = words("sync async dirsync lazytime nolazytime context= fscontext= defcontext= rootcontext=")
	fsOptions   = map[volume.Filesystem][]string{
		volume.Ext4: words(`acl user_xattr auto_da_alloc noauto_da_alloc bsddf minixdf
			block_validity noblock_validity commit= data= data_err= delalloc nodelalloc dioread_lock
			dioread_nolock discard nodiscard errors= grpid nogrpid bsdgroups sysvgroups init_itable
			init_itable= noinit_itable inode_readahead_blks= journal_checksum journal_ioprio=
			max_batch_time= min_batch_time= max_dir_size_kb= mb_optimize_scan= resgid= resuid= stripe=`),
		volume.XFS: words(`allocsize= discard nodiscard filestreams grpid nogrpid bsdgroups sysvgroups ikeep
			noikeep inode32 inode64 largeio nolargeio logbsize= logbufs= noalign nouuid sunit= swidth= swalloc
			wsync`),
		volume.Btrfs: words(`acl noacl autodefrag noautodefrag commit= compress compress= compress-force
			compress-force= datacow nodatacow datasum nodatasum discard discard= nodiscard flushoncommit
			noflushoncommit max_inline= metadata_ratio= ssd nossd ssd_spread nossd_spread space_cache=
			thread_pool= treelog notreelog user_subvol_rm_allowed`),
	}
)

func words(s string) []string { return strings.Fields(s) }

// maxFlagsBytes is what all mount flags together may have: CSI's limit.
const maxFlagsBytes = 4096

// ValidateMountFlags reports every fault of mount flags for a filesystem at
// once, as Invalid. It names options by key only: their values may be secret.
func ValidateMountFlags(fs volume.Filesystem, flags []string) error {
	_, err := parseFlags(fs, flags)
	return err
}

// parseFlags reads mount flags. An element may hold several, separated by commas
// outside of quotes. A later one wins over an earlier one.
func parseFlags(fs volume.Filesystem, flags []string) (mountOptions, error) {
	var o mountOptions
	var refused []string
	total := 0
	for _, element := range flags {
		total += len(element)
		for flag := range splitFlags(element) {
			if !o.add(fs, flag) {
				key, _, _ := strings.Cut(flag, "=")
				refused = append(refused, quoted(key))
			}
		}
	}
	if total > maxFlagsBytes {
		return mountOptions{}, fault.New(fault.Invalid, "mount_flags: %d bytes: want at most %d", total, maxFlagsBytes)
	}
	if len(refused) > 0 {
		return mountOptions{}, fault.New(fault.Invalid, "mount_flags: %s: not let through for %s: want options of %s itself that name no other device, path or namespace", strings.Join(refused, ", "), fs, fs)
	}
	return o, nil
}

func (o *mountOptions) add(fs volume.Filesystem, flag string) bool {
	key, value, hasValue := strings.Cut(flag, "=")
	switch key {
	case "defaults", "rw", "ro":
		o.readOnly = (o.readOnly || key == "ro") && key != "rw"
		return !hasValue
	}
	if a, ok := attributes[key]; ok {
		o.set = o.set&^a.clear | a.set
		return !hasValue
	}
	known := key
	if hasValue {
		known += "="
	}
	if !slices.Contains(everyOption, known) && !slices.Contains(fsOptions[fs], known) {
		return false
	}
	if key == "errors" && value != "remount-ro" && value != "continue" {
		return false
	}
	value = strings.Trim(value, `"`)
	if hasValue && (value == "" || strings.IndexFunc(value, func(r rune) bool { return r < ' ' || r > '~' || r == '"' }) >= 0) {
		return false
	}
	o.filesystem = slices.DeleteFunc(o.filesystem, func(p option) bool { return p.key == key })
	o.filesystem = append(o.filesystem, option{key: key, value: value, hasValue: hasValue})
	return true
}

// splitFlags yields the flags of one element.
func splitFlags(s string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		inQuotes := false
		for flag := range strings.FieldsFuncSeq(s, func(r rune) bool {
			if r == '"' {
				inQuotes = !inQuotes
			}
			return r == ',' && !inQuotes
		}) {
			if !yield(flag) {
				return
			}
		}
	}
}

func quoted(key string) string {
	return `"` + strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, key[:min(len(key), 64)]) + `"`
}

// withDefaults adds what Holkas wants of every mount and the flags leave open.
func (o mountOptions) withDefaults(fs volume.Filesystem, readOnly bool) mountOptions {
	o.filesystem = slices.Clone(o.filesystem)
	o.readOnly = o.readOnly || readOnly
	switch {
	case fs == volume.Ext4 && !o.has("errors"):
		// A filesystem that met damage must not go on writing.
		o.filesystem = append(o.filesystem, option{key: "errors", value: "remount-ro", hasValue: true})
	case fs == volume.XFS && !o.has("nouuid"):
		// A clone has its origin's UUID.
		o.filesystem = append(o.filesystem, option{key: "nouuid"})
	}
	return o
}
