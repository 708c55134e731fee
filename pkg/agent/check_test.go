package agent

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// reader reads one kind of request, and returns what it read.
type reader struct {
	name   string
	empty  proto.Message
	decode func(proto.Message) ([]any, error)
}

var decoders = []reader{
	{"create", &agentpb.CreateVolumeRequest{}, decoder(func(p *agentpb.CreateVolumeRequest) ([]any, error) {
		r, err := decodeCreateVolume(p)
		return []any{r}, err
	})},
	{"expand", &agentpb.ExpandVolumeRequest{}, decoder(func(p *agentpb.ExpandVolumeRequest) ([]any, error) {
		id, n, err := decodeExpandVolume(p)
		return []any{id, n}, err
	})},
	{"modify", &agentpb.ModifyVolumeRequest{}, decoder(func(p *agentpb.ModifyVolumeRequest) ([]any, error) {
		id, m, err := decodeModifyVolume(p)
		return []any{id, m}, err
	})},
	{"record", &agentpb.RecordFilesystemRequest{}, decoder(func(p *agentpb.RecordFilesystemRequest) ([]any, error) {
		id, f, err := decodeRecordFilesystem(p)
		return []any{id, f}, err
	})},
	{"cut", &agentpb.CreateSnapshotRequest{}, decoder(func(p *agentpb.CreateSnapshotRequest) ([]any, error) {
		r, err := decodeCreateSnapshot(p)
		return []any{r}, err
	})},
	{"pause", &agentpb.PauseRequest{}, decoder(func(p *agentpb.PauseRequest) ([]any, error) {
		id, v, err := decodePause(p)
		return []any{id, v}, err
	})},
	{"resume", &agentpb.ResumeRequest{}, decoder(func(p *agentpb.ResumeRequest) ([]any, error) {
		id, err := decodeResume(p)
		return []any{id}, err
	})},
	{"attach", &agentpb.AttachRequest{}, decoder(func(p *agentpb.AttachRequest) ([]any, error) {
		r, err := decodeAttach(p)
		return []any{r}, err
	})},
	{"volume", &agentpb.VolumeRequest{}, decoder(func(p *agentpb.VolumeRequest) ([]any, error) {
		id, err := decodeVolume(p)
		return []any{id}, err
	})},
	{"snapshot", &agentpb.SnapshotRequest{}, decoder(func(p *agentpb.SnapshotRequest) ([]any, error) {
		id, err := decodeSnapshot(p)
		return []any{id}, err
	})},
	{"allocated", &agentpb.AllocatedRequest{}, decoder(func(p *agentpb.AllocatedRequest) ([]any, error) {
		id, n, err := decodeAllocated(p)
		return []any{id, n}, err
	})},
	{"delta", &agentpb.DeltaRequest{}, decoder(func(p *agentpb.DeltaRequest) ([]any, error) {
		base, target, n, err := decodeDelta(p)
		return []any{base, target, n}, err
	})},
	{"class", &agentpb.Class{}, decoder(func(p *agentpb.Class) ([]any, error) {
		c, err := decodeClass(p)
		return []any{c}, err
	})},
}

func decoder[M proto.Message](decode func(M) ([]any, error)) func(proto.Message) ([]any, error) {
	return func(m proto.Message) ([]any, error) { return decode(m.(M)) }
}

