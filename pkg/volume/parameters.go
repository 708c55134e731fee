package volume

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// The parameters of a StorageClass. These spellings are an interface: never
// change one.
const (
	ParamBackend     = "backend"     // "local" (default) or "object"
	ParamConsistency = "consistency" // of a VolumeSnapshotClass: "filesystem" (default) or "crash"

	// Of the local backend.
	ParamProvisioning     = "provisioning"     // "thick" (default) or "thin"; mutable from thin to thick
	ParamPool             = "pool"             // name of a pool; any when absent
	ParamPoolType         = "poolType"         // "xfs" or "btrfs"; any when absent
	ParamMaxSnapshotPause = "maxSnapshotPause" // a Go duration; mutable

	// Of the object backend.
	ParamRepository  = "repository"  // id of a repository; the home one when absent
	ParamCacheSize   = "cacheSize"   // a quantity, or "full"; the node's shared cache when absent; mutable
	ParamDurability  = "durability"  // "journal" (default) or "object"; mutable
	ParamOnNodeLoss  = "onNodeLoss"  // "wait" (default) or "rollback"; mutable
	ParamUploadDelay = "uploadDelay" // a Go duration; mutable
	ParamCompression = "compression" // "zstd" (default) or "none"; mutable
	ParamEncryption  = "encryption"  // "none" (default) or "aes-256-gcm"
)

// parameter is how one is read: into a class, or, if it may change, into a
// Mutable. ok says whether the value is right.
type parameter struct {
	want    string // what a right value is
	fixed   func(c *Class, value string) (ok bool)
	mutable func(m *Mutable, value string) (ok bool)
}

// parameters are those of each backend.
var parameters = map[string]map[string]parameter{
	BackendLocal: {
		ParamProvisioning:     oneOf(func(m *Mutable) **Provisioning { return &m.Provisioning }, Thick, Thin),
		ParamMaxSnapshotPause: duration(func(m *Mutable) **time.Duration { return &m.MaxSnapshotPause }, `a duration above 0 and up to 1h, such as "500ms"`, 1, time.Hour),
		ParamPool: {want: "1 to 63 of a-z, 0-9 and '-', with a letter or digit at both ends", fixed: func(c *Class, value string) bool {
			c.Pool = value
			return poolName.MatchString(value)
		}},
		ParamPoolType: {want: `"xfs" or "btrfs"`, fixed: func(c *Class, value string) bool {
			c.PoolType = PoolType(value)
			return c.PoolType == XFSPool || c.PoolType == BtrfsPool
		}},
	},
	BackendObject: {
		ParamCacheSize: {want: `"full", or a quantity from 64Mi to 64Ti, such as "10Gi"`, mutable: func(m *Mutable, value string) bool {
			n, ok := parseCache(value)
			m.CacheBytes = &n
			return ok
		}},
		ParamDurability:  oneOf(func(m *Mutable) **Durability { return &m.Durability }, JournalDurability, ObjectDurability),
		ParamOnNodeLoss:  oneOf(func(m *Mutable) **OnNodeLoss { return &m.OnNodeLoss }, Wait, Rollback),
		ParamUploadDelay: duration(func(m *Mutable) **time.Duration { return &m.UploadDelay }, `a duration from 100ms to 10m, such as "5s"`, MinUploadDelay, MaxUploadDelay),
		ParamCompression: oneOf(func(m *Mutable) **Compression { return &m.Compression }, Zstd, NoCompression),
		ParamEncryption: {want: `"none" or "aes-256-gcm"`, fixed: func(c *Class, value string) bool {
			c.Encryption = Encryption(value)
			return c.Encryption == NoEncryption || c.Encryption == AES256GCM
		}},
		ParamRepository: {want: "the id of a repository, or none for the home one", fixed: func(c *Class, value string) bool {
			id, err := ParseRepositoryID(value)
			c.Repository = id
			return err == nil
		}},
	},
}

// oneOf reads a parameter that is one of two words.
func oneOf[T ~string](at func(*Mutable) **T, a, b T) parameter {
	return parameter{want: `"` + string(a) + `" or "` + string(b) + `"`, mutable: func(m *Mutable, value string) bool {
		word := T(value)
		*at(m) = &word
		return word == a || word == b
	}}
}

func duration(at func(*Mutable) **time.Duration, want string, least, most time.Duration) parameter {
	return parameter{want: want, mutable: func(m *Mutable, value string) bool {
		d, err := time.ParseDuration(value)
		*at(m) = &d
		return err == nil && d >= least && d <= most
	}}
}

// lookup finds a parameter of a backend, or of any if the backend is unknown.
func lookup(backend, key string) (p parameter, ok bool) {
	for name, of := range parameters {
		if name == backend || parameters[backend] == nil {
			if p, ok = of[key]; ok {
				return p, true
			}
		}
	}
	return parameter{}, false
}

