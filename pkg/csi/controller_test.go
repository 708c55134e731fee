package csi

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

const (
	mib = 1 << 20
	// impossible is an id that Holkas cannot have made.
	impossible = "../../etc\x00"
)

func at(node string) *csi.Topology {
	return &csi.Topology{Segments: map[string]string{TopologyKey: node}}
}

func fromSnapshot(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: id}}}
}

func fromVolume(id string) *csi.VolumeContentSource {
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: id}}}
}

// creation is a good request with a change.
func creation(change func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
	r := &csi.CreateVolumeRequest{Name: "pvc-1", VolumeCapabilities: []*csi.VolumeCapability{mounted(nodeWriter, "")}}
	if change != nil {
		change(r)
	}
	return r
}

func TestControllerTranslates(t *testing.T) {
	id, h := volume.NewID(), volume.Handle{Repository: home, Snapshot: volume.NewSnapshotID()}
	class := volume.Class{Backend: "local", Provisioning: volume.Thick, MaxSnapshotPause: time.Second}
	thin := class
	thin.Provisioning, thin.Pool, thin.MaxSnapshotPause = volume.Thin, "fast", time.Minute
	for name, c := range map[string]struct {
		call func(s *ControllerServer) (any, error)
		want any
	}{
		"create": {
			func(s *ControllerServer) (any, error) { return s.CreateVolume(t.Context(), creation(nil)) },
			controller.CreateVolumeRequest{Name: "pvc-1", MinimumBytes: 4 * mib, Class: class, Request: repository.Request{Parameters: map[string]string{}}},
		},
		"create with everything": {
			func(s *ControllerServer) (any, error) {
				return s.CreateVolume(t.Context(), creation(func(r *csi.CreateVolumeRequest) {
					r.VolumeCapabilities = append(r.VolumeCapabilities, mounted(nodeReader, "xfs", "noatime"), mounted(nodeSingle, "xfs"))
					r.CapacityRange = &csi.CapacityRange{RequiredBytes: 7, LimitBytes: 9 << 30}
					r.Parameters = map[string]string{"provisioning": "thin", "pool": "fast", "csi.storage.k8s.io/pvc/name": "data"}
					r.MutableParameters = map[string]string{"maxSnapshotPause": "1m"}
					r.Secrets = map[string]string{"a": "b"}
					r.VolumeContentSource = fromSnapshot(h.String())
					r.AccessibilityRequirements = &csi.TopologyRequirement{
						Requisite: []*csi.Topology{at("n3"), at("n1"), at("n2"), at("n1")}, Preferred: []*csi.Topology{at("n2"), at("n1"), at("n2")},
					}
				}))
			},
			controller.CreateVolumeRequest{
				Name: "pvc-1", MinimumBytes: 300 * mib, Class: thin, Secrets: volume.Secrets{"a": "b"},
				Request: repository.Request{
					Range: volume.Range{RequiredBytes: 7, LimitBytes: 9 << 30}, Source: repository.Source{Snapshot: h.String()},
					Parameters: map[string]string{"provisioning": "thin", "pool": "fast"}, Mutable: map[string]string{"maxSnapshotPause": "1m"},
				},
				Topology: controller.Topology{Requisite: []volume.NodeID{"n1", "n2", "n3"}, Preferred: []volume.NodeID{"n2", "n1"}},
			},
		},
		"create a block volume from a volume": {
			func(s *ControllerServer) (any, error) {
				return s.CreateVolume(t.Context(), creation(func(r *csi.CreateVolumeRequest) {
					r.VolumeCapabilities = []*csi.VolumeCapability{raw(nodeWriter), raw(nodeWriter)}
					r.VolumeContentSource = fromVolume(string(id))
				}))
			},
			controller.CreateVolumeRequest{Name: "pvc-1", MinimumBytes: mib, Class: class, Block: true, Request: repository.Request{Parameters: map[string]string{}, Source: repository.Source{Volume: id}}},
		},
		"delete": {
			func(s *ControllerServer) (any, error) {
				return s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: string(id)})
			},
			id,
		},
		"publish": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: string(id), NodeId: "n1", VolumeCapability: mounted(nodeSingle, "ext4"), VolumeContext: map[string]string{"storage.kubernetes.io/csiProvisionerIdentity": "x"}})
			},
			controller.PublishRequest{Volume: id, Publication: repository.Publication{Node: "n1", AccessMode: "SINGLE_NODE_SINGLE_WRITER"}},
		},
		"publish readonly": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: string(id), NodeId: "n1", VolumeCapability: raw(nodeWriter), Readonly: true})
			},
			controller.PublishRequest{Volume: id, Publication: repository.Publication{Node: "n1", ReadOnly: true, AccessMode: "SINGLE_NODE_WRITER"}},
		},
		"publish to readers": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: string(id), NodeId: "n1", VolumeCapability: raw(nodeReader)})
			},
			controller.PublishRequest{Volume: id, Publication: repository.Publication{Node: "n1", ReadOnly: true, AccessMode: "SINGLE_NODE_READER_ONLY"}},
		},
		"unpublish": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: string(id), NodeId: "n1"})
			},
			unpublished{id, "n1"},
		},
		"unpublish from all nodes": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: string(id)})
			},
			unpublished{id, ""},
		},
		"expand": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: string(id), CapacityRange: &csi.CapacityRange{LimitBytes: 5}})
			},
			expanded{id, volume.Range{LimitBytes: 5}},
		},
		"modify": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: string(id), MutableParameters: map[string]string{"provisioning": "thick", "maxSnapshotPause": "2s"}})
			},
			modified{id, volume.Thick, 2 * time.Second},
		},
		"health": {
			func(s *ControllerServer) (any, error) {
				return s.ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: string(id)})
			},
			id,
		},
		"capacity": {
			func(s *ControllerServer) (any, error) { return s.GetCapacity(t.Context(), &csi.GetCapacityRequest{}) },
			measured{class: class},
		},
		"capacity of a class on a node": {
			func(s *ControllerServer) (any, error) {
				return s.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: map[string]string{"provisioning": "thin", "pool": "fast", "maxSnapshotPause": "1m"}, AccessibleTopology: at("n2")})
			},
			measured{thin, controller.Topology{Requisite: []volume.NodeID{"n2"}}},
		},
		"capacity at a place that is not ours": {
			func(s *ControllerServer) (any, error) {
				return s.GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: &csi.Topology{Segments: map[string]string{"zone": "z1"}}})
			},
			measured{class, controller.Topology{Requisite: []volume.NodeID{}}},
		},
		"capacity anywhere": {
			func(s *ControllerServer) (any, error) {
				return s.GetCapacity(t.Context(), &csi.GetCapacityRequest{AccessibleTopology: &csi.Topology{}})
			},
			measured{class: class},
		},
		"snapshot": {
			func(s *ControllerServer) (any, error) {
				return s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "snap-1", SourceVolumeId: string(id), Parameters: map[string]string{"consistency": "crash"}, Secrets: map[string]string{"a": "b"}, AccessibilityRequirements: &csi.TopologyRequirement{Preferred: []*csi.Topology{at("n1")}}})
			},
			controller.CreateSnapshotRequest{Name: "snap-1", Volume: id, Consistency: volume.CrashConsistent, Secrets: volume.Secrets{"a": "b"}, Topology: controller.Topology{Preferred: []volume.NodeID{"n1"}}},
		},
		"delete a snapshot": {
			func(s *ControllerServer) (any, error) {
				return s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: h.String()})
			},
			h,
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeService{}
			if _, err := c.call(NewControllerServer(f)); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(f.asked, c.want) {
				t.Errorf("asked %#v, want %#v", f.asked, c.want)
			}
			f.err = fault.New(fault.Corrupt, "rot")
			if _, err := c.call(NewControllerServer(f)); !fault.Is(err, fault.Corrupt) {
				t.Errorf("got %v, want the service's error", err)
			}
		})
	}
}