// TestBadRequests changes one thing of a good request at a time: it is Invalid
// and names the field.
func TestBadRequests(t *testing.T) {
	id, sid := string(anyVolume.ID), string(anySnapshot.ID)
	class := func(change func(*agentpb.Class)) *agentpb.CreateVolumeRequest {
		c := encodeClass(anyClass)
		change(c)
		return &agentpb.CreateVolumeRequest{Id: id, SizeBytes: 1 << 20, Class: c}
	}
	create := func(change func(*agentpb.CreateVolumeRequest)) *agentpb.CreateVolumeRequest {
		r := &agentpb.CreateVolumeRequest{Id: id, SizeBytes: 1 << 20}
		change(r)
		return r
	}
	pause := func(d *durationpb.Duration) *agentpb.ModifyVolumeRequest {
		return &agentpb.ModifyVolumeRequest{Id: id, MaxSnapshotPause: d}
	}
	record := func(fs, state string) *agentpb.RecordFilesystemRequest {
		return &agentpb.RecordFilesystemRequest{Id: id, Filesystem: &agentpb.Filesystem{Type: fs, State: state}}
	}
	cut := func(change func(*agentpb.CreateSnapshotRequest)) *agentpb.CreateSnapshotRequest {
		r := &agentpb.CreateSnapshotRequest{Id: sid, Volume: id, Consistency: "crash"}
		change(r)
		return r
	}
	type C = *agentpb.CreateVolumeRequest
	type S = *agentpb.CreateSnapshotRequest
	for _, c := range []struct {
		decoder string
		request proto.Message
		field   string
	}{
		{"create", create(func(r C) { r.Id = "" }), "id:"},
		{"create", create(func(r C) { r.Id = "../../etc" }), "id:"},
		{"create", create(func(r C) { r.Id = sid }), "id:"},
		{"create", create(func(r C) { r.SizeBytes = 0 }), "size_bytes: 0:"},
		{"create", create(func(r C) { r.SizeBytes = -4096 }), "size_bytes: -4096:"},
		{"create", create(func(r C) { r.SizeBytes = 1<<20 + 1 }), "size_bytes: 1048577:"},
		{"create", create(func(r C) { r.SizeBytes = 1 << 19 }), "size_bytes:"},
		{"create", create(func(r C) { r.SizeBytes = 1 << 61 }), "size_bytes:"},
		{"create", create(func(r C) { r.SizeBytes = math.MinInt64 }), "size_bytes:"},
		{"create", create(func(r C) { r.Source = &agentpb.Source{Volume: id} }), "source.volume:"},
		{"create", create(func(r C) { r.Source = &agentpb.Source{Volume: string(bareVolume.ID), Snapshot: sid} }), "source:"},
		{"create", class(func(c *agentpb.Class) { c.Backend = "a/b" }), "class.backend:"},
		{"create", class(func(c *agentpb.Class) { c.Provisioning = "fat" }), `class.provisioning: "fat":`},
		{"create", class(func(c *agentpb.Class) { c.Pool = "../x" }), "class.pool:"},
		{"create", class(func(c *agentpb.Class) { c.PoolType = "zfs" }), "class.pool_type:"},
		{"create", class(func(c *agentpb.Class) { c.MaxSnapshotPause = durationpb.New(-1) }), "class.max_snapshot_pause:"},
		{"create", class(func(c *agentpb.Class) { c.MaxSnapshotPause = durationpb.New(2 * time.Hour) }), "class.max_snapshot_pause:"},
		{"create", class(func(c *agentpb.Class) { c.MaxSnapshotPause = &durationpb.Duration{Seconds: 1, Nanos: -1} }), "class.max_snapshot_pause:"},
		{"create", class(func(c *agentpb.Class) { c.MaxSnapshotPause = &durationpb.Duration{Seconds: math.MaxInt64} }), "class.max_snapshot_pause:"},
		{"create", class(func(c *agentpb.Class) { c.Repository = "home" }), "class.repository:"},
		{"create", class(func(c *agentpb.Class) { c.CacheBytes = 1 }), "class.cache_bytes:"},
		{"create", class(func(c *agentpb.Class) { c.CacheBytes = math.MinInt64 }), "class.cache_bytes:"},
		{"create", class(func(c *agentpb.Class) { c.Durability = "fast" }), "class.durability:"},
		{"create", class(func(c *agentpb.Class) { c.OnNodeLoss = "hope" }), "class.on_node_loss:"},
		{"create", class(func(c *agentpb.Class) { c.UploadDelay = durationpb.New(time.Hour) }), "class.upload_delay:"},
		{"create", class(func(c *agentpb.Class) { c.Compression = "lz4" }), "class.compression:"},
		{"create", class(func(c *agentpb.Class) { c.Encryption = "rot13" }), "class.encryption:"},
		{"modify", &agentpb.ModifyVolumeRequest{Id: id, CacheBytes: pointer(int64(-2))}, "cache_bytes:"},
		{"modify", &agentpb.ModifyVolumeRequest{Id: id, Durability: pointer("")}, "durability:"},
		{"modify", &agentpb.ModifyVolumeRequest{Id: id, OnNodeLoss: pointer("")}, "on_node_loss:"},
		{"modify", &agentpb.ModifyVolumeRequest{Id: id, UploadDelay: durationpb.New(0)}, "upload_delay:"},
		{"modify", &agentpb.ModifyVolumeRequest{Id: id, Compression: pointer("")}, "compression:"},
		{"attach", &agentpb.AttachRequest{Id: id, Shared: true}, "shared:"},
		{"expand", &agentpb.ExpandVolumeRequest{Id: id, SizeBytes: -4096}, "size_bytes:"},
		{"expand", &agentpb.ExpandVolumeRequest{Id: id, SizeBytes: 4097}, "size_bytes:"},
		{"modify", &agentpb.ModifyVolumeRequest{Id: id, Provisioning: pointer("")}, "provisioning:"},
		{"modify", pause(durationpb.New(0)), "max_snapshot_pause:"},
		{"modify", pause(durationpb.New(-1)), "max_snapshot_pause:"},
		{"modify", pause(durationpb.New(time.Hour + 1)), "max_snapshot_pause:"},
		{"record", record("zfs", "formatted"), "filesystem.type:"},
		{"record", record("ext4", "half"), "filesystem.state:"},
		{"record", record("", "formatted"), "filesystem.type:"},
		{"cut", cut(func(r S) { r.Id = "" }), "id:"},
		{"cut", cut(func(r S) { r.Id = id }), "id:"},
		{"cut", cut(func(r S) { r.Consistency = "" }), "consistency:"},
		{"cut", cut(func(r S) { r.Pause = "a\nb" }), "pause:"},
		{"pause", &agentpb.PauseRequest{Id: "", Volumes: []string{id}}, "id:"},
		{"pause", &agentpb.PauseRequest{Id: "p"}, "volumes: 0:"},
		{"pause", &agentpb.PauseRequest{Id: "p", Volumes: make([]string, maxPauseVolumes+1)}, "volumes: 1025:"},
		{"resume", &agentpb.ResumeRequest{Id: strings.Repeat("x", 129)}, "id:"},
		{"class", &agentpb.Class{Provisioning: "x"}, "class.provisioning:"},
	} {
		i := slices.IndexFunc(decoders, func(d reader) bool { return d.name == c.decoder })
		if _, err := decoders[i].decode(c.request); !fault.Is(err, fault.Invalid) || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s %v: got %s, %v: want Invalid naming %q", c.decoder, c.request, fault.KindOf(err), err, c.field)
		}
	}
}

