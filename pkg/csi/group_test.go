package csi

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// groupOfTwo is a service with a group snapshot, its id, and its members' ids.
func groupOfTwo() (f *fakeService, id string, members []string) {
	f = &fakeService{group: repository.Group{ID: volume.NewGroupID(), Cut: cut}}
	for range 2 {
		f.addSnapshot(repository.Snapshot{Volume: volume.NewID(), Node: "n1", Group: f.group.ID})
	}
	for _, s := range f.snapshots {
		members = append(members, f.Handle(s.ID).String())
	}
	return f, f.GroupHandle(f.group.ID).String(), members
}

func TestCreateGroup(t *testing.T) {
	f, id, members := groupOfTwo()
	a, b := volume.NewID(), volume.NewID()
	got, err := NewGroupControllerServer(f).CreateVolumeGroupSnapshot(t.Context(), &csi.CreateVolumeGroupSnapshotRequest{
		Name: "group-1", SourceVolumeIds: []string{string(a), string(b)}, Secrets: map[string]string{"a": "b"},
		Parameters: map[string]string{"consistency": "crash", "csi.storage.k8s.io/volumegroupsnapshot/name": "x"},
	})
	want := controller.CreateGroupRequest{Name: "group-1", Volumes: []volume.ID{a, b}, Consistency: volume.CrashConsistent, Secrets: volume.Secrets{"a": "b"}}
	if err != nil || !reflect.DeepEqual(f.asked, want) {
		t.Errorf("asked %#v, %v, want %#v", f.asked, err, want)
	}
	g := got.GetGroupSnapshot()
	if g.GetGroupSnapshotId() != id || !g.ReadyToUse || !g.CreationTime.AsTime().Equal(cut) || len(g.Snapshots) != 2 || g.Snapshots[1].SnapshotId != members[1] || g.Snapshots[1].GroupSnapshotId != id {
		t.Errorf("got %v", g)
	}
	for name, c := range map[string]struct {
		name    string
		volumes []string
		p       map[string]string
		kind    fault.Kind
		part    string
	}{
		"no name":       {"", []string{string(a)}, nil, fault.Invalid, "name"},
		"bad name":      {"\x00", []string{string(a)}, nil, fault.Invalid, "U+0000"},
		"no volumes":    {"g", nil, nil, fault.Invalid, "source_volume_ids: none"},
		"an empty id":   {"g", []string{impossible, ""}, nil, fault.Invalid, "source_volume_ids"},
		"impossible id": {"g", []string{string(a), impossible}, nil, fault.NotFound, "source_volume_ids"},
		"twice":         {"g", []string{string(a), string(b), string(a)}, nil, fault.Invalid, "twice"},
		"parameter":     {"g", []string{string(a)}, map[string]string{"x": "y"}, fault.Invalid, "parameter x"},
	} {
		f.asked = nil
		_, err := NewGroupControllerServer(f).CreateVolumeGroupSnapshot(t.Context(), &csi.CreateVolumeGroupSnapshotRequest{Name: c.name, SourceVolumeIds: c.volumes, Parameters: c.p})
		if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.part) || f.asked != nil {
			t.Errorf("%s: got %v, asked %v, want %v with %q", name, err, f.asked, c.kind, c.part)
		}
	}
}

func TestGetGroup(t *testing.T) {
	f, id, members := groupOfTwo()
	slices.Reverse(members)
	for name, c := range map[string]struct {
		id      string
		members []string
		kind    fault.Kind
		part    string // empty: success
	}{
		"in another order": {id, members, 0, ""},
		"no id":            {"", members, fault.Invalid, "group_snapshot_id"},
		"impossible id":    {impossible, nil, fault.NotFound, "group_snapshot_id"},
		"unknown id":       {f.GroupHandle(volume.NewGroupID()).String(), nil, fault.NotFound, "none of this id"},
		"no members":       {id, nil, fault.Invalid, "snapshot_ids: none"},
		"one of two":       {id, members[:1], fault.Invalid, "exactly"},
		"one too many":     {id, append([]string{members[0]}, members...), fault.Invalid, "exactly"},
		"impossible":       {id, []string{members[0], impossible}, fault.Invalid, "snapshot_ids"},
	} {
		got, err := NewGroupControllerServer(f).GetVolumeGroupSnapshot(t.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: c.id, SnapshotIds: c.members})
		if c.part == "" && (err != nil || got.GroupSnapshot.GroupSnapshotId != id) || c.part != "" && (!fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.part)) {
			t.Errorf("%s: got %v, %v, want %v with %q", name, got, err, c.kind, c.part)
		}
	}
}

func TestDeleteGroup(t *testing.T) {
	f, id, members := groupOfTwo()
	h, _ := volume.ParseGroupHandle(id)
	unknown := volume.GroupHandle{Repository: home, Group: volume.NewGroupID()}
	handles := []volume.Handle{f.Handle(f.snapshots[0].ID), f.Handle(f.snapshots[1].ID)}
	for name, c := range map[string]struct {
		id      string
		members []string
		kind    fault.Kind
		part    string // of the fault; empty: success
		want    any    // what the service is asked
	}{
		"all members":               {id, members, 0, "", groupDeleted{h, handles}},
		"no id":                     {"", members, fault.Invalid, "group_snapshot_id", nil},
		"impossible id":             {impossible, nil, 0, "", nil},
		"no members":                {id, nil, fault.Invalid, "snapshot_ids: none", nil},
		"impossible member":         {id, []string{impossible}, fault.Invalid, "snapshot_ids", nil},
		"unknown, no members":       {unknown.String(), nil, 0, "", groupDeleted{unknown, nil}},
		"unknown, nonsense members": {unknown.String(), []string{impossible}, 0, "", groupDeleted{unknown, nil}},
		"unknown, some members":     {unknown.String(), members, 0, "", groupDeleted{unknown, handles}},
	} {
		f.asked = nil
		_, err := NewGroupControllerServer(f).DeleteVolumeGroupSnapshot(t.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: c.id, SnapshotIds: c.members})
		if c.part == "" && err != nil || c.part != "" && (!fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.part)) {
			t.Errorf("%s: got %v, want %v with %q", name, err, c.kind, c.part)
		}
		if !reflect.DeepEqual(f.asked, c.want) {
			t.Errorf("%s: asked %#v, want %#v", name, f.asked, c.want)
		}
	}
	f.err = fault.New(fault.Transient, "the store is down")
	for name, members := range map[string][]string{"all members": members, "no members": nil} {
		f.asked = nil
		_, err := NewGroupControllerServer(f).DeleteVolumeGroupSnapshot(t.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: id, SnapshotIds: members})
		if !fault.Is(err, fault.Transient) {
			t.Errorf("%s: got %v, want the service's error", name, err)
		}
		if members == nil && f.asked != nil {
			t.Errorf("%s: asked %#v, though nobody knows whether there is such a group", name, f.asked)
		}
	}
}

func TestGroupCapabilities(t *testing.T) {
	got, err := NewGroupControllerServer(&fakeService{}).GroupControllerGetCapabilities(t.Context(), nil)
	if err != nil || len(got.Capabilities) != 1 || got.Capabilities[0].GetRpc().GetType() != csi.GroupControllerServiceCapability_RPC_CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT {
		t.Errorf("got %v, %v", got, err)
	}
}
