package volume

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Provisioning says when a volume's space is taken from its pool.
type Provisioning string

// The ways of provisioning.
const (
	// Thick takes all of it at creation; such a volume never meets a full pool.
	Thick Provisioning = "thick"
	// Thin takes space as it is written, and gives it back on discard.
	Thin Provisioning = "thin"
)

// PoolType is the kind of filesystem under a local pool.
type PoolType string

// The pool types. AnyPool lets Holkas choose.
const (
	AnyPool   PoolType = ""
	XFSPool   PoolType = "xfs"
	BtrfsPool PoolType = "btrfs"
)

// DefaultMaxSnapshotPause bounds how long a snapshot may block a volume's
// writers unless its class says otherwise.
const DefaultMaxSnapshotPause = time.Second

// The parameters of a StorageClass. These spellings are an interface: never
// change one.
const (
	ParamBackend          = "backend"          // "local"
	ParamProvisioning     = "provisioning"     // "thick" (default) or "thin"; mutable from thin to thick
	ParamPool             = "pool"             // name of a pool; any when absent
	ParamPoolType         = "poolType"         // "xfs" or "btrfs"; any when absent
	ParamMaxSnapshotPause = "maxSnapshotPause" // a Go duration; mutable
	ParamConsistency      = "consistency"      // of a VolumeSnapshotClass: "filesystem" (default) or "crash"
)

// BackendLocal is the backend whose volumes live on one node's NVMe.
const BackendLocal = "local"

// Class is what a StorageClass's parameters say. The zero value of each field
// but Backend means its default.
type Class struct {
	Backend          string        `json:"backend"`
	Provisioning     Provisioning  `json:"provisioning"`
	Pool             string        `json:"pool,omitempty"`
	PoolType         PoolType      `json:"poolType,omitempty"`
	MaxSnapshotPause time.Duration `json:"maxSnapshotPauseNanoseconds"`
}

// Mutable is what of a class may change during a volume's life. A nil field
// stays as it is.
type Mutable struct {
	Provisioning     *Provisioning
	MaxSnapshotPause *time.Duration
}

// Apply returns the class with the changes made. Going from thick to thin is
// Invalid: a promise once given is kept.
func (c Class) Apply(m Mutable) (Class, error) {
	if m.Provisioning != nil {
		if c.Provisioning == Thick && *m.Provisioning == Thin {
			return c, fault.New(fault.Invalid, "parameter %s: a thick volume stays thick: want %q", ParamProvisioning, Thick)
		}
		c.Provisioning = *m.Provisioning
	}
	if m.MaxSnapshotPause != nil {
		c.MaxSnapshotPause = *m.MaxSnapshotPause
	}
	return c, nil
}

// Consistency says what a snapshot of a mounted volume holds.
type Consistency string

// The consistencies.
const (
	// FilesystemConsistent: the filesystem is frozen for the cut, and clean.
	FilesystemConsistent Consistency = "filesystem"
	// CrashConsistent: what a power loss at that moment would have left.
	CrashConsistent Consistency = "crash"
)

var poolName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ParsePoolName reads a pool's name: a DNS label.
func ParsePoolName(s string) (string, error) {
	if !poolName.MatchString(s) {
		return "", fault.New(fault.Invalid, "pool name %q: want 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends", clip(s))
	}
	return s, nil
}

