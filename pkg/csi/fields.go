package csi

import (
	"unicode/utf8"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// field is a field of a request with its value.
type field struct{ name, value string }

// required finds a field that is empty, as Invalid.
func required(fields ...field) error {
	for _, f := range fields {
		if f.value == "" {
			return fault.New(fault.Invalid, "%s: empty: want a value", f.name)
		}
	}
	return nil
}

// checkName holds a CSI name to what the specification allows, as Invalid: at
// most 128 bytes and no control characters but tab, line feed and carriage
// return.
func checkName(name string) error {
	if err := required(field{"name", name}); err != nil {
		return err
	}
	if err := limit("name", len(name), maxStringBytes); err != nil {
		return err
	}
	if !utf8.ValidString(name) {
		return fault.New(fault.Invalid, "name: %q: want UTF-8", name)
	}
	for _, r := range name {
		if r < ' ' && r != '\t' && r != '\n' && r != '\r' || r >= 0x7f && r <= 0x9f {
			return fault.New(fault.Invalid, "name: %q: want no control character %U", name, r)
		}
	}
	return nil
}

// rangeOf reads a capacity range. Invalid if it is there and says nothing, or
// if it contradicts itself.
func rangeOf(c *csi.CapacityRange) (volume.Range, error) {
	r := volume.Range{RequiredBytes: c.GetRequiredBytes(), LimitBytes: c.GetLimitBytes()}
	if c != nil && r == (volume.Range{}) {
		return r, fault.New(fault.Invalid, "capacity_range: required_bytes and limit_bytes are 0: want at least one of them above 0")
	}
	return r, r.Validate()
}

// entries reads max_entries; 0 is no bound.
func entries(most int32) (int, error) {
	if most < 0 {
		return 0, fault.New(fault.Invalid, "max_entries: %d: want 0 or more", most)
	}
	return int(most), nil
}

// following reads a paging token: the id of the last entry of a page, or
// nothing. Busy, which is Aborted, if it is none.
func following[ID ~string](token string, parse func(string) (ID, error)) (ID, error) {
	if token == "" {
		return "", nil
	}
	id, err := parse(token)
	if err != nil {
		return "", fault.New(fault.Busy, "starting_token: %q: want the next_token of an earlier reply to the same call, or none", clip(token))
	}
	return id, nil
}

// noContext holds a volume context to what ours is: empty, but for what the
// sidecars put into it. Invalid otherwise.
func noContext(context map[string]string) error {
	for key := range volume.OwnParameters(context) {
		return fault.New(fault.Invalid, "volume_context.%s: want the volume's own context, which is empty", clip(key))
	}
	return nil
}

// deleted makes the deletion of what does not exist a success.
func deleted(err error) error {
	if fault.Is(err, fault.NotFound) {
		return nil
	}
	return err
}
