package agent

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/holkas-io/holkas/pkg/agent/agentpb"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// extentsTo yields n ranges and then an error, if there is one.
func extentsTo(n int64, produced *atomic.Int64, end error) func(context.Context, volume.SnapshotID, int64) iter.Seq2[backend.Extent, error] {
	return func(context.Context, volume.SnapshotID, int64) iter.Seq2[backend.Extent, error] {
		return func(yield func(backend.Extent, error) bool) {
			for i := range n {
				if !yield(backend.Extent{Offset: i * 8192, Length: 4096}, nil) {
					return
				}
				produced.Add(1)
			}
			if end != nil {
				yield(backend.Extent{}, end)
			}
		}
	}
}

// TestListings has lengths about those of a message, whole and with an error
// behind them: what came before it is not lost.
func TestListings(t *testing.T) {
	for _, n := range []int64{0, 1, extentsPerMessage - 1, extentsPerMessage, extentsPerMessage + 1, 100_000} {
		for _, end := range []error{nil, fault.New(fault.Corrupt, "page 7")} {
			var produced atomic.Int64
			b := through(t, &fake{allocated: extentsTo(n, &produced, end)})
			all, err := collect(b.Allocated(t.Context(), volume.NewSnapshotID(), 0))
			if int64(len(all)) != n || (err == nil) != (end == nil) {
				t.Errorf("%d and %v: got %d and %v", n, end, len(all), err)
			}
			if end != nil && (!fault.Is(err, fault.Corrupt) || err.Error() != end.Error()) {
				t.Errorf("%d and %v: got %v", n, end, err)
			}
		}
	}
}

func TestManyVolumes(t *testing.T) {
	var ids []volume.ID
	for range 1000 {
		ids = append(ids, volume.NewID())
	}
	slices.Sort(ids)
	b := through(t, &fake{list: func(context.Context) iter.Seq2[backend.Volume, error] {
		return func(yield func(backend.Volume, error) bool) {
			for _, id := range ids {
				v := anyVolume
				v.ID = id
				if !yield(v, nil) {
					return
				}
			}
		}
	}})
	listing := b.Volumes(t.Context())
	for range 2 { // an iterator can be used again
		var got []volume.ID
		for v, err := range listing {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, v.ID)
		}
		if !slices.Equal(got, ids) {
			t.Errorf("got %d of %d volumes", len(got), len(ids))
		}
	}
}

// TestStopEarly sees that a reader which has enough ends the backend's iterator.
func TestStopEarly(t *testing.T) {
	var produced atomic.Int64
	ended := make(chan struct{}, 1)
	endless := extentsTo(1<<50, &produced, nil)
	b := through(t, &fake{allocated: func(ctx context.Context, id volume.SnapshotID, n int64) iter.Seq2[backend.Extent, error] {
		return func(yield func(backend.Extent, error) bool) {
			endless(ctx, id, n)(yield)
			ended <- struct{}{}
		}
	}})
	for _, after := range []int{1, extentsPerMessage, 3*extentsPerMessage + 1} {
		n := 0
		for _, err := range b.Allocated(t.Context(), volume.NewSnapshotID(), 0) {
			if err != nil {
				t.Fatal(err)
			}
			if n++; n == after {
				break
			}
		}
		<-ended
	}
}

// TestSlowReader sees that the backend waits for whoever reads: what is produced
// ahead has a bound.
func TestSlowReader(t *testing.T) {
	const bound, all = 1_000_000, 10_000_000
	var produced atomic.Int64
	b := through(t, &fake{allocated: extentsTo(all, &produced, nil)})
	n := int64(0)
	for _, err := range b.Allocated(t.Context(), volume.NewSnapshotID(), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n != extentsPerMessage {
			if n > 2*extentsPerMessage {
				break
			}
			continue
		}
		// Not reading, until the producer has come to rest.
		last, since := int64(-1), time.Now()
		eventually(t, "the producer rests", func() bool {
			if now := produced.Load(); now != last {
				last, since = now, time.Now()
			}
			return time.Since(since) > 300*time.Millisecond
		})
		if last >= bound {
			t.Errorf("%d were produced while %d were read: want less than %d", last, n, bound)
		}
	}
}

// rogue is an engine that speaks nonsense.
type rogue struct {
	agentpb.UnimplementedAgentServer
	extents []*agentpb.Extent
	volumes []*agentpb.Volume
	device  *agentpb.Device
	health  *agentpb.HealthReply
	info    *agentpb.InfoReply
	cut     *agentpb.Snapshot
}

func (r *rogue) Allocated(_ *agentpb.AllocatedRequest, s grpc.ServerStreamingServer[agentpb.Extents]) error {
	return s.Send(&agentpb.Extents{Extents: r.extents})
}
func (r *rogue) ListVolumes(_ *agentpb.ListVolumesRequest, s grpc.ServerStreamingServer[agentpb.Volumes]) error {
	return s.Send(&agentpb.Volumes{Volumes: r.volumes})
}
func (r *rogue) GetVolume(context.Context, *agentpb.VolumeRequest) (*agentpb.Volume, error) {
	return r.volumes[0], nil
}
func (r *rogue) GetSnapshot(context.Context, *agentpb.SnapshotRequest) (*agentpb.Snapshot, error) {
	return r.cut, nil
}
func (r *rogue) Attach(context.Context, *agentpb.AttachRequest) (*agentpb.Device, error) {
	return r.device, nil
}
func (r *rogue) Health(context.Context, *agentpb.HealthRequest) (*agentpb.HealthReply, error) {
	return r.health, nil
}
func (r *rogue) Info(context.Context, *agentpb.InfoRequest) (*agentpb.InfoReply, error) {
	return r.info, nil
}

