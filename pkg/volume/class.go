package volume

import (
	"regexp"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// The backends, as a class names them.
const (
	BackendLocal  = "local"  // volumes live on one node's NVMe
	BackendObject = "object" // volumes live in the repository
)

// Shared reports whether a backend keeps its volumes and snapshots in the
// repository, where the engine of every node that has the backend reaches them. A
// volume of any other backend is pinned to its node.
func Shared(backend string) bool { return backend == BackendObject }

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

// Class is what a StorageClass's parameters say. The zero value of each field
// but Backend means its default; the fields of other backends are zero.
type Class struct {
	Backend string `json:"backend"`

	// Of BackendLocal.
	Provisioning     Provisioning  `json:"provisioning,omitempty"`
	Pool             string        `json:"pool,omitempty"`
	PoolType         PoolType      `json:"poolType,omitempty"`
	MaxSnapshotPause time.Duration `json:"maxSnapshotPauseNanoseconds,omitempty"`

	// Of BackendObject.
	Repository  RepositoryID  `json:"repository,omitempty"`
	CacheBytes  int64         `json:"cacheBytes,omitempty"` // 0: the node's shared cache; or CacheFull
	Durability  Durability    `json:"durability,omitempty"`
	OnNodeLoss  OnNodeLoss    `json:"onNodeLoss,omitempty"`
	UploadDelay time.Duration `json:"uploadDelayNanoseconds,omitempty"`
	Compression Compression   `json:"compression,omitempty"`
	Encryption  Encryption    `json:"encryption,omitempty"`
}

// Shared reports whether volumes of the class are, see the function Shared.
func (c Class) Shared() bool { return Shared(c.Backend) }

// WithDefaults returns the class with the defaults of its backend where it says
// nothing.
func (c Class) WithDefaults() Class {
	switch c.Backend {
	case BackendLocal:
		c.Provisioning = or(c.Provisioning, Thick)
		c.MaxSnapshotPause = or(c.MaxSnapshotPause, DefaultMaxSnapshotPause)
	case BackendObject:
		c.Durability = or(c.Durability, JournalDurability)
		c.OnNodeLoss = or(c.OnNodeLoss, Wait)
		c.UploadDelay = or(c.UploadDelay, DefaultUploadDelay)
		c.Compression = or(c.Compression, Zstd)
		c.Encryption = or(c.Encryption, NoEncryption)
	}
	return c
}

func or[T comparable](value, instead T) T {
	var zero T
	if value == zero {
		return instead
	}
	return value
}

// consistent reports, as Invalid, what contradicts itself in a class.
func (c Class) consistent() error {
	if c.OnNodeLoss == Rollback && c.Durability == ObjectDurability {
		return fault.New(fault.Invalid, "parameter %s: %q with %s %q, which leaves nothing to roll back: want %q", ParamOnNodeLoss, Rollback, ParamDurability, ObjectDurability, Wait)
	}
	return nil
}

// MaximumBytes is the largest size of a volume of the class.
func (c Class) MaximumBytes() int64 {
	if c.Shared() {
		return MaximumObjectBytes
	}
	return MaximumBytes
}

// CheckSize reports, as OutOfRange, a size that no volume of the class can have.
func (c Class) CheckSize(sizeBytes int64) error {
	if sizeBytes > c.MaximumBytes() {
		return fault.New(fault.OutOfRange, "capacity_range.required_bytes: %d bytes: want at most %d with %s %q", sizeBytes, c.MaximumBytes(), ParamBackend, c.Backend)
	}
	return nil
}

// Mutable is what of a class may change during a volume's life. A nil field
// stays as it is.
type Mutable struct {
	// Of BackendLocal.
	Provisioning     *Provisioning
	MaxSnapshotPause *time.Duration

	// Of BackendObject. They count from the next attachment of the volume, or
	// before.
	CacheBytes  *int64
	Durability  *Durability
	OnNodeLoss  *OnNodeLoss
	UploadDelay *time.Duration
	Compression *Compression
}

// Apply returns the class with the changes made. Invalid for a parameter that is
// not of its backend; for one from thick to thin, since a promise once given is
// kept; and for what contradicts itself then.
func (c Class) Apply(m Mutable) (Class, error) {
	if err := m.of(or(c.Backend, BackendLocal)); err != nil {
		return c, err
	}
	if m.Provisioning != nil && c.Provisioning == Thick && *m.Provisioning == Thin {
		return c, fault.New(fault.Invalid, "parameter %s: a thick volume stays thick: want %q", ParamProvisioning, Thick)
	}
	changed := m.onto(c)
	if err := changed.consistent(); err != nil {
		return c, err
	}
	return changed, nil
}

// onto lays the changes over a class.
func (m Mutable) onto(c Class) Class {
	set(&c.Provisioning, m.Provisioning)
	set(&c.MaxSnapshotPause, m.MaxSnapshotPause)
	set(&c.CacheBytes, m.CacheBytes)
	set(&c.Durability, m.Durability)
	set(&c.OnNodeLoss, m.OnNodeLoss)
	set(&c.UploadDelay, m.UploadDelay)
	set(&c.Compression, m.Compression)
	return c
}

func set[T any](at, to *T) {
	if to != nil {
		*at = *to
	}
}

// Mutable returns what may change of the class, as it is.
func (c Class) Mutable() Mutable {
	if c.Shared() {
		return Mutable{
			CacheBytes: &c.CacheBytes, Durability: &c.Durability, OnNodeLoss: &c.OnNodeLoss,
			UploadDelay: &c.UploadDelay, Compression: &c.Compression,
		}
	}
	return Mutable{Provisioning: &c.Provisioning, MaxSnapshotPause: &c.MaxSnapshotPause}
}

// Renewed returns the class with what may change of it as now, a class of the
// same backend, has it.
func (c Class) Renewed(now Class) Class { return now.Mutable().onto(c) }

var poolName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// ParsePoolName reads a pool's name: a DNS label.
func ParsePoolName(s string) (string, error) {
	if !poolName.MatchString(s) {
		return "", fault.New(fault.Invalid, "pool name %q: want 1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends", clip(s))
	}
	return s, nil
}
