package volume

import (
	"errors"
	"maps"
	"slices"

	"github.com/holkas-io/holkas/pkg/fault"
)

// Consistency says what a snapshot of a mounted volume holds.
type Consistency string

// The consistencies.
const (
	// FilesystemConsistent: the filesystem is frozen for the cut, and clean.
	FilesystemConsistent Consistency = "filesystem"
	// CrashConsistent: what a power loss at that moment would have left.
	CrashConsistent Consistency = "crash"
)

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