func TestControllerReplies(t *testing.T) {
	f := &fakeService{capacity: backend.Capacity{AvailableBytes: 9, MaximumVolumeBytes: 5}}
	s := NewControllerServer(f)
	v := f.add(repository.Volume{Node: "n1", SizeBytes: 1 << 30, Publications: []repository.Publication{{Node: "n1"}}})
	created, err := s.CreateVolume(t.Context(), creation(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromVolume(string(v.ID)) }))
	want := &csi.Volume{VolumeId: string(v.ID), CapacityBytes: 1 << 30, ContentSource: fromVolume(string(v.ID)), AccessibleTopology: []*csi.Topology{at("n1")}}
	if err != nil || !proto.Equal(created.Volume, want) {
		t.Errorf("created %v, %v", created, err)
	}
	got, err := s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: string(v.ID)})
	if err != nil || got.Volume.VolumeId != string(v.ID) || !reflect.DeepEqual(got.Status.PublishedNodeIds, []string{"n1"}) {
		t.Errorf("got %v, %v", got, err)
	}
	for readonly, want := range map[bool]string{false: "false", true: "true"} {
		published, err := s.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: string(v.ID), NodeId: "n1", VolumeCapability: raw(nodeWriter), Readonly: readonly})
		if err != nil || published.PublishContext[PublishContextReadOnly] != want {
			t.Errorf("published %v, %v", published, err)
		}
	}
	for block, c := range map[bool]*csi.VolumeCapability{true: raw(nodeWriter), false: mounted(nodeWriter, "xfs")} {
		grown, err := s.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: string(v.ID), CapacityRange: &csi.CapacityRange{RequiredBytes: 1}, VolumeCapability: c})
		if err != nil || grown.NodeExpansionRequired == block || grown.CapacityBytes != 1<<30 {
			t.Errorf("grown %v, %v", grown, err)
		}
	}
	capacity, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{mounted(nodeWriter, "xfs")}})
	if err != nil || capacity.AvailableCapacity != 9 || capacity.MaximumVolumeSize.GetValue() != 5 || capacity.MinimumVolumeSize.GetValue() != 300*mib {
		t.Errorf("capacity %v, %v", capacity, err)
	}
	none := &csi.VolumeCapability{AccessType: &csi.VolumeCapability_Mount{}, AccessMode: &csi.VolumeCapability_AccessMode{}} // as the external-provisioner asks
	capacity, err = s.GetCapacity(t.Context(), &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{none}})
	if err != nil || capacity.AvailableCapacity != 9 || capacity.MinimumVolumeSize.GetValue() != mib {
		t.Errorf("capacity for no mode %v, %v", capacity, err)
	}
	f.asked = nil
	capacity, err = s.GetCapacity(t.Context(), &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{mounted(nodeShared, "xfs")}})
	if err != nil || capacity.AvailableCapacity != 0 || f.asked != nil {
		t.Errorf("capacity for what cannot be %v, %v", capacity, err)
	}
	snap := f.addSnapshot(repository.Snapshot{Volume: v.ID, Node: "n1", SizeBytes: 7, Group: volume.NewGroupID()})
	found, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: f.Handle(snap.ID).String()})
	if err != nil || found.Snapshot.SourceVolumeId != string(v.ID) || !found.Snapshot.ReadyToUse || !found.Snapshot.CreationTime.AsTime().Equal(cut) ||
		found.Snapshot.GroupSnapshotId != f.GroupHandle(snap.Group).String() || found.Snapshot.SizeBytes != 7 || !proto.Equal(found.Snapshot.AccessibleTopology[0], at("n1")) {
		t.Errorf("snapshot %v, %v", found, err)
	}
	capabilities, err := s.ControllerGetCapabilities(t.Context(), nil)
	if err != nil || len(capabilities.Capabilities) != len(controllerCapabilities) {
		t.Errorf("capabilities %v, %v", capabilities, err)
	}
}