// TestNothingOfTheKind has requests that are well formed, and about nothing.
func TestNothingOfTheKind(t *testing.T) {
	id, sid := string(anyVolume.ID), string(anySnapshot.ID)
	for _, c := range []struct {
		decoder string
		request proto.Message
		field   string
		kind    fault.Kind
	}{
		{"create", &agentpb.CreateVolumeRequest{Id: id, SizeBytes: 1 << 20, Source: &agentpb.Source{Snapshot: "x"}}, "source.snapshot:", fault.NotFound},
		{"expand", &agentpb.ExpandVolumeRequest{SizeBytes: 4096}, "id:", fault.NotFound},
		{"cut", &agentpb.CreateSnapshotRequest{Id: sid, Volume: "../x", Consistency: "crash"}, "volume:", fault.NotFound},
		{"pause", &agentpb.PauseRequest{Id: "p", Volumes: []string{id, ""}}, "volumes[1]:", fault.NotFound},
		{"attach", &agentpb.AttachRequest{}, "id:", fault.NotFound},
		{"volume", &agentpb.VolumeRequest{Id: sid}, "id:", fault.NotFound},
		{"snapshot", &agentpb.SnapshotRequest{Id: id}, "id:", fault.NotFound},
		{"allocated", &agentpb.AllocatedRequest{}, "snapshot:", fault.NotFound},
		{"allocated", &agentpb.AllocatedRequest{Snapshot: sid, Offset: -1}, "offset: -1:", fault.OutOfRange},
		{"delta", &agentpb.DeltaRequest{Base: sid}, "target:", fault.NotFound},
		{"delta", &agentpb.DeltaRequest{Target: sid}, "base:", fault.NotFound},
		{"delta", &agentpb.DeltaRequest{Base: sid, Target: sid, Offset: -5}, "offset: -5:", fault.OutOfRange},
	} {
		i := slices.IndexFunc(decoders, func(d reader) bool { return d.name == c.decoder })
		if _, err := decoders[i].decode(c.request); !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.field) {
			t.Errorf("%s %v: got %s, %v: want %s naming %q", c.decoder, c.request, fault.KindOf(err), err, c.kind, c.field)
		}
	}
}

