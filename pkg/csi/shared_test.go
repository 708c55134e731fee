package csi

import (
	"math"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

var object = volume.Class{Backend: volume.BackendObject}.WithDefaults()

// objects is a request for a volume of the object backend, with a change.
func objects(change func(*csi.CreateVolumeRequest)) *csi.CreateVolumeRequest {
	return creation(func(r *csi.CreateVolumeRequest) {
		r.Parameters = map[string]string{"backend": "object"}
		if change != nil {
			change(r)
		}
	})
}

// TestReadersOfManyNodes: what they ask for, of what class, and what becomes of it.
func TestReadersOfManyNodes(t *testing.T) {
	snapshot := fromSnapshot(volume.Handle{Repository: home, Snapshot: volume.NewSnapshotID()}.String())
	readers := mounted(manyReaders, "ext4")
	for name, c := range map[string]struct {
		request  *csi.CreateVolumeRequest
		readOnly bool
		part     string // of the refusal
	}{
		"alone": {objects(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities, r.VolumeContentSource = []*csi.VolumeCapability{readers, readers}, snapshot
		}), true, ""},
		"alone, block": {objects(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities, r.VolumeContentSource = []*csi.VolumeCapability{raw(manyReaders)}, snapshot
		}), true, ""},
		"beside a writer": {objects(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = append(r.VolumeCapabilities, readers)
		}), false, ""},
		"of a blank volume": {objects(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = []*csi.VolumeCapability{readers}
		}), false, "volume_content_source: none"},
		"of a local volume": {creation(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities, r.VolumeContentSource = []*csi.VolumeCapability{readers}, snapshot
		}), false, `MULTI_NODE_READER_ONLY: a volume with backend "local"`},
		"beside writers on many nodes": {objects(func(r *csi.CreateVolumeRequest) {
			r.VolumeCapabilities = append(r.VolumeCapabilities, mounted(nodeShared, ""))
		}), false, "MULTI_NODE_MULTI_WRITER"},
	} {
		f := &fakeService{}
		_, err := NewControllerServer(f).CreateVolume(t.Context(), c.request)
		if c.part != "" {
			if !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.part) || f.asked != nil {
				t.Errorf("%s: got %v, asked %v; want invalid with %q", name, err, f.asked, c.part)
			}
			continue
		}
		if asked, _ := f.asked.(controller.CreateVolumeRequest); err != nil || asked.Request.ReadOnly != c.readOnly || asked.Class != object {
			t.Errorf("%s: asked %+v, %v; want read-only %t", name, asked, err, c.readOnly)
		}
	}
}

// TestKeysOfEncryptedVolumes: without one nothing is begun, and none is told of.
func TestKeysOfEncryptedVolumes(t *testing.T) {
	for _, secrets := range []map[string]string{nil, {"encryptionKey": ""}, {"key": "hunter2"}, {"encryptionKey": "hunter2"}} {
		f := &fakeService{}
		_, err := NewControllerServer(f).CreateVolume(t.Context(), objects(func(r *csi.CreateVolumeRequest) {
			r.Parameters["encryption"], r.Secrets = "aes-256-gcm", secrets
		}))
		switch asked, _ := f.asked.(controller.CreateVolumeRequest); {
		case secrets["encryptionKey"] != "":
			if err != nil || asked.Secrets["encryptionKey"] != "hunter2" {
				t.Errorf("with the key: %v, want it passed on", err)
			}
		case !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), "secrets.encryptionKey") || strings.Contains(err.Error(), "hunter2") || f.asked != nil:
			t.Errorf("without the key: %v, asked %v; want invalid", err, f.asked)
		}
	}
}

// TestRepliesOfSharedVolumes: no topology, whatever node the record remembers; and
// what a volume is published as is what is stored.
func TestRepliesOfSharedVolumes(t *testing.T) {
	f := &fakeService{capacity: backend.Capacity{AvailableBytes: math.MaxInt64, MaximumVolumeBytes: 64 << 40}}
	s := NewControllerServer(f)
	v := f.add(repository.Volume{Node: "n1", SizeBytes: 1 << 30, Class: object, Request: repository.Request{ReadOnly: true}})
	snapshot := f.addSnapshot(repository.Snapshot{Volume: v.ID, Node: "n1", Class: object})
	got, err := s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: string(v.ID)})
	if err != nil || got.Volume.AccessibleTopology != nil {
		t.Errorf("volume %v, %v; want no topology", got, err)
	}
	all, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	if err != nil || len(all.Entries) != 1 || all.Entries[0].Volume.AccessibleTopology != nil {
		t.Errorf("volumes %v, %v; want no topology", all, err)
	}
	found, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: f.Handle(snapshot.ID).String()})
	if err != nil || found.Snapshot.AccessibleTopology != nil {
		t.Errorf("snapshot %v, %v; want no topology", found, err)
	}
	published, err := s.ControllerPublishVolume(t.Context(), &csi.ControllerPublishVolumeRequest{VolumeId: string(v.ID), NodeId: "n2", VolumeCapability: raw(nodeWriter)})
	if err != nil || published.PublishContext[PublishContextReadOnly] != "true" {
		t.Errorf("published %v, %v; want it read-only, as it is stored", published, err)
	}
	for _, c := range []*csi.VolumeCapability{mounted(nodeWriter, "xfs"), mounted(manyReaders, "xfs")} {
		capacity, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{
			Parameters: map[string]string{"backend": "object"}, VolumeCapabilities: []*csi.VolumeCapability{c}, AccessibleTopology: at("n9"),
		})
		if err != nil || capacity.AvailableCapacity != math.MaxInt64 || capacity.MaximumVolumeSize.GetValue() != 64<<40 {
			t.Errorf("capacity %v, %v", capacity, err)
		}
	}
	f.asked = nil
	capacity, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{VolumeCapabilities: []*csi.VolumeCapability{mounted(manyReaders, "xfs")}})
	if err != nil || capacity.AvailableCapacity != 0 || f.asked != nil {
		t.Errorf("capacity for readers of a local volume %v, %v; want none", capacity, err)
	}
}

