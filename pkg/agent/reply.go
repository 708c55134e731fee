package agent

import (
	"fmt"
	"math"
	"time"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// anyDuration bounds what is measured rather than asked for.
const anyDuration = time.Duration(math.MaxInt64)

// sense gives what is wrong with a reply its kind: the engine did what was
// asked, but does not speak as this program does. Whoever goes on with half a
// reply may take a formatted volume for a blank one, so nobody does.
func (c *client) sense(k *check) error {
	err := k.err()
	if err == nil {
		return nil
	}
	return fault.New(fault.Internal, "%s: its reply makes no sense: %w", c.peer(), err)
}

func (c *client) volume(want volume.ID, p *agentpb.Volume, err error) (backend.Volume, error) {
	if err != nil {
		return backend.Volume{}, err
	}
	var k check
	v := k.wholeVolume(p)
	k.that(v.ID == want, "id", p.GetId(), string(want))
	if err := c.sense(&k); err != nil {
		return backend.Volume{}, err
	}
	return v, nil
}

func (c *check) wholeVolume(p *agentpb.Volume) backend.Volume {
	return backend.Volume{
		ID:         c.volume("id", p.GetId()),
		SizeBytes:  c.size(p.GetSizeBytes(), volume.SizeUnit),
		Class:      c.class(p.GetClass()),
		Source:     c.source(p.GetSource()),
		Pool:       p.GetPool(),
		Filesystem: c.filesystem(p.GetFilesystem()),
		CreatedAt:  c.time("created_at", p.GetCreatedAt()),
		Device:     p.GetDevice(),
		UsedBytes:  p.GetUsedBytes(),
	}
}

func (c *client) snapshot(want volume.SnapshotID, p *agentpb.Snapshot, err error) (backend.Snapshot, error) {
	if err != nil {
		return backend.Snapshot{}, err
	}
	var k check
	s := backend.Snapshot{
		ID:             k.snapshot("id", p.GetId()),
		Volume:         k.volume("volume", p.GetVolume()),
		SizeBytes:      k.size(p.GetSizeBytes(), volume.SizeUnit),
		Consistency:    k.consistency("consistency", p.GetConsistency()),
		Filesystem:     k.filesystem(p.GetFilesystem()),
		CreatedAt:      k.time("created_at", p.GetCreatedAt()),
		Pause:          k.duration("pause", p.GetPause(), anyDuration),
		PredictedPause: k.duration("predicted_pause", p.GetPredictedPause(), anyDuration),
	}
	k.that(s.ID == want, "id", p.GetId(), string(want))
	if err := c.sense(&k); err != nil {
		return backend.Snapshot{}, err
	}
	return s, nil
}

func (c *client) device(p *agentpb.Device) (backend.Device, error) {
	var k check
	d := backend.Device{
		Path:       p.GetPath(),
		SizeBytes:  p.GetSizeBytes(),
		ReadOnly:   p.GetReadOnly(),
		Filesystem: k.filesystem(p.GetFilesystem()),
	}
	k.that(d.Path != "", "path", d.Path, "the path of a device")
	if err := c.sense(&k); err != nil {
		return backend.Device{}, err
	}
	return d, nil
}

func (c *client) health(p *agentpb.HealthReply, err error) ([]backend.Health, error) {
	if err != nil {
		return nil, err
	}
	var k check
	var all []backend.Health
	for i, e := range p.GetEntries() {
		h := backend.Health{Severity: backend.Severity(e.GetSeverity()), Reason: e.GetReason(), Message: e.GetMessage()}
		switch h.Severity {
		case backend.Degraded, backend.Inaccessible, backend.DataLoss:
		default:
			k.that(false, fmt.Sprintf("entries[%d].severity", i), e.GetSeverity(), `"degraded", "inaccessible" or "data-loss"`)
		}
		all = append(all, h)
	}
	if err := c.sense(&k); err != nil {
		return nil, err
	}
	return all, nil
}

func (c *client) info(p *agentpb.InfoReply) (Info, error) {
	var k check
	i := Info{
		Node:       volume.NodeID(p.GetNode()),
		Backends:   p.GetBackends(),
		MaxVolumes: p.GetMaxVolumes(),
		Version:    p.GetVersion(),
	}
	k.that(i.Node == c.node, "node", p.GetNode(), string(c.node))
	k.that(i.MaxVolumes >= 0, "max_volumes", i.MaxVolumes, "0 or more")
	for n, pool := range p.GetPools() {
		i.Pools = append(i.Pools, repository.Pool{
			Name: pool.GetName(),
			Type: k.poolType(fmt.Sprintf("pools[%d].type", n), pool.GetType()),
		})
	}
	if err := c.sense(&k); err != nil {
		return Info{}, err
	}
	return i, nil
}