// TestRetryWithAnotherFilesystem: a volume that is too small for the filesystem
// of the retry is not the one that is asked for.
func TestRetryWithAnotherFilesystem(t *testing.T) {
	f := &fakeService{}
	f.add(repository.Volume{SizeBytes: 4 * mib})
	_, err := NewControllerServer(f).CreateVolume(t.Context(), creation(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities[0] = mounted(nodeWriter, "xfs") }))
	if !fault.Is(err, fault.Exists) {
		t.Errorf("got %v, want exists", err)
	}
}

func TestControllerRefuses(t *testing.T) {
	id := string(volume.NewID())
	create := func(change func(*csi.CreateVolumeRequest)) func(*ControllerServer) error {
		return func(s *ControllerServer) error {
			_, err := s.CreateVolume(t.Context(), creation(change))
			return err
		}
	}
	capable := func(all ...*csi.VolumeCapability) func(*ControllerServer) error {
		return create(func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = all })
	}
	sized := func(required, limit int64) func(*ControllerServer) error {
		return create(func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: required, LimitBytes: limit}
		})
	}
	with := func(key, value string) func(*ControllerServer) error {
		return create(func(r *csi.CreateVolumeRequest) { r.Parameters = map[string]string{key: value} })
	}
	within := func(requisite, preferred []*csi.Topology) func(*ControllerServer) error {
		return create(func(r *csi.CreateVolumeRequest) {
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: requisite, Preferred: preferred}
		})
	}
	from := func(source *csi.VolumeContentSource) func(*ControllerServer) error {
		return create(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = source })
	}
	publish := func(id, node string, c *csi.VolumeCapability, context map[string]string) func(*ControllerServer) error {
		return func(s *ControllerServer) error {
			_, err := s.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: id, NodeId: node, VolumeCapability: c, VolumeContext: context})
			return err
		}
	}
	expand := func(id string, r *csi.CapacityRange, c *csi.VolumeCapability) func(*ControllerServer) error {
		return func(s *ControllerServer) error {
			_, err := s.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: id, CapacityRange: r, VolumeCapability: c})
			return err
		}
	}
	modify := func(id string, p map[string]string) func(*ControllerServer) error {
		return func(s *ControllerServer) error {
			_, err := s.ControllerModifyVolume(t.Context(), &csi.ControllerModifyVolumeRequest{VolumeId: id, MutableParameters: p})
			return err
		}
	}
	snapshot := func(name, id string, p map[string]string, t1 *csi.TopologyRequirement) func(*ControllerServer) error {
		return func(s *ControllerServer) error {
			_, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: id, Parameters: p, AccessibilityRequirements: t1})
			return err
		}
	}
	capacity := func(r *csi.GetCapacityRequest) func(*ControllerServer) error {
		return func(s *ControllerServer) error { _, err := s.GetCapacity(t.Context(), r); return err }
	}
	good := mounted(nodeWriter, "ext4")
	group := mounted(nodeWriter, "ext4")
	group.GetMount().VolumeMountGroup = "1000"
	sizes := &csi.CapacityRange{RequiredBytes: 1}
	for name, c := range map[string]struct {
		call func(*ControllerServer) error
		kind fault.Kind
		part string
	}{
		"create: no name":               {create(func(r *csi.CreateVolumeRequest) { r.Name = "" }), fault.Invalid, "name: empty"},
		"create: control character":     {create(func(r *csi.CreateVolumeRequest) { r.Name = "a\x1b" }), fault.Invalid, "U+001B"},
		"create: long name":             {create(func(r *csi.CreateVolumeRequest) { r.Name = strings.Repeat("x", 129) }), fault.Invalid, "at most 128"},
		"create: no capability":         {capable(), fault.Invalid, "volume_capabilities: none"},
		"create: nil capability":        {capable(nil), fault.Invalid, "volume_capabilities[0]"},
		"create: no mode":               {capable(good, mounted(0, "")), fault.Invalid, "volume_capabilities[1]: access_mode"},
		"create: no type":               {capable(&csi.VolumeCapability{AccessMode: good.AccessMode}), fault.Invalid, "block or mount"},
		"create: many nodes":            {capable(good, mounted(nodeShared, "")), fault.Invalid, "MULTI_NODE_MULTI_WRITER"},
		"create: unknown mode":          {capable(mounted(99, "")), fault.Invalid, "SINGLE_NODE"},
		"create: unknown fs":            {capable(mounted(nodeWriter, "ntfs")), fault.Invalid, `"ntfs": want "ext4"`},
		"create: mount group":           {capable(group), fault.Invalid, "volume_mount_group"},
		"create: mount flags":           {capable(mounted(nodeWriter, "ext4", "loop")), fault.Invalid, `"loop"`},
		"create: block and mount":       {capable(good, raw(nodeWriter)), fault.Invalid, "both block and mount"},
		"create: two filesystems":       {capable(good, mounted(nodeWriter, ""), mounted(nodeReader, "xfs")), fault.Invalid, "both ext4 and xfs"},
		"create: two after none":        {capable(mounted(nodeWriter, ""), good, mounted(nodeReader, "xfs")), fault.Invalid, "both ext4 and xfs"},
		"create: unknown parameter":     {with("speed", "high"), fault.Invalid, "parameter speed"},
		"create: encryption":            {with("encryption", "true"), fault.Invalid, "encryption"},
		"create: bad value":             {with("provisioning", "fat"), fault.Invalid, `"thick" or "thin"`},
		"create: bad mutable parameter": {create(func(r *csi.CreateVolumeRequest) { r.MutableParameters = map[string]string{"pool": "x"} }), fault.Invalid, "pool"},
		"create: size 0":                {sized(0, 0), fault.Invalid, "capacity_range"},
		"create: negative size":         {sized(-1, 0), fault.Invalid, "required_bytes: -1"},
		"create: negative limit":        {sized(0, -1), fault.Invalid, "limit_bytes: -1"},
		"create: limit below required":  {sized(2, 1), fault.Invalid, "limit_bytes: 1"},
		"create: no terms":              {within(nil, nil), fault.Invalid, "accessibility_requirements"},
		"create: preferred elsewhere":   {within([]*csi.Topology{at("n1")}, []*csi.Topology{at("n2")}), fault.Invalid, `"n2"`},
		"create: no source type":        {from(&csi.VolumeContentSource{}), fault.Invalid, "volume_content_source.type"},
		"create: empty snapshot":        {from(fromSnapshot("")), fault.Invalid, "snapshot_id"},
		"create: empty volume":          {from(fromVolume("")), fault.Invalid, "volume_id"},
		"create: impossible snapshot":   {from(fromSnapshot(impossible)), fault.NotFound, "snapshot_id"},
		"create: impossible volume":     {from(fromVolume(impossible)), fault.NotFound, "volume_id"},

		"publish: no id":           {publish("", "n1", good, nil), fault.Invalid, "volume_id"},
		"publish: no node":         {publish(impossible, "", good, nil), fault.Invalid, "node_id"},
		"publish: no capability":   {publish(impossible, impossible, nil, nil), fault.Invalid, "access_mode"},
		"publish: many nodes":      {publish(id, "n1", mounted(nodeShared, ""), nil), fault.Invalid, "SINGLE_NODE"},
		"publish: impossible id":   {publish(impossible, "n1", good, map[string]string{"x": "y"}), fault.NotFound, "volume"},
		"publish: impossible node": {publish(id, impossible, good, map[string]string{"x": "y"}), fault.NotFound, "node_id"},
		"publish: context":         {publish(id, "n1", good, map[string]string{"x": "y"}), fault.Invalid, "volume_context.x"},

		"expand: no id":         {expand("", sizes, nil), fault.Invalid, "volume_id"},
		"expand: no range":      {expand(impossible, nil, nil), fault.Invalid, "capacity_range"},
		"expand: size 0":        {expand(id, &csi.CapacityRange{}, nil), fault.Invalid, "capacity_range"},
		"expand: negative":      {expand(id, &csi.CapacityRange{RequiredBytes: -1}, nil), fault.Invalid, "required_bytes"},
		"expand: impossible id": {expand(impossible, sizes, nil), fault.NotFound, "volume"},
		"expand: many nodes":    {expand(id, sizes, mounted(nodeShared, "")), fault.Invalid, "SINGLE_NODE"},

		"modify: no id":         {modify("", map[string]string{"provisioning": "thick"}), fault.Invalid, "volume_id"},
		"modify: nothing":       {modify(impossible, nil), fault.Invalid, "mutable_parameters"},
		"modify: impossible id": {modify(impossible, map[string]string{"XXX": "x"}), fault.NotFound, "volume"},
		"modify: unknown":       {modify(id, map[string]string{"XXX": "x"}), fault.Invalid, "XXX"},

		"snapshot: no name":       {snapshot("", impossible, nil, nil), fault.Invalid, "name"},
		"snapshot: no volume":     {snapshot("a", "", nil, nil), fault.Invalid, "source_volume_id"},
		"snapshot: bad name":      {snapshot("a\x00", id, nil, nil), fault.Invalid, "U+0000"},
		"snapshot: impossible id": {snapshot("a", impossible, nil, nil), fault.NotFound, "source_volume_id"},
		"snapshot: parameter":     {snapshot("a", id, map[string]string{"x": "y"}, nil), fault.Invalid, "parameter x"},
		"snapshot: no terms":      {snapshot("a", id, nil, &csi.TopologyRequirement{}), fault.Invalid, "accessibility_requirements"},
		"capacity: no mode":       {capacity(&csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{{}}}), fault.Invalid, "access_mode"},
		"capacity: parameter":     {capacity(&csi.GetCapacityRequest{Parameters: map[string]string{"x": "y"}}), fault.Invalid, "parameter x"},
		"get: no id": {func(s *ControllerServer) error {
			_, err := s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{})
			return err
		}, fault.Invalid, "volume_id"},
		"get: impossible id": {func(s *ControllerServer) error {
			_, err := s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: impossible})
			return err
		}, fault.NotFound, "volume"},
		"delete: no id": {func(s *ControllerServer) error {
			_, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{})
			return err
		}, fault.Invalid, "volume_id"},
		"unpublish: no id": {func(s *ControllerServer) error {
			_, err := s.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{})
			return err
		}, fault.Invalid, "volume_id"},
		"delete snapshot: no id": {func(s *ControllerServer) error {
			_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{})
			return err
		}, fault.Invalid, "snapshot_id"},
		"get snapshot: no id": {func(s *ControllerServer) error {
			_, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{})
			return err
		}, fault.Invalid, "snapshot_id"},
		"get snapshot: impossible": {func(s *ControllerServer) error {
			_, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: impossible})
			return err
		}, fault.NotFound, "snapshot_id"},
		"health: no id": {func(s *ControllerServer) error {
			_, err := s.ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{})
			return err
		}, fault.Invalid, "volume_id"},
		"health: impossible id": {func(s *ControllerServer) error {
			_, err := s.ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: impossible})
			return err
		}, fault.NotFound, "volume"},
		"volumes: negative": {func(s *ControllerServer) error {
			_, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: -1})
			return err
		}, fault.Invalid, "max_entries: -1"},
		"volumes: token": {func(s *ControllerServer) error {
			_, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{StartingToken: "invalid-token"})
			return err
		}, fault.Busy, "starting_token"},
		"snapshots: negative": {func(s *ControllerServer) error {
			_, err := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: -1})
			return err
		}, fault.Invalid, "max_entries"},
		"snapshots: a volume's token": {func(s *ControllerServer) error {
			_, err := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: id})
			return err
		}, fault.Busy, "starting_token"},
		"list health: negative": {func(s *ControllerServer) error {
			_, err := s.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{MaxEntries: -1})
			return err
		}, fault.Invalid, "max_entries"},
		"list health: token": {func(s *ControllerServer) error {
			_, err := s.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{StartingToken: "0"})
			return err
		}, fault.Busy, "starting_token"},
	} {
		t.Run(name, func(t *testing.T) {
			f := &fakeService{}
			err := c.call(NewControllerServer(f))
			if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.part) {
				t.Errorf("got %v (%v), want %v with %q", err, fault.KindOf(err), c.kind, c.part)
			}
			if f.asked != nil {
				t.Errorf("the service was asked %#v", f.asked)
			}
		})
	}
}