// ParseClass reads the parameters of a StorageClass, with the mutable ones laid
// over them. Every fault in them is reported at once, as Invalid. The sidecars'
// own keys are passed over.
func ParseClass(parameters, mutable map[string]string) (Class, error) {
	class := Class{Backend: BackendLocal, Provisioning: Thick, MaxSnapshotPause: DefaultMaxSnapshotPause}
	merged := maps.Clone(OwnParameters(parameters))
	maps.Copy(merged, mutable)
	m, faults := parseMutable(merged)
	if m.Provisioning != nil {
		class.Provisioning = *m.Provisioning
	}
	if m.MaxSnapshotPause != nil {
		class.MaxSnapshotPause = *m.MaxSnapshotPause
	}
	for _, key := range slices.Sorted(maps.Keys(merged)) {
		value := merged[key]
		switch key {
		case ParamProvisioning, ParamMaxSnapshotPause:
		case ParamBackend:
			if value != BackendLocal {
				faults = append(faults, invalid(key, value, `"local"`))
			}
		case ParamPool:
			if _, err := ParsePoolName(value); err != nil {
				faults = append(faults, fault.Wrap(err, "parameter", key))
			}
			class.Pool = value
		case ParamPoolType:
			class.PoolType = PoolType(value)
			if class.PoolType != XFSPool && class.PoolType != BtrfsPool {
				faults = append(faults, invalid(key, value, `"xfs" or "btrfs"`))
			}
		case "encryption":
			faults = append(faults, fault.New(fault.Invalid, "parameter %s: a local volume cannot be encrypted by Holkas: leave it out, and encrypt the pool's disk instead", key))
		default:
			faults = append(faults, fault.New(fault.Invalid, "parameter %s: unknown: want one of backend, maxSnapshotPause, pool, poolType, provisioning", clip(key)))
		}
	}
	_, mutableFaults := ParseMutable(mutable)
	if len(faults) == 0 && mutableFaults != nil {
		faults = append(faults, mutableFaults)
	}
	if err := errors.Join(faults...); err != nil {
		return Class{}, fault.As(fault.Invalid, err)
	}
	return class, nil
}

// ParseMutable reads mutable parameters, as a VolumeAttributesClass has them.
// Every fault in them is reported at once, as Invalid.
func ParseMutable(parameters map[string]string) (Mutable, error) {
	m, faults := parseMutable(parameters)
	for _, key := range slices.Sorted(maps.Keys(parameters)) {
		if key != ParamProvisioning && key != ParamMaxSnapshotPause {
			faults = append(faults, fault.New(fault.Invalid, "mutable parameter %s: unknown: want one of maxSnapshotPause, provisioning", clip(key)))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Mutable{}, fault.As(fault.Invalid, err)
	}
	return m, nil
}

func parseMutable(parameters map[string]string) (m Mutable, faults []error) {
	if value, ok := parameters[ParamProvisioning]; ok {
		p := Provisioning(value)
		if p != Thick && p != Thin {
			faults = append(faults, invalid(ParamProvisioning, value, `"thick" or "thin"`))
		}
		m.Provisioning = &p
	}
	if value, ok := parameters[ParamMaxSnapshotPause]; ok {
		d, err := time.ParseDuration(value)
		if err != nil || d <= 0 || d > time.Hour {
			faults = append(faults, invalid(ParamMaxSnapshotPause, value, `a duration above 0 and up to 1h, such as "500ms"`))
		}
		m.MaxSnapshotPause = &d
	}
	return m, faults
}

// ParseConsistency reads the parameters of a VolumeSnapshotClass or
// VolumeGroupSnapshotClass.
func ParseConsistency(parameters map[string]string) (Consistency, error) {
	consistency := FilesystemConsistent
	var faults []error
	own := OwnParameters(parameters)
	for _, key := range slices.Sorted(maps.Keys(own)) {
		if key != ParamConsistency {
			faults = append(faults, fault.New(fault.Invalid, "parameter %s: unknown: want consistency", clip(key)))
			continue
		}
		consistency = Consistency(own[key])
		if consistency != FilesystemConsistent && consistency != CrashConsistent {
			faults = append(faults, invalid(key, own[key], `"filesystem" or "crash"`))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return "", fault.As(fault.Invalid, err)
	}
	return consistency, nil
}

// OwnParameters returns the parameters that are Holkas' own: not those under
// csi.storage.k8s.io/ and storage.kubernetes.io/, which are the sidecars'.
func OwnParameters(parameters map[string]string) map[string]string {
	own := make(map[string]string, len(parameters))
	for key, value := range parameters {
		if !strings.HasPrefix(key, "csi.storage.k8s.io/") && !strings.HasPrefix(key, "storage.kubernetes.io/") {
			own[key] = value
		}
	}
	return own
}

func invalid(key, value, want string) error {
	return fault.New(fault.Invalid, "parameter %s: %q: want %s", key, clip(value), want)
}