// TestAllFaultsAtOnce has everything wrong in one request, through a server.
func TestAllFaultsAtOnce(t *testing.T) {
	_, err := through(t, &fake{}).CreateVolume(t.Context(), backend.CreateVolumeRequest{
		ID: "x", SizeBytes: 5, Class: volume.Class{Backend: "!", Provisioning: "!", Pool: "!", PoolType: "!", MaxSnapshotPause: -1},
		Source: backend.Source{Snapshot: "s", Volume: "v"},
	})
	if !fault.Is(err, fault.Invalid) {
		t.Fatalf("got %v, want Invalid", err)
	}
	for _, field := range []string{"id:", "size_bytes:", "class.backend:", "class.provisioning:", "class.pool:", "class.pool_type:", "class.max_snapshot_pause:", "source:"} {
		if !strings.Contains(err.Error(), field) {
			t.Errorf("%v does not name %s", err, field)
		}
	}
}

// FuzzRequests decodes anything as every request. What is let through is safe to
// hand to a backend; what is refused is Invalid, NotFound or
// OutOfRange, in few words.
func FuzzRequests(f *testing.F) {
	for i := range decoders {
		f.Add(byte(i), []byte{})
	}
	for i, m := range []proto.Message{
		&agentpb.CreateVolumeRequest{Id: string(anyVolume.ID), SizeBytes: 1 << 20, Class: encodeClass(anyClass), Source: encodeSource(anyVolume.Source), Secrets: anySecrets},
		&agentpb.ExpandVolumeRequest{Id: string(anyVolume.ID), SizeBytes: 1 << 20},
		encodeMutable(anyVolume.ID, anyMutable),
		&agentpb.RecordFilesystemRequest{Id: string(anyVolume.ID), Filesystem: encodeFilesystem(anyVolume.Filesystem)},
		&agentpb.CreateSnapshotRequest{Id: string(anySnapshot.ID), Volume: string(anyVolume.ID), Consistency: "crash", Pause: "p"},
		&agentpb.PauseRequest{Id: "p", Volumes: []string{string(anyVolume.ID)}},
	} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(byte(i), data)
	}
	f.Fuzz(func(t *testing.T, which byte, data []byte) {
		d := decoders[int(which)%len(decoders)]
		m := proto.Clone(d.empty)
		if proto.Unmarshal(data, m) != nil {
			return
		}
		read, err := d.decode(m)
		if err != nil {
			if !fault.Is(err, fault.Invalid) && !fault.Is(err, fault.NotFound) && !fault.Is(err, fault.OutOfRange) {
				t.Errorf("got %s: %v", fault.KindOf(err), err)
			}
			if s := toStatus(err); len(s.Error()) > maxMessageBytes+200 {
				t.Errorf("a message of %d bytes", len(s.Error()))
			}
			return
		}
		for _, value := range read {
			safe(t, value)
		}
	})
}

// safe looks at what a backend would get.
func safe(t *testing.T, value any) {
	t.Helper()
	id := func(id volume.ID, optional bool) {
		if _, err := volume.ParseID(string(id)); err != nil && (!optional || id != "") {
			t.Error(err)
		}
	}
	snapshot := func(id volume.SnapshotID, optional bool) {
		if _, err := volume.ParseSnapshotID(string(id)); err != nil && (!optional || id != "") {
			t.Error(err)
		}
	}
	switch v := value.(type) {
	case volume.ID:
		id(v, false)
	case volume.SnapshotID:
		snapshot(v, false)
	case []volume.ID:
		for _, one := range v {
			id(one, false)
		}
	case int64:
		if v < 0 {
			t.Errorf("negative: %d", v)
		}
	case backend.PauseID:
		if v == "" || strings.ContainsAny(string(v), "\n\x00") {
			t.Errorf("pause id %q", v)
		}
	case backend.AttachRequest:
		id(v.ID, false)
	case backend.CreateSnapshotRequest:
		snapshot(v.ID, false)
		id(v.Volume, false)
	case backend.CreateVolumeRequest:
		id(v.ID, false)
		id(v.Source.Volume, true)
		snapshot(v.Source.Snapshot, true)
		if v.SizeBytes < volume.MinimumBytes || v.SizeBytes > volume.MaximumBytes || v.SizeBytes%volume.SizeUnit != 0 {
			t.Errorf("size %d", v.SizeBytes)
		}
		safe(t, v.Class)
	case volume.Class:
		if strings.ContainsAny(v.Pool+v.Backend+string(v.Repository), "/.\x00 ") || v.MaxSnapshotPause < 0 || v.MaxSnapshotPause > time.Hour || !volume.ValidCacheBytes(v.CacheBytes) || v.UploadDelay < 0 {
			t.Errorf("class %+v", v)
		}
	}
}
