package csi

import (
	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

// volumeHealth translates what is wrong with a volume.
func volumeHealth(id volume.ID, health []backend.Health) *csi.VolumeHealth {
	reply := &csi.VolumeHealth{VolumeId: string(id)}
	for _, h := range distinct(health, volumeSeverity) {
		reply.HealthStatuses = append(reply.HealthStatuses, &csi.VolumeHealth_VolumeHealthEntry{
			Status: volumeSeverity(h.Severity), Reason: h.Reason, Message: h.Message,
		})
	}
	return reply
}

func volumeSeverity(s backend.Severity) csi.VolumeHealthErrorType {
	switch s {
	case backend.Degraded:
		return csi.VolumeHealthErrorType_DEGRADED
	case backend.DataLoss:
		return csi.VolumeHealthErrorType_DATA_LOSS
	}
	return csi.VolumeHealthErrorType_INACCESSIBLE
}

// distinct keeps one entry for each status and reason, as CSI wants it, with the
// messages of all.
func distinct[S comparable](health []backend.Health, status func(backend.Severity) S) []backend.Health {
	type key struct {
		status S
		reason string
	}
	var kept []backend.Health
	at := map[key]int{}
	for _, h := range health {
		k := key{status(h.Severity), h.Reason}
		if i, ok := at[k]; !ok {
			at[k] = len(kept)
			kept = append(kept, h)
		} else if h.Message != "" && kept[i].Message != h.Message {
			kept[i].Message += "; " + h.Message
		}
	}
	return kept
}
