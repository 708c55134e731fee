package agent

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

func encodeVolume(v backend.Volume) *agentpb.Volume {
	return &agentpb.Volume{
		Id:         string(v.ID),
		SizeBytes:  v.SizeBytes,
		Class:      encodeClass(v.Class),
		Source:     encodeSource(v.Source),
		Pool:       v.Pool,
		Filesystem: encodeFilesystem(v.Filesystem),
		CreatedAt:  encodeTime(v.CreatedAt),
		Device:     v.Device,
		UsedBytes:  v.UsedBytes,
	}
}

func encodeSnapshot(s backend.Snapshot) *agentpb.Snapshot {
	return &agentpb.Snapshot{
		Id:             string(s.ID),
		Volume:         string(s.Volume),
		SizeBytes:      s.SizeBytes,
		Consistency:    string(s.Consistency),
		Filesystem:     encodeFilesystem(s.Filesystem),
		CreatedAt:      encodeTime(s.CreatedAt),
		Pause:          durationpb.New(s.Pause),
		PredictedPause: durationpb.New(s.PredictedPause),
	}
}

func encodeDevice(d backend.Device) *agentpb.Device {
	return &agentpb.Device{Path: d.Path, SizeBytes: d.SizeBytes, ReadOnly: d.ReadOnly, Filesystem: encodeFilesystem(d.Filesystem)}
}

func encodeExtent(e backend.Extent) *agentpb.Extent {
	return &agentpb.Extent{Offset: e.Offset, Length: e.Length}
}

func encodeHealth(all []backend.Health) *agentpb.HealthReply {
	reply := &agentpb.HealthReply{}
	for _, h := range all {
		reply.Entries = append(reply.Entries, &agentpb.HealthEntry{
			Severity: string(h.Severity),
			Reason:   strings.ToValidUTF8(h.Reason, "�"),
			Message:  clipMessage(h.Message), // may quote a path, which is any bytes
		})
	}
	return reply
}

func encodeInfo(i Info) *agentpb.InfoReply {
	reply := &agentpb.InfoReply{Node: string(i.Node), Backends: i.Backends, MaxVolumes: i.MaxVolumes, Version: i.Version}
	for _, p := range i.Pools {
		reply.Pools = append(reply.Pools, &agentpb.Pool{Name: p.Name, Type: string(p.Type)})
	}
	return reply
}

func encodeClass(c volume.Class) *agentpb.Class {
	return &agentpb.Class{
		Backend:          c.Backend,
		Provisioning:     string(c.Provisioning),
		Pool:             c.Pool,
		PoolType:         string(c.PoolType),
		MaxSnapshotPause: durationpb.New(c.MaxSnapshotPause),
		Repository:       string(c.Repository),
		CacheBytes:       c.CacheBytes,
		Durability:       string(c.Durability),
		OnNodeLoss:       string(c.OnNodeLoss),
		UploadDelay:      durationpb.New(c.UploadDelay),
		Compression:      string(c.Compression),
		Encryption:       string(c.Encryption),
	}
}

func encodeSource(s backend.Source) *agentpb.Source {
	if s == (backend.Source{}) {
		return nil
	}
	return &agentpb.Source{Snapshot: string(s.Snapshot), Volume: string(s.Volume)}
}

func encodeFilesystem(f backend.Filesystem) *agentpb.Filesystem {
	if f == (backend.Filesystem{}) {
		return nil
	}
	return &agentpb.Filesystem{Type: string(f.Type), State: string(f.State)}
}

func encodeTime(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func encodeMutable(id volume.ID, m volume.Mutable) *agentpb.ModifyVolumeRequest {
	return &agentpb.ModifyVolumeRequest{
		Id:               string(id),
		Provisioning:     encodeWord(m.Provisioning),
		MaxSnapshotPause: encodeDuration(m.MaxSnapshotPause),
		CacheBytes:       m.CacheBytes,
		Durability:       encodeWord(m.Durability),
		OnNodeLoss:       encodeWord(m.OnNodeLoss),
		UploadDelay:      encodeDuration(m.UploadDelay),
		Compression:      encodeWord(m.Compression),
	}
}

func encodeWord[T ~string](w *T) *string {
	if w == nil {
		return nil
	}
	s := string(*w)
	return &s
}

func encodeDuration(d *time.Duration) *durationpb.Duration {
	if d == nil {
		return nil
	}
	return durationpb.New(*d)
}
