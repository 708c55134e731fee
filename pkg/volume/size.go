package volume

import (
	"math"

	"github.com/holkas-io/holkas/pkg/fault"
)

// SizeUnit is what every volume's size is a multiple of, in bytes: one block.
const SizeUnit = 4096

// MinimumBytes and DefaultBytes are the least size of a volume and the size of
// one that is asked for without any. MaximumBytes, 1 EiB, keeps every sum of a few
// sizes within 63 bits. A volume of the object backend has MaximumObjectBytes at
// most, 64 TiB: the blocks that its log can number.
const (
	MinimumBytes int64 = 1 << 20
	DefaultBytes int64 = 1 << 30
	MaximumBytes int64 = 1 << 60

	MaximumObjectBytes int64 = 64 << 40
)

// Range is a requested size in bytes: CSI's CapacityRange. Zero means that a
// bound is not given.
type Range struct {
	RequiredBytes int64 `json:"requiredBytes,omitempty"`
	LimitBytes    int64 `json:"limitBytes,omitempty"`
}

// Validate reports negative bounds and a limit below what is required, as
// Invalid.
func (r Range) Validate() error {
	switch {
	case r.RequiredBytes < 0:
		return fault.New(fault.Invalid, "capacity_range.required_bytes: %d: want 0 or more", r.RequiredBytes)
	case r.LimitBytes < 0:
		return fault.New(fault.Invalid, "capacity_range.limit_bytes: %d: want 0 or more", r.LimitBytes)
	case r.LimitBytes > 0 && r.LimitBytes < r.RequiredBytes:
		return fault.New(fault.Invalid, "capacity_range.limit_bytes: %d is below required_bytes %d: want at least as much", r.LimitBytes, r.RequiredBytes)
	}
	return nil
}

// Size chooses the size of a volume: what is required, or a default if nothing
// is, at least the minimum, rounded up to SizeUnit. OutOfRange if the limit does
// not allow it.
func (r Range) Size(minimumBytes int64) (int64, error) {
	if err := r.Validate(); err != nil {
		return 0, err
	}
	minimumBytes = max(minimumBytes, MinimumBytes)
	want := max(r.RequiredBytes, minimumBytes)
	if r.RequiredBytes == 0 {
		want = max(DefaultBytes, minimumBytes)
		if r.LimitBytes > 0 {
			want = max(min(want, r.LimitBytes/SizeUnit*SizeUnit), minimumBytes)
		}
	}
	if want > MaximumBytes {
		return 0, fault.New(fault.OutOfRange, "capacity_range.required_bytes: %d: want at most %d", r.RequiredBytes, MaximumBytes)
	}
	want = (want + SizeUnit - 1) / SizeUnit * SizeUnit
	if r.LimitBytes > 0 && want > r.LimitBytes {
		return 0, fault.New(fault.OutOfRange, "capacity_range.limit_bytes: %d: the volume would have %d: sizes are multiples of %d and at least %d", r.LimitBytes, want, SizeUnit, minimumBytes)
	}
	return want, nil
}

// Holds reports whether a size lies in the range.
func (r Range) Holds(sizeBytes int64) bool {
	limit := r.LimitBytes
	if limit == 0 {
		limit = math.MaxInt64
	}
	return r.RequiredBytes <= sizeBytes && sizeBytes <= limit
}
