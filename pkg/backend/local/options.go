package local

import (
	"errors"
	"path/filepath"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Options of Open.
type Options struct {
	// Pools are the pools of this node, at least one.
	Pools []PoolConfig
	// Attacher gives the devices.
	Attacher blockdev.Attacher
	// StateDir, if not empty, is an existing folder outside of the pools in
	// which the backend remembers each pool's id. With it a pool that is not
	// mounted is never taken for a new one, whatever its path holds meanwhile.
	StateDir string
	// MaxVolumes is how many volumes can be attached at once; 0: no limit.
	MaxVolumes int
	// PauseLimit is how long a freeze lasts at most; 0: backend.PauseLimit.
	PauseLimit time.Duration
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// PoolConfig says where a pool is: either in a folder (Path), or on a block
// device of its own (Device) that is mounted at MountPath.
type PoolConfig struct {
	// Name is what classes call the pool: a DNS label.
	Name string `json:"name"`
	// Path is an existing folder on XFS with reflink or on btrfs.
	Path string `json:"path,omitempty"`
	// Device is a block device that holds such a filesystem, or is blank.
	Device string `json:"device,omitempty"`
	// Format allows Holkas to format a blank device, and says as what. Empty: it
	// is never formatted.
	Format volume.PoolType `json:"format,omitempty"`
	// MountPath is an existing folder.
	MountPath string `json:"mountPath,omitempty"`
}

// root is the folder that the pool lies in.
func (c PoolConfig) root() string {
	if c.Device != "" {
		return c.MountPath
	}
	return c.Path
}

// resolved is root without symbolic links, as the kernel names what is in it.
func (c PoolConfig) resolved() string {
	if path, err := filepath.EvalSymlinks(c.root()); err == nil {
		return path
	}
	return c.root()
}

// Validate reports every fault at once, as Invalid.
func (o Options) Validate() error {
	var faults []error
	say := func(format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, format, args...))
	}
	if len(o.Pools) == 0 {
		say("pools: none: want at least one")
	}
	if o.Attacher == nil {
		say("attacher: none: want one")
	}
	if o.MaxVolumes < 0 {
		say("maxVolumes: %d: want 0 (no limit) or more", o.MaxVolumes)
	}
	if o.PauseLimit < 0 {
		say("pauseLimit: %v: want 0 (%v) or more", o.PauseLimit, backend.PauseLimit)
	}
	if o.StateDir != "" && !clean(o.StateDir) {
		say("stateDir: %q: want an absolute, clean path", o.StateDir)
	}
	names, roots := map[string]bool{}, map[string]bool{}
	for i, c := range o.Pools {
		faults = append(faults, c.validate(i))
		if names[c.Name] {
			say("pools[%d].name: %q: is the name of another pool: want a name of its own", i, c.Name)
		}
		if root := c.root(); root != "" && roots[root] {
			say("pools[%d]: %q: is another pool's folder: want one of its own", i, root)
		}
		names[c.Name], roots[c.root()] = true, true
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

func (c PoolConfig) validate(i int) error {
	var faults []error
	say := func(format string, args ...any) {
		faults = append(faults, fault.New(fault.Invalid, "pools[%d]."+format, append([]any{i}, args...)...))
	}
	if _, err := volume.ParsePoolName(c.Name); err != nil {
		say("name: %w", err)
	}
	switch {
	case c.Path == "" && c.Device == "":
		say("path: empty, and so is device: want one of the two")
	case c.Path != "" && c.Device != "":
		say("path: %q, and device is %q: want only one of the two", c.Path, c.Device)
	case c.Path != "" && !clean(c.Path):
		say("path: %q: want an absolute, clean path", c.Path)
	case c.Device != "" && !clean(c.Device):
		say("device: %q: want an absolute, clean path such as /dev/nvme1n1", c.Device)
	case c.Device != "" && !clean(c.MountPath):
		say("mountPath: %q: want an absolute, clean path to mount %s at", c.MountPath, c.Device)
	case c.Device == "" && (c.MountPath != "" || c.Format != ""):
		say("mountPath: %q, and format is %q: these belong to a device: want none with a path", c.MountPath, c.Format)
	}
	switch c.Format {
	case "", volume.XFSPool, volume.BtrfsPool:
	default:
		say("format: %q: want %q, %q or nothing (never format)", c.Format, volume.XFSPool, volume.BtrfsPool)
	}
	return errors.Join(faults...)
}

func clean(path string) bool {
	return filepath.IsAbs(path) && filepath.Clean(path) == path && path != "/"
}

func (o Options) withDefaults() Options {
	if o.PauseLimit == 0 {
		o.PauseLimit = backend.PauseLimit
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
