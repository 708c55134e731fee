package csi

import (
	"strconv"

	"github.com/holkas-io/holkas/pkg/fault"
)

// PublishContextReadOnly is the key of the publish context under which the
// controller tells the node, as "true" or "false", whether a volume is published
// to it read-only.
const PublishContextReadOnly = "readOnly"

// publishedReadOnly reports whether a volume is to be read-only at a node: it
// is if the request says so, or if the controller published it so.
func publishedReadOnly(publishContext map[string]string, asked bool) (bool, error) {
	value, ok := publishContext[PublishContextReadOnly]
	if !ok {
		return asked, nil
	}
	published, err := strconv.ParseBool(value)
	if err != nil || value != strconv.FormatBool(published) {
		return false, fault.New(fault.Invalid, `publish_context.%s: %q: want "true" or "false", as ControllerPublishVolume gave it`, PublishContextReadOnly, clip(value))
	}
	return asked || published, nil
}
