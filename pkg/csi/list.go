package csi

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// ListVolumes lists volumes in ascending order of id.
func (s *ControllerServer) ListVolumes(ctx context.Context, r *csi.ListVolumesRequest) (*csi.ListVolumesResponse, error) {
	most, err := entries(r.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	after, err := following(r.GetStartingToken(), volume.ParseID)
	if err != nil {
		return nil, err
	}
	page, next, err := s.service.Volumes(ctx, after, most)
	if err != nil {
		return nil, err
	}
	reply := &csi.ListVolumesResponse{NextToken: string(next)}
	for _, v := range page {
		reply.Entries = append(reply.Entries, &csi.ListVolumesResponse_Entry{
			Volume: volumeReply(v),
			Status: &csi.ListVolumesResponse_VolumeStatus{PublishedNodeIds: publishedNodes(v)},
		})
	}
	return reply, nil
}

// ListSnapshots lists snapshots in ascending order of id, all of them, those of
// one volume, or one.
func (s *ControllerServer) ListSnapshots(ctx context.Context, r *csi.ListSnapshotsRequest) (*csi.ListSnapshotsResponse, error) {
	most, err := entries(r.GetMaxEntries())
	if err != nil {
		return nil, err
	}
	after, err := following(r.GetStartingToken(), volume.ParseSnapshotID)
	if err != nil {
		return nil, err
	}
	var page []repository.Snapshot
	var next volume.SnapshotID
	if r.GetSnapshotId() != "" {
		page, err = s.oneSnapshot(ctx, r)
	} else {
		page, next, err = s.snapshots(ctx, after, most, r.GetSourceVolumeId())
	}
	if err != nil {
		return nil, err
	}
	reply := &csi.ListSnapshotsResponse{NextToken: string(next)}
	for _, snapshot := range page {
		reply.Entries = append(reply.Entries, &csi.ListSnapshotsResponse_Entry{Snapshot: snapshotReply(s.service, snapshot)})
	}
	return reply, nil
}

// oneSnapshot is the list of the snapshot that a request names, if there is one. The
// secrets of a request that names none may be for any of them.
func (s *ControllerServer) oneSnapshot(ctx context.Context, r *csi.ListSnapshotsRequest) ([]repository.Snapshot, error) {
	h, err := volume.ParseHandle(r.GetSnapshotId())
	if err != nil {
		return nil, nil
	}
	snapshot, err := s.service.Snapshot(ctx, h)
	switch {
	case fault.Is(err, fault.NotFound):
		return nil, nil
	case err != nil:
		return nil, err
	case r.GetSourceVolumeId() != "" && r.GetSourceVolumeId() != string(snapshot.Volume):
		return nil, nil
	}
	return []repository.Snapshot{snapshot}, s.service.CheckKey(ctx, snapshot, r.GetSecrets())
}

// snapshots fills a page with the snapshots of a volume, or of any if source is
// empty. It never reads more of a page of the service than it can take, so that
// next stands behind all that it has looked at.
func (s *ControllerServer) snapshots(ctx context.Context, after volume.SnapshotID, most int, source string) (page []repository.Snapshot, next volume.SnapshotID, err error) {
	if source == "" {
		return s.service.Snapshots(ctx, after, most)
	}
	if _, err := volume.ParseID(source); err != nil {
		return nil, "", nil
	}
	for {
		limit := 0
		if most > 0 {
			limit = most - len(page)
		}
		read, next, err := s.service.Snapshots(ctx, after, limit)
		if err != nil {
			return nil, "", err
		}
		for _, snapshot := range read {
			if string(snapshot.Volume) == source {
				page = append(page, snapshot)
			}
		}
		if next == "" || most > 0 && len(page) >= most {
			return page, next, nil
		}
		after = next
	}
}
