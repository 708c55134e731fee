package agent

import (
	"fmt"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/volume"
)

// maxPauseVolumes bounds how many volumes are paused at once.
const maxPauseVolumes = 1024

func decodeCreateVolume(p *agentpb.CreateVolumeRequest) (backend.CreateVolumeRequest, error) {
	var c check
	id, err := volume.ParseID(p.GetId())
	c.newID(err)
	c.that(p.GetSizeBytes() <= volume.MaximumBytes, "size_bytes", p.GetSizeBytes(), fmt.Sprint("at most ", volume.MaximumBytes))
	r := backend.CreateVolumeRequest{
		ID:        id,
		SizeBytes: c.size(p.GetSizeBytes(), volume.MinimumBytes),
		Class:     c.class(p.GetClass()),
		Source:    c.source(p.GetSource()),
		ReadOnly:  p.GetReadOnly(),
		Secrets:   p.GetSecrets(),
	}
	if r.Source.Volume != "" && r.Source.Volume == r.ID {
		c.say("source.volume: %s is the volume itself: want another", r.ID)
	}
	return r, c.err()
}

func decodeExpandVolume(p *agentpb.ExpandVolumeRequest) (volume.ID, int64, error) {
	var c check
	id, size := c.volume("id", p.GetId()), c.size(p.GetSizeBytes(), 0)
	return id, size, c.err()
}

func decodeModifyVolume(p *agentpb.ModifyVolumeRequest) (volume.ID, volume.Mutable, error) {
	var c check
	var m volume.Mutable
	id := c.volume("id", p.GetId())
	m.Provisioning = asGiven(&c, "provisioning", p.Provisioning, volume.Thick, volume.Thin)
	if p.MaxSnapshotPause != nil {
		pause := c.duration("max_snapshot_pause", p.GetMaxSnapshotPause(), maxPause)
		c.that(pause > 0, "max_snapshot_pause", pause, "more than 0")
		m.MaxSnapshotPause = &pause
	}
	if p.CacheBytes != nil {
		n := c.cacheBytes("cache_bytes", p.GetCacheBytes())
		m.CacheBytes = &n
	}
	m.Durability = asGiven(&c, "durability", p.Durability, volume.JournalDurability, volume.ObjectDurability)
	m.OnNodeLoss = asGiven(&c, "on_node_loss", p.OnNodeLoss, volume.Wait, volume.Rollback)
	if p.UploadDelay != nil {
		delay := c.duration("upload_delay", p.GetUploadDelay(), volume.MaxUploadDelay)
		c.that(delay > 0, "upload_delay", delay, "more than 0")
		m.UploadDelay = &delay
	}
	m.Compression = asGiven(&c, "compression", p.Compression, volume.Zstd, volume.NoCompression)
	return id, m, c.err()
}

func decodeRecordFilesystem(p *agentpb.RecordFilesystemRequest) (volume.ID, backend.Filesystem, error) {
	var c check
	id, f := c.volume("id", p.GetId()), c.filesystem(p.GetFilesystem())
	return id, f, c.err()
}

func decodeCreateSnapshot(p *agentpb.CreateSnapshotRequest) (backend.CreateSnapshotRequest, error) {
	var c check
	id, err := volume.ParseSnapshotID(p.GetId())
	c.newID(err)
	r := backend.CreateSnapshotRequest{
		ID:          id,
		Volume:      c.volume("volume", p.GetVolume()),
		Consistency: c.consistency("consistency", p.GetConsistency()),
		Secrets:     p.GetSecrets(),
	}
	if p.GetPause() != "" {
		r.Pause = c.pause("pause", p.GetPause())
	}
	return r, c.err()
}

func decodePause(p *agentpb.PauseRequest) (backend.PauseID, []volume.ID, error) {
	var c check
	id := c.pause("id", p.GetId())
	n := len(p.GetVolumes())
	c.that(n > 0 && n <= maxPauseVolumes, "volumes", n, fmt.Sprint("1 to ", maxPauseVolumes, " of them"))
	if err := c.err(); err != nil {
		return "", nil, err
	}
	volumes := make([]volume.ID, n)
	for i, s := range p.GetVolumes() {
		volumes[i] = c.volume(fmt.Sprintf("volumes[%d]", i), s)
	}
	return id, volumes, c.err()
}

func decodeResume(p *agentpb.ResumeRequest) (backend.PauseID, error) {
	var c check
	id := c.pause("id", p.GetId())
	return id, c.err()
}

func decodeAttach(p *agentpb.AttachRequest) (backend.AttachRequest, error) {
	var c check
	r := backend.AttachRequest{ID: c.volume("id", p.GetId()), ReadOnly: p.GetReadOnly(), Shared: p.GetShared(), Secrets: p.GetSecrets()}
	c.that(r.ReadOnly || !r.Shared, "shared", r.Shared, "read_only with it")
	return r, c.err()
}

func decodeVolume(p *agentpb.VolumeRequest) (volume.ID, error) {
	var c check
	id := c.volume("id", p.GetId())
	return id, c.err()
}

func decodeSnapshot(p *agentpb.SnapshotRequest) (volume.SnapshotID, error) {
	var c check
	id := c.snapshot("id", p.GetId())
	return id, c.err()
}

func decodeAllocated(p *agentpb.AllocatedRequest) (volume.SnapshotID, int64, error) {
	var c check
	id, offset := c.snapshot("snapshot", p.GetSnapshot()), c.offset(p.GetOffset())
	return id, offset, c.err()
}

func decodeDelta(p *agentpb.DeltaRequest) (base, target volume.SnapshotID, offset int64, err error) {
	var c check
	base, target, offset = c.snapshot("base", p.GetBase()), c.snapshot("target", p.GetTarget()), c.offset(p.GetOffset())
	return base, target, offset, c.err()
}

func decodeClass(p *agentpb.Class) (volume.Class, error) {
	var c check
	class := c.class(p)
	return class, c.err()
}
