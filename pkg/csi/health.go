package csi

import (
	"context"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// ControllerGetVolumeHealth says what is wrong with a volume.
func (s *ControllerServer) ControllerGetVolumeHealth(ctx context.Context, r *csi.ControllerGetVolumeHealthRequest) (*csi.ControllerGetVolumeHealthResponse, error) {
	id, err := volumeOf(r.GetVolumeId())
	if err != nil {
		return nil, err
	}
	health, err := s.service.VolumeHealth(ctx, id)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerGetVolumeHealthResponse{VolumeHealth: volumeHealth(id, health.Health)}, nil
}

// healthPage bounds how many volumes one call of ControllerListVolumeHealth
// looks at, since each is asked of its node.
const healthPage = 128

// ControllerListVolumeHealth lists the volumes with which something is wrong. It
// looks at a page of volumes, so there may be few entries, or none, before the
// end.
func (s *ControllerServer) ControllerListVolumeHealth(ctx context.Context, r *csi.ControllerListVolumeHealthRequest) (*csi.ControllerListVolumeHealthResponse, error) {
	most, err := entries(r.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	after, err := following(r.GetStartingToken(), volume.ParseID)
	if err != nil {
		return nil, err
	}
	if most == 0 || most > healthPage {
		most = healthPage
	}
	page, next, err := s.service.Volumes(ctx, after, most)
	if err != nil {
		return nil, err
	}
	healths, errs := make([]controller.VolumeHealth, len(page)), make([]error, len(page))
	var all sync.WaitGroup
	for i, v := range page { // at once: one node that hangs must not hide what is wrong on the others
		all.Go(func() { healths[i], errs[i] = s.service.VolumeHealth(ctx, v.ID) })
	}
	all.Wait()
	reply := &csi.ControllerListVolumeHealthResponse{NextToken: string(next)}
	for i, health := range healths {
		switch {
		case fault.Is(errs[i], fault.NotFound): // deleted meanwhile
		case errs[i] != nil:
			return nil, errs[i]
		case len(health.Health) > 0:
			reply.Entries = append(reply.Entries, volumeHealth(page[i].ID, health.Health))
		}
	}
	return reply, nil
}

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