func TestValidateShared(t *testing.T) {
	f := &fakeService{}
	class := object
	class.CacheBytes, class.Encryption, class.Repository = volume.CacheFull, volume.AES256GCM, home
	v := f.add(repository.Volume{SizeBytes: 1 << 30, Class: class})
	readers := f.add(repository.Volume{SizeBytes: 1 << 30, Class: class, Request: repository.Request{ReadOnly: true}})
	local := f.add(repository.Volume{SizeBytes: 1 << 30, Class: volume.Class{Backend: volume.BackendLocal}.WithDefaults()})
	aes := func(more ...string) map[string]string {
		p := map[string]string{"backend": "object", "encryption": "aes-256-gcm"}
		for i := 0; i < len(more); i += 2 {
			p[more[i]] = more[i+1]
		}
		return p
	}
	for name, c := range map[string]struct {
		id             volume.ID
		mode           mode
		fixed, mutable map[string]string
		part           string // of the message; empty: confirmed
	}{
		"a writer":                     {v.ID, nodeWriter, nil, nil, ""},
		"readers":                      {v.ID, manyReaders, nil, nil, ""},
		"its parameters":               {v.ID, nodeWriter, aes("uploadDelay", "1m", "repository", string(home)), nil, ""},
		"what it was changed to":       {v.ID, nodeWriter, aes(), map[string]string{"cacheSize": "full", "durability": "journal"}, ""},
		"changes alone":                {v.ID, nodeWriter, nil, map[string]string{"cacheSize": "1Gi"}, `cacheSize: the volume has "full", and "1073741824" is asked for`},
		"what it was not changed to":   {v.ID, nodeWriter, aes(), map[string]string{"uploadDelay": "1m"}, `uploadDelay: the volume has "5s"`},
		"no encryption":                {v.ID, nodeWriter, map[string]string{"backend": "object"}, nil, `encryption: the volume has "aes-256-gcm"`},
		"another repository":           {v.ID, nodeWriter, aes("repository", string(volume.NewRepositoryID())), nil, "parameter repository"},
		"another backend":              {v.ID, nodeWriter, map[string]string{"pool": "fast"}, nil, `backend: the volume has "object"`},
		"readers of one for them":      {readers.ID, manyReaders, nil, nil, ""},
		"a writer of one for readers":  {readers.ID, nodeWriter, nil, nil, "MULTI_NODE_READER_ONLY alone"},
		"readers of a local volume":    {local.ID, manyReaders, nil, nil, `backend "local"`},
		"a local volume as any of all": {local.ID, nodeWriter, nil, map[string]string{"provisioning": "thick"}, ""},
	} {
		got, err := NewControllerServer(f).ValidateVolumeCapabilities(t.Context(), &csi.ValidateVolumeCapabilitiesRequest{
			VolumeId: string(c.id), VolumeCapabilities: []*csi.VolumeCapability{mounted(c.mode, "")}, Parameters: c.fixed, MutableParameters: c.mutable,
		})
		if err != nil || (c.part == "") != (got.Confirmed != nil) || !strings.Contains(got.GetMessage(), c.part) {
			t.Errorf("%s: got %v, %v; want %q", name, got, err, c.part)
		}
	}
}

// TestKeysOfSnapshots: a key that is given for a snapshot is looked at.
func TestKeysOfSnapshots(t *testing.T) {
	f := &fakeService{}
	s := NewControllerServer(f)
	id := f.Handle(f.addSnapshot(repository.Snapshot{Volume: volume.NewID(), Class: object}).ID).String()
	for key, want := range map[string]fault.Kind{"right": 0, "wrong": fault.Precondition} {
		secrets := map[string]string{"encryptionKey": key}
		_, get := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: id, Secrets: secrets})
		_, list := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{SnapshotId: id, Secrets: secrets})
		for name, err := range map[string]error{"get": get, "list": list} {
			if (err == nil) != (want == 0) || err != nil && !fault.Is(err, want) {
				t.Errorf("%s with the %s key: %v", name, key, err)
			}
		}
		if _, err := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{Secrets: secrets}); err != nil {
			t.Errorf("list all with the %s key: %v, want all of them", key, err)
		}
	}
}
