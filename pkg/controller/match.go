package controller

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// match compares a repeated request with the one that is stored, as Exists. The
// size range may differ if the volume's size lies in it. The sidecars' own
// parameters are not compared, and neither is the topology.
func match(stored, asked repository.Request, sizeBytes int64) error {
	switch {
	case !sameParameters(stored.Parameters, asked.Parameters):
		return differs("parameters", parameters(stored.Parameters), parameters(asked.Parameters))
	case !sameParameters(stored.Mutable, asked.Mutable):
		return differs("mutable_parameters", parameters(stored.Mutable), parameters(asked.Mutable))
	case stored.Source != asked.Source:
		return differs("volume_content_source", source(stored.Source), source(asked.Source))
	case stored.ReadOnly != asked.ReadOnly:
		return differs("volume_capabilities", readers(stored.ReadOnly), readers(asked.ReadOnly))
	case stored.Range != asked.Range && !asked.Range.Holds(sizeBytes):
		return differs("capacity_range", fmt.Sprintf("%d bytes", sizeBytes),
			fmt.Sprintf("required_bytes %d, limit_bytes %d", asked.Range.RequiredBytes, asked.Range.LimitBytes))
	}
	return nil
}

func readers(only bool) string {
	if only {
		return repository.MultiNodeReaderOnly + " alone"
	}
	return "modes for writing"
}

func differs(field, stored, asked string) error {
	return fault.New(fault.Exists, "%s: the name exists with %s, and %s is asked for: want the same, or another name", field, stored, asked)
}

func sameParameters(a, b map[string]string) bool {
	return maps.Equal(volume.OwnParameters(a), volume.OwnParameters(b))
}

func parameters(all map[string]string) string {
	own := volume.OwnParameters(all)
	if len(own) == 0 {
		return "none"
	}
	var b strings.Builder
	for i, key := range slices.Sorted(maps.Keys(own)) {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s=%q", key, own[key])
	}
	return b.String()
}

func source(s repository.Source) string {
	switch {
	case s.Snapshot != "":
		return "snapshot " + s.Snapshot
	case s.Volume != "":
		return "volume " + string(s.Volume)
	}
	return "none"
}