func serveRogue(t *testing.T, r *rogue) repository.Node {
	t.Helper()
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	agentpb.RegisterAgentServer(server, r)
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return repository.Node{ID: testNode, Address: "unix://" + path}
}

// TestNonsense sees that a reply which makes no sense is an error, and never half
// a reply. A method that the engine does not have is Unsupported.
func TestNonsense(t *testing.T) {
	r := &rogue{}
	n := serveRogue(t, r)
	d := &Dialer{}
	b := dialWith(t, d, n)
	sid, id := volume.NewSnapshotID(), anyVolume.ID
	extent := func(a ...int64) (all []*agentpb.Extent) {
		for i := 0; i < len(a); i += 2 {
			all = append(all, &agentpb.Extent{Offset: a[i], Length: a[i+1]})
		}
		return all
	}
	for name, all := range map[string][]*agentpb.Extent{
		"out of order": extent(8192, 4096, 4096, 4096), "overlapping": extent(8192, 4096, 8193, 4096), "empty": extent(8192, 0),
		"negative": extent(8192, -1), "beyond all": extent(8192, 1<<63-1), "before the offset": extent(0, 8192), "none": {nil},
	} {
		r.extents = all
		if _, err := collect(b.Allocated(t.Context(), sid, 4096)); !fault.Is(err, fault.Internal) {
			t.Errorf("extents %s: got %v, want Internal", name, err)
		}
	}
	other := bareVolume
	other.ID = volume.ID("v-" + strings.Repeat("a", 26))
	bad := func(change func(*agentpb.Volume)) []*agentpb.Volume {
		v := encodeVolume(anyVolume)
		change(v)
		return []*agentpb.Volume{v}
	}
	for name, all := range map[string][]*agentpb.Volume{
		"another":              {encodeVolume(other)},
		"no id":                bad(func(v *agentpb.Volume) { v.Id = "" }),
		"no size":              bad(func(v *agentpb.Volume) { v.SizeBytes = 0 }),
		"a format state to be": bad(func(v *agentpb.Volume) { v.Filesystem.State = "encrypted" }),
		"a filesystem to be":   bad(func(v *agentpb.Volume) { v.Filesystem.Type = "zfs" }),
		"a provisioning to be": bad(func(v *agentpb.Volume) { v.Class.Provisioning = "lazy" }),
		"no time":              bad(func(v *agentpb.Volume) { v.CreatedAt.Nanos = -1 }),
		"two sources":          bad(func(v *agentpb.Volume) { v.Source.Volume = string(other.ID) }),
		"nothing":              {{}},
	} {
		r.volumes = all
		if v, err := b.Volume(t.Context(), id); !fault.Is(err, fault.Internal) || v != (backend.Volume{}) {
			t.Errorf("volume %s: got %+v, %v: want Internal", name, v, err)
		}
	}
	r.volumes = []*agentpb.Volume{encodeVolume(anyVolume), encodeVolume(anyVolume)}
	if _, err := collect(b.Volumes(t.Context())); !fault.Is(err, fault.Internal) {
		t.Errorf("a volume twice: got %v, want Internal", err)
	}
	r.cut, r.device = encodeSnapshot(anySnapshot), &agentpb.Device{}
	r.health = &agentpb.HealthReply{Entries: []*agentpb.HealthEntry{{Severity: "bad"}}}
	r.info = &agentpb.InfoReply{Node: "other"}
	_, snapshotErr := b.Snapshot(t.Context(), sid)
	_, deviceErr := b.Attach(t.Context(), backend.AttachRequest{ID: id})
	_, healthErr := b.Health(t.Context())
	_, infoErr := d.Info(t.Context(), n)
	for name, err := range map[string]error{"snapshot": snapshotErr, "device": deviceErr, "health": healthErr, "info": infoErr} {
		if !fault.Is(err, fault.Internal) {
			t.Errorf("%s: got %v, want Internal", name, err)
		}
	}
	if err := b.DeleteVolume(t.Context(), id); !fault.Is(err, fault.Unsupported) {
		t.Errorf("an engine without the method: got %v, want Unsupported", err)
	}
}

// TestStatusesOfTheTransport sees that what no engine of ours said leaves the
// outcome open.
func TestStatusesOfTheTransport(t *testing.T) {
	for _, err := range []error{errors.New("torn"), fmt.Errorf("x: %w", context.Canceled), net.ErrClosed} {
		if got := fromStatus(t.Context(), "p", err); !fault.Is(got, fault.Transient) {
			t.Errorf("%v: got %v, want Transient", err, got)
		}
	}
}
