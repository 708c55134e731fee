package csi

import (
	"context"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// GroupControllerServer is the CSI GroupController service.
type GroupControllerServer struct {
	csi.UnimplementedGroupControllerServer
	service controller.Service
}

// NewGroupControllerServer makes the GroupController service on top of a
// controller.
func NewGroupControllerServer(s controller.Service) *GroupControllerServer {
	return &GroupControllerServer{service: s}
}

// GroupControllerGetCapabilities says what the service has.
func (s *GroupControllerServer) GroupControllerGetCapabilities(context.Context, *csi.GroupControllerGetCapabilitiesRequest) (*csi.GroupControllerGetCapabilitiesResponse, error) {
	return &csi.GroupControllerGetCapabilitiesResponse{Capabilities: []*csi.GroupControllerServiceCapability{{
		Type: &csi.GroupControllerServiceCapability_Rpc{Rpc: &csi.GroupControllerServiceCapability_RPC{
			Type: csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT,
		}},
	}}}, nil
}

// CreateVolumeGroupSnapshot cuts snapshots of several volumes at one moment.
func (s *GroupControllerServer) CreateVolumeGroupSnapshot(ctx context.Context, r *csi.CreateVolumeGroupSnapshotRequest) (*csi.CreateVolumeGroupSnapshotResponse, error) {
	request, err := groupCutOf(r)
	if err != nil {
		return nil, err
	}
	group, members, err := s.service.CreateGroup(ctx, request)
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeGroupSnapshotResponse{GroupSnapshot: s.reply(group, members)}, nil
}

// groupCutOf reads a request for a group snapshot.
func groupCutOf(r *csi.CreateVolumeGroupSnapshotRequest) (request controller.CreateGroupRequest, err error) {
	if err := checkName(r.GetName()); err != nil {
		return request, err
	}
	if len(r.GetSourceVolumeIds()) == 0 {
		return request, fault.New(fault.Invalid, "source_volume_ids: none: want one or more")
	}
	if slices.Contains(r.GetSourceVolumeIds(), "") {
		return request, fault.New(fault.Invalid, "source_volume_ids: one is empty: want ids of volumes")
	}
	request = controller.CreateGroupRequest{Name: r.GetName(), Secrets: r.GetSecrets()}
	known := map[volume.ID]bool{}
	for _, source := range r.GetSourceVolumeIds() {
		id, err := volume.ParseID(source)
		if err != nil {
			return request, fault.Wrap(err, "", "source_volume_ids")
		}
		if known[id] {
			return request, fault.New(fault.Invalid, "source_volume_ids: %s is there twice: want each volume once", id)
		}
		known[id] = true
		request.Volumes = append(request.Volumes, id)
	}
	request.Consistency, err = volume.ParseConsistency(r.GetParameters())
	return request, err
}

// DeleteVolumeGroupSnapshot deletes a group snapshot with all its members.
func (s *GroupControllerServer) DeleteVolumeGroupSnapshot(ctx context.Context, r *csi.DeleteVolumeGroupSnapshotRequest) (*csi.DeleteVolumeGroupSnapshotResponse, error) {
	h, err := groupOf(r.GetGroupSnapshotId())
	if err == nil {
		err = s.delete(ctx, h, r.GetSnapshotIds())
	}
	if err := deleted(err); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeGroupSnapshotResponse{}, nil
}

// delete deletes a group whose members are named wrongly only if there is none:
// then its deletion, which may have been interrupted, is finished.
func (s *GroupControllerServer) delete(ctx context.Context, h volume.GroupHandle, ids []string) error {
	members, wrong := membersOf(ids)
	if wrong != nil {
		if _, _, err := s.service.Group(ctx, h); err == nil {
			return wrong
		} else if !fault.Is(err, fault.NotFound) {
			return err
		}
	}
	return s.service.DeleteGroup(ctx, h, members)
}

// GetVolumeGroupSnapshot tells of one group snapshot.
func (s *GroupControllerServer) GetVolumeGroupSnapshot(ctx context.Context, r *csi.GetVolumeGroupSnapshotRequest) (*csi.GetVolumeGroupSnapshotResponse, error) {
	h, err := groupOf(r.GetGroupSnapshotId())
	if err != nil {
		return nil, err
	}
	group, members, err := s.service.Group(ctx, h)
	if err != nil {
		return nil, err
	}
	reply := s.reply(group, members)
	if err := matchMembers(reply, r.GetSnapshotIds()); err != nil {
		return nil, err
	}
	return &csi.GetVolumeGroupSnapshotResponse{GroupSnapshot: reply}, nil
}

// matchMembers sees that the ids are exactly those of the group's members.
func matchMembers(group *csi.VolumeGroupSnapshot, ids []string) error {
	if _, err := membersOf(ids); err != nil {
		return err
	}
	var want []string
	for _, member := range group.GetSnapshots() {
		want = append(want, member.GetSnapshotId())
	}
	slices.Sort(want)
	if got := slices.Sorted(slices.Values(ids)); !slices.Equal(got, want) {
		return fault.New(fault.Invalid, "snapshot_ids: %q: want exactly the group's members, %q", got, want)
	}
	return nil
}

// groupOf reads the id of a group snapshot.
func groupOf(id string) (volume.GroupHandle, error) {
	if err := required(field{"group_snapshot_id", id}); err != nil {
		return volume.GroupHandle{}, err
	}
	h, err := volume.ParseGroupHandle(id)
	return h, fault.Wrap(err, "", "group_snapshot_id")
}

// membersOf reads the ids of a group's members. Invalid if there are none, or if
// one cannot be the id of a snapshot.
func membersOf(ids []string) ([]volume.Handle, error) {
	if len(ids) == 0 {
		return nil, fault.New(fault.Invalid, "snapshot_ids: none: want those of the group's members")
	}
	var members []volume.Handle
	for _, id := range ids {
		h, err := volume.ParseHandle(id)
		if err != nil {
			return nil, fault.As(fault.Invalid, fault.Wrap(err, "", "snapshot_ids"))
		}
		members = append(members, h)
	}
	return members, nil
}

func (s *GroupControllerServer) reply(g repository.Group, members []repository.Snapshot) *csi.VolumeGroupSnapshot {
	reply := &csi.VolumeGroupSnapshot{
		GroupSnapshotId: s.service.GroupHandle(g.ID).String(), CreationTime: timestamppb.New(g.Cut), ReadyToUse: true,
	}
	for _, member := range members {
		reply.Snapshots = append(reply.Snapshots, snapshotReply(s.service, member))
	}
	return reply
}