// TestDeletingWhatIsNotThere: an id that Holkas cannot have made, and one that
// the service does not know.
func TestDeletingWhatIsNotThere(t *testing.T) {
	for name, call := range map[string]func(s *ControllerServer, id string) error{
		"volume": func(s *ControllerServer, id string) error {
			_, err := s.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: id})
			return err
		},
		"snapshot": func(s *ControllerServer, id string) error {
			_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: id})
			return err
		},
		"publication": func(s *ControllerServer, id string) error {
			_, err := s.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: id, NodeId: "n1"})
			return err
		},
		"publication to a node": func(s *ControllerServer, id string) error {
			_, err := s.ControllerUnpublishVolume(t.Context(), &csi.ControllerUnpublishVolumeRequest{VolumeId: string(volume.NewID()), NodeId: id})
			return err
		},
	} {
		f := &fakeService{}
		if err := call(NewControllerServer(f), impossible); err != nil || f.asked != nil {
			t.Errorf("%s: got %v, asked %v, want success", name, err, f.asked)
		}
		f.err = fault.New(fault.NotFound, "none such")
		for _, id := range []string{string(volume.NewID()), f.Handle(volume.NewSnapshotID()).String()} {
			if err := call(NewControllerServer(f), id); err != nil {
				t.Errorf("%s: got %v, want success", name, err)
			}
		}
	}
}

