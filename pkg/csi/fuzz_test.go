package csi

import (
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/controller"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/node"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// FuzzRequests sends whole requests of every method through the interceptor and
// the handlers, to services that refuse nothing. Whatever the bytes say, the
// call succeeds or the caller is told what is wrong with its request, and the
// services are asked only for what they may be asked for.
func FuzzRequests(f *testing.F) {
	all := methods()
	for i, d := range all {
		full := message(f, d.Input())
		populate(full.ProtoReflect(), false)
		for _, m := range []proto.Message{message(f, d.Input()), full} {
			b, err := proto.Marshal(m)
			if err != nil {
				f.Fatal(err)
			}
			f.Add(uint8(i), b)
		}
	}
	for _, r := range []*csi.CreateVolumeRequest{
		creation(func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = fromVolume(string(volume.NewID())) }),
		creation(func(r *csi.CreateVolumeRequest) {
			r.CapacityRange = &csi.CapacityRange{RequiredBytes: 1<<63 - 1}
			r.AccessibilityRequirements = &csi.TopologyRequirement{Requisite: []*csi.Topology{at("n1"), {}}, Preferred: []*csi.Topology{at("n1")}}
		}),
	} {
		b, err := proto.Marshal(r)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(slices.IndexFunc(all, func(d protoreflect.MethodDescriptor) bool { return d.Name() == "CreateVolume" })), b)
	}
	o, err := newObserver(klog.Background(), nil)
	if err != nil {
		f.Fatal(err)
	}
	refusals := []codes.Code{codes.OK, codes.InvalidArgument, codes.NotFound, codes.AlreadyExists, codes.Aborted, codes.OutOfRange, codes.FailedPrecondition}
	f.Fuzz(func(t *testing.T, method uint8, body []byte) {
		d := all[int(method)%len(all)]
		m := message(t, d.Input())
		if proto.Unmarshal(body, m) != nil {
			return
		}
		s, n := &fakeService{sizeBytes: 8, extents: extents(nil, nil)}, &fakeNode{}
		s.add(repository.Volume{Node: "n1", SizeBytes: 4 << 20})
		s.addSnapshot(repository.Snapshot{Volume: volume.NewID(), Node: "n1"})
		_, err := dispatch(t.Context(), o, s, n, d, m)
		if !slices.Contains(refusals, status.Code(err)) {
			t.Errorf("%s %v: %v", d.Name(), m, err)
		}
		checkAsked(t, s.asked)
		checkAsked(t, n.asked)
	})
}

// checkAsked sees that a service is asked only for what its types allow.
func checkAsked(t *testing.T, asked any) {
	switch r := asked.(type) {
	case controller.CreateVolumeRequest:
		checkTopology(t, r.Topology)
		if checkName(r.Name) != nil || r.MinimumBytes < volume.MinimumBytes || r.Request.Range.Validate() != nil || r.Class.Backend == "" || r.Request.ReadOnly && (!r.Class.Shared() || r.Request.Source == (repository.Source{})) {
			t.Errorf("asked %+v", r)
		}
		if s := r.Request.Source; s.Snapshot != "" {
			if _, err := volume.ParseHandle(s.Snapshot); err != nil || s.Volume != "" {
				t.Errorf("asked %+v", r)
			}
		} else if s.Volume != "" {
			checkID(t, s.Volume)
		}
	case controller.CreateSnapshotRequest:
		checkID(t, r.Volume)
		checkTopology(t, r.Topology)
		if checkName(r.Name) != nil || r.Consistency == "" {
			t.Errorf("asked %+v", r)
		}
	case controller.CreateGroupRequest:
		if checkName(r.Name) != nil || r.Consistency == "" || len(r.Volumes) == 0 {
			t.Errorf("asked %+v", r)
		}
		for i, id := range r.Volumes {
			if checkID(t, id); slices.Contains(r.Volumes[:i], id) {
				t.Errorf("asked %+v", r)
			}
		}
	case controller.PublishRequest:
		checkID(t, r.Volume)
		checkNode(t, r.Node)
		if !strings.HasPrefix(r.AccessMode, "SINGLE_NODE_") && (r.AccessMode != repository.MultiNodeReaderOnly || !r.ReadOnly) {
			t.Errorf("asked %+v", r)
		}
	case unpublished:
		checkID(t, r.id)
		if r.node != "" {
			checkNode(t, r.node)
		}
	case expanded:
		checkID(t, r.id)
		if r.r.Validate() != nil || r.r == (volume.Range{}) {
			t.Errorf("asked %+v", r)
		}
	case modified:
		checkID(t, r.id)
	case measured:
		checkTopology(t, r.topology)
	case volume.ID:
		checkID(t, r)
	case node.StageRequest:
		checkID(t, r.ID)
	case node.PublishRequest:
		checkID(t, r.ID)
	}
}

