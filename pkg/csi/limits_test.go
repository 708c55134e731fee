package csi

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/proto"

	"github.com/holkas-io/holkas/pkg/fault"
)

func TestSizesAreLimited(t *testing.T) {
	long, full := strings.Repeat("x", 129), map[string]string{"k": strings.Repeat("x", 4095)}
	over := map[string]string{"k": strings.Repeat("x", 2047), "l": strings.Repeat("x", 2048)}
	for name, c := range map[string]struct {
		request proto.Message
		part    string // of the fault; empty: none
	}{
		"exactly":                {&csi.CreateVolumeRequest{Name: long[1:], Parameters: full, Secrets: full}, ""},
		"name":                   {&csi.CreateVolumeRequest{Name: long}, "name: it has 129 bytes"},
		"parameters":             {&csi.CreateVolumeRequest{Parameters: over}, "parameters: it has 4097 bytes"},
		"mutable parameters":     {&csi.ControllerModifyVolumeRequest{MutableParameters: over}, "mutable_parameters"},
		"secrets":                {&csi.DeleteVolumeRequest{Secrets: over}, "secrets"},
		"volume context":         {&csi.NodePublishVolumeRequest{VolumeContext: over}, "volume_context"},
		"publish context":        {&csi.NodeStageVolumeRequest{PublishContext: over}, "publish_context"},
		"the second capability":  {&csi.CreateVolumeRequest{VolumeCapabilities: []*csi.VolumeCapability{raw(nodeWriter), mounted(nodeWriter, long)}}, "volume_capabilities[1].mount.fs_type"},
		"mount flags":            {&csi.NodeStageVolumeRequest{VolumeCapability: mounted(nodeWriter, "", full["k"], "ab")}, "volume_capability.mount.mount_flags"},
		"long mount flags":       {&csi.NodeStageVolumeRequest{VolumeCapability: mounted(nodeWriter, "", full["k"])}, ""},
		"topology":               {&csi.CreateVolumeRequest{AccessibilityRequirements: &csi.TopologyRequirement{Requisite: []*csi.Topology{{Segments: over}}}}, "accessibility_requirements.requisite[0].segments"},
		"a path has no limit":    {&csi.NodeStageVolumeRequest{StagingTargetPath: strings.Repeat("/x", 2000)}, ""},
		"a long id is not there": {&csi.DeleteVolumeRequest{VolumeId: long}, ""},
		"nor are these":          {&csi.CreateVolumeGroupSnapshotRequest{SourceVolumeIds: []string{strings.Repeat("x", 5000)}}, ""},
		"a token is wrong":       {&csi.ListVolumesRequest{StartingToken: long}, ""},
	} {
		err := checkSizes(c.request)
		if (c.part == "") != (err == nil) || err != nil && (!fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.part) || len(err.Error()) > 200) {
			t.Errorf("%s: got %v, want %q", name, err, c.part)
		}
	}
}

func TestNames(t *testing.T) {
	for name, good := range map[string]bool{
		"pvc-1": true, "tab\tline\nreturn\r": true, "ὁλκάς": true, strings.Repeat("x", 128): true, "\u00a0": true,
		"": false, "bell\a": false, "nul\x00": false, "\v": false, "\x1f": false, "\x7f": false, "\u0080": false, "\u009f": false,
		"\xff": false, strings.Repeat("x", 129): false, strings.Repeat("ὁ", 43): false,
	} {
		if err := checkName(name); good != (err == nil) || err != nil && !fault.Is(err, fault.Invalid) {
			t.Errorf("%q: got %v, want accepted %t", name, err, good)
		}
	}
}