func TestValidate(t *testing.T) {
	f := &fakeService{}
	v := f.add(repository.Volume{SizeBytes: 10 * mib, Class: volume.Class{Backend: "local", Provisioning: volume.Thick, Pool: "fast", MaxSnapshotPause: time.Minute}})
	good := mounted(nodeWriter, "ext4")
	for name, c := range map[string]struct {
		request *csi.ValidateVolumeCapabilitiesRequest
		part    string // of the message; empty: confirmed
	}{
		"as created":          {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good, mounted(nodeReader, "")}}, ""},
		"with its parameters": {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good}, Parameters: map[string]string{"pool": "fast", "provisioning": "thin"}, MutableParameters: map[string]string{"provisioning": "thick", "maxSnapshotPause": "60s"}, VolumeContext: map[string]string{"csi.storage.k8s.io/pvc/name": "x"}}, ""},
		"one not supported":   {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good, mounted(nodeShared, "ext4")}}, "volume_capabilities[1]: volume_capability.access_mode: MULTI_NODE_MULTI_WRITER"},
		"a later mode":        {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{raw(77)}}, "access_mode: 77"},
		"unknown fs":          {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{mounted(nodeWriter, "zfs")}}, "zfs"},
		"too small for it":    {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{mounted(nodeWriter, "xfs")}}, "needs 314572800"},
		"context":             {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good}, VolumeContext: map[string]string{"a": "b"}}, "volume_context.a"},
		"unknown parameter":   {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good}, Parameters: map[string]string{"a": "b"}}, "parameter a"},
		"another pool":        {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good}, Parameters: map[string]string{"pool": "slow"}}, `has "fast"`},
		"another pool type":   {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good}, Parameters: map[string]string{"poolType": "xfs"}}, "poolType"},
		"another provision":   {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good}, MutableParameters: map[string]string{"provisioning": "thin"}}, "provisioning"},
		"another pause":       {&csi.ValidateVolumeCapabilitiesRequest{VolumeCapabilities: []*csi.VolumeCapability{good}, MutableParameters: map[string]string{"maxSnapshotPause": "1s"}}, "maxSnapshotPause"},
	} {
		c.request.VolumeId = string(v.ID)
		got, err := NewControllerServer(f).ValidateVolumeCapabilities(t.Context(), c.request)
		switch {
		case err != nil:
			t.Errorf("%s: %v", name, err)
		case c.part == "" && (got.Message != "" || len(got.Confirmed.GetVolumeCapabilities()) != len(c.request.VolumeCapabilities)):
			t.Errorf("%s: got %v, want it confirmed", name, got)
		case c.part != "" && (got.Confirmed != nil || !strings.Contains(got.Message, c.part)):
			t.Errorf("%s: got %v, want a message with %q", name, got, c.part)
		}
	}
	for name, c := range map[string]struct {
		id   string
		caps []*csi.VolumeCapability
		kind fault.Kind
	}{
		"no id":           {"", []*csi.VolumeCapability{good}, fault.Invalid},
		"no capabilities": {string(v.ID), nil, fault.Invalid},
		"no mode":         {string(v.ID), []*csi.VolumeCapability{{}}, fault.Invalid},
		"impossible id":   {impossible, []*csi.VolumeCapability{good}, fault.NotFound},
		"unknown id":      {string(volume.NewID()), []*csi.VolumeCapability{mounted(nodeShared, "")}, fault.NotFound},
	} {
		_, err := NewControllerServer(f).ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{VolumeId: c.id, VolumeCapabilities: c.caps})
		if !fault.Is(err, c.kind) {
			t.Errorf("%s: got %v, want %v", name, err, c.kind)
		}
	}
}