func checkID(t *testing.T, id volume.ID) {
	if _, err := volume.ParseID(string(id)); err != nil {
		t.Errorf("asked for %v", err)
	}
}

func checkNode(t *testing.T, n volume.NodeID) {
	if _, err := volume.ParseNodeID(string(n)); err != nil {
		t.Errorf("asked for %v", err)
	}
}

func checkTopology(t *testing.T, topology controller.Topology) {
	for _, n := range slices.Concat(topology.Requisite, topology.Preferred) {
		checkNode(t, n)
	}
	for _, n := range topology.Preferred {
		if topology.Requisite != nil && !slices.Contains(topology.Requisite, n) {
			t.Errorf("asked for %+v", topology)
		}
	}
}

// FuzzTokens: a token is nothing, an id of its list, or Aborted.
func FuzzTokens(f *testing.F) {
	for _, s := range []string{"", "invalid-token", "0", string(volume.NewID()), string(volume.NewSnapshotID()), impossible} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, token string) {
		id, err := following(token, volume.ParseID)
		if err == nil && string(id) != token || err != nil && (!fault.Is(err, fault.Busy) || id != "" || token == "") {
			t.Errorf("%q: %q, %v", token, id, err)
		}
	})
}

// FuzzCapabilities: the order of the capabilities means nothing.
func FuzzCapabilities(f *testing.F) {
	f.Add(int32(1), "ext4", "noatime", int32(7), "xfs", "", false)
	f.Add(int32(2), "", "", int32(99), "btrfs", "loop", true)
	f.Fuzz(func(t *testing.T, mode1 int32, fs1, flag1 string, mode2 int32, fs2, flag2 string, block bool) {
		a, b := mounted(mode(mode1), fs1, flag1), mounted(mode(mode2), fs2, flag2)
		if block {
			b = raw(mode(mode2))
		}
		forth, err1 := demandsOf([]*csi.VolumeCapability{a, b})
		back, err2 := demandsOf([]*csi.VolumeCapability{b, a})
		if (err1 == nil) != (err2 == nil) || (forth.unsupported == nil) != (back.unsupported == nil) || forth.readers != back.readers || forth.readersAlone != back.readersAlone || err1 == nil && forth.unsupported == nil && forth.minimumBytes != back.minimumBytes {
			t.Errorf("%v, %v: %+v %v, and in the other order %+v %v", a, b, forth, err1, back, err2)
		}
		for _, err := range []error{err1, forth.unsupported} {
			if err != nil && !fault.Is(err, fault.Invalid) {
				t.Errorf("%v is not invalid", err)
			}
		}
	})
}

// FuzzTopology: the order of the requisite terms means nothing.
func FuzzTopology(f *testing.F) {
	f.Add("n1", TopologyKey, "n2", TopologyKey, "n1")
	f.Add("", "zone", "z", "", "n2")
	f.Fuzz(func(t *testing.T, node1, key1, value2, key2, preferred string) {
		terms := []*csi.Topology{{Segments: map[string]string{key1: node1}}, {Segments: map[string]string{key2: value2}}}
		prefer := []*csi.Topology{at(preferred)}
		forth, err1 := topologyOf(&csi.TopologyRequirement{Requisite: terms, Preferred: prefer})
		slices.Reverse(terms)
		back, err2 := topologyOf(&csi.TopologyRequirement{Requisite: terms, Preferred: prefer})
		if (err1 == nil) != (err2 == nil) || !slices.Equal(forth.Requisite, back.Requisite) || forth.Requisite == nil {
			t.Errorf("%v: %+v, %v, and in the other order %+v, %v", terms, forth, err1, back, err2)
		}
		if err1 == nil {
			checkTopology(t, forth)
		}
	})
}

// FuzzEndpoint: an endpoint that is taken is a clean absolute path of a length
// that the kernel takes.
func FuzzEndpoint(f *testing.F) {
	for _, s := range []string{"", "unix:///csi/csi.sock", "unix:///", "unix:///a/../b", "tcp://1.2.3.4:5"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, endpoint string) {
		path, err := socketPath(endpoint)
		if err == nil && ("unix://"+path != endpoint || len(hiddenPath(path)) > maxSocketBytes) || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: %q, %v", endpoint, path, err)
		}
	})
}