// keys names the parameters of a backend, or of all if it is unknown; only those
// that may change, if mutable is set.
func keys(backend string, mutable bool) string {
	var all []string
	if !mutable {
		all = append(all, ParamBackend)
	}
	for name, of := range parameters {
		for key, p := range of {
			if (name == backend || parameters[backend] == nil) && (p.mutable != nil || !mutable) {
				all = append(all, key)
			}
		}
	}
	slices.Sort(all)
	return strings.Join(all, ", ")
}

// MutableParameters names the parameters that may change of a volume of some
// backend.
func MutableParameters() string { return keys("", true) }

// ParseClass reads the parameters of a StorageClass, with the mutable ones laid
// over them. Every fault in them is reported at once, as Invalid; a parameter of
// another backend is one. The sidecars' own keys are passed over.
func ParseClass(fixed, mutable map[string]string) (Class, error) {
	merged := maps.Clone(OwnParameters(fixed))
	maps.Copy(merged, mutable)
	class := Class{Backend: BackendLocal}
	if value, ok := merged[ParamBackend]; ok {
		class.Backend = value
	}
	var m Mutable
	var faults []error
	say := func(format string, args ...any) { faults = append(faults, fault.New(fault.Invalid, format, args...)) }
	for _, key := range slices.Sorted(maps.Keys(merged)) {
		value := merged[key]
		p, ok := lookup(class.Backend, key)
		_, changing := mutable[key]
		switch {
		case changing && p.mutable == nil:
			say("mutable parameter %s: unknown, or one that cannot change: want one of %s", clip(key), keys(class.Backend, true))
		case key == ParamBackend && parameters[value] == nil:
			faults = append(faults, invalid(key, value, `"local" or "object"`))
		case key == ParamBackend:
		case !ok:
			say("parameter %s: unknown with backend %q: want one of %s", clip(key), clip(class.Backend), keys(class.Backend, false))
		case p.mutable != nil && !p.mutable(&m, value), p.fixed != nil && !p.fixed(&class, value):
			faults = append(faults, invalid(key, value, p.want))
		}
	}
	class = m.onto(class).WithDefaults()
	if len(faults) == 0 {
		faults = append(faults, class.consistent())
	}
	if err := errors.Join(faults...); err != nil {
		return Class{}, fault.As(fault.Invalid, err)
	}
	return class, nil
}

// ParseMutable reads mutable parameters, as a VolumeAttributesClass has them.
// Every fault in them is reported at once, as Invalid. Whether they are of the
// backend of a volume Apply says.
func ParseMutable(given map[string]string) (Mutable, error) {
	var m Mutable
	var faults []error
	for _, key := range slices.Sorted(maps.Keys(given)) {
		p, _ := lookup("", key)
		switch {
		case p.mutable == nil:
			faults = append(faults, fault.New(fault.Invalid, "mutable parameter %s: unknown, or one that cannot change: want one of %s", clip(key), MutableParameters()))
		case !p.mutable(&m, given[key]):
			faults = append(faults, invalid(key, given[key], p.want))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return Mutable{}, fault.As(fault.Invalid, err)
	}
	return m, nil
}

// of reports changes that are not of a backend, as Invalid.
func (m Mutable) of(backend string) error {
	var faults []error
	given := map[string]bool{
		ParamProvisioning: m.Provisioning != nil, ParamMaxSnapshotPause: m.MaxSnapshotPause != nil,
		ParamCacheSize: m.CacheBytes != nil, ParamDurability: m.Durability != nil, ParamOnNodeLoss: m.OnNodeLoss != nil,
		ParamUploadDelay: m.UploadDelay != nil, ParamCompression: m.Compression != nil,
	}
	for _, key := range slices.Sorted(maps.Keys(given)) {
		if _, ok := parameters[backend][key]; given[key] && !ok {
			faults = append(faults, fault.New(fault.Invalid, "parameter %s: not of backend %q: want one of %s", key, backend, keys(backend, true)))
		}
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

// IsMutable reports whether a parameter may change.
func IsMutable(key string) bool {
	p, _ := lookup("", key)
	return p.mutable != nil
}

// Parameters are a class as ParseClass reads it.
func (c Class) Parameters() map[string]string {
	all := map[string]string{
		ParamBackend: c.Backend, ParamProvisioning: string(c.Provisioning), ParamPool: c.Pool, ParamPoolType: string(c.PoolType),
		ParamRepository: string(c.Repository), ParamDurability: string(c.Durability), ParamOnNodeLoss: string(c.OnNodeLoss),
		ParamCompression: string(c.Compression), ParamEncryption: string(c.Encryption), ParamCacheSize: formatCache(c.CacheBytes),
		ParamMaxSnapshotPause: formatDuration(c.MaxSnapshotPause), ParamUploadDelay: formatDuration(c.UploadDelay),
	}
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

func formatDuration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
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