func TestTopology(t *testing.T) {
	zone := &csi.Topology{Segments: map[string]string{"zone": "z"}}
	both := &csi.Topology{Segments: map[string]string{"zone": "z", TopologyKey: "n1"}}
	anywhere := &csi.Topology{}
	for name, c := range map[string]struct {
		requisite, preferred []*csi.Topology
		want                 controller.Topology
	}{
		"in any order":           {[]*csi.Topology{at("b"), at("a")}, []*csi.Topology{at("b"), at("a")}, controller.Topology{Requisite: []volume.NodeID{"a", "b"}, Preferred: []volume.NodeID{"b", "a"}}},
		"preferred only":         {nil, []*csi.Topology{at("b"), zone}, controller.Topology{Preferred: []volume.NodeID{"b"}}},
		"no node has this":       {[]*csi.Topology{zone, both, at("?")}, []*csi.Topology{zone}, controller.Topology{Requisite: []volume.NodeID{}}},
		"one of several is ours": {[]*csi.Topology{zone, at("a")}, nil, controller.Topology{Requisite: []volume.NodeID{"a"}}},
		"no segments":            {[]*csi.Topology{at("a"), anywhere}, []*csi.Topology{anywhere}, controller.Topology{}},
	} {
		got, err := topologyOf(&csi.TopologyRequirement{Requisite: c.requisite, Preferred: c.preferred})
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: got %#v, %v, want %#v", name, got, err, c.want)
		}
	}
}
