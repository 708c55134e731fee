package csi

import (
	"iter"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func extents(all []backend.Extent, end error) iter.Seq2[backend.Extent, error] {
	return func(yield func(backend.Extent, error) bool) {
		for _, e := range all {
			if !yield(e, nil) {
				return
			}
		}
		if end != nil {
			yield(backend.Extent{}, end)
		}
	}
}

// metadata calls both RPCs of a service in the same way.
func metadata(t *testing.T, f *fakeService, call func(c csi.SnapshotMetadataClient) (func() ([]*csi.BlockMetadata, int64, csi.BlockMetadataType, error), error)) (messages [][]*csi.BlockMetadata, err error) {
	t.Helper()
	conn := connected(t, Services{SnapshotMetadata: NewSnapshotMetadataServer(f)})
	receive, err := call(csi.NewSnapshotMetadataClient(conn))
	if err != nil {
		t.Fatal(err)
	}
	for {
		blocks, capacity, kind, err := receive()
		if err != nil {
			return messages, err
		}
		if capacity != f.sizeBytes || kind != csi.BlockMetadataType_VARIABLE_LENGTH {
			t.Errorf("capacity %d, type %s", capacity, kind)
		}
		messages = append(messages, blocks)
	}
}

func allocated(t *testing.T, r *csi.GetMetadataAllocatedRequest) func(csi.SnapshotMetadataClient) (func() ([]*csi.BlockMetadata, int64, csi.BlockMetadataType, error), error) {
	return func(c csi.SnapshotMetadataClient) (func() ([]*csi.BlockMetadata, int64, csi.BlockMetadataType, error), error) {
		stream, err := c.GetMetadataAllocated(t.Context(), r)
		return func() ([]*csi.BlockMetadata, int64, csi.BlockMetadataType, error) {
			m, err := stream.Recv()
			return m.GetBlockMetadata(), m.GetVolumeCapacityBytes(), m.GetBlockMetadataType(), err
		}, err
	}
}

func delta(t *testing.T, r *csi.GetMetadataDeltaRequest) func(csi.SnapshotMetadataClient) (func() ([]*csi.BlockMetadata, int64, csi.BlockMetadataType, error), error) {
	return func(c csi.SnapshotMetadataClient) (func() ([]*csi.BlockMetadata, int64, csi.BlockMetadataType, error), error) {
		stream, err := c.GetMetadataDelta(t.Context(), r)
		return func() ([]*csi.BlockMetadata, int64, csi.BlockMetadataType, error) {
			m, err := stream.Recv()
			return m.GetBlockMetadata(), m.GetVolumeCapacityBytes(), m.GetBlockMetadataType(), err
		}, err
	}
}

func TestMetadataIsStreamedInMessages(t *testing.T) {
	h, base := volume.Handle{Repository: home, Snapshot: volume.NewSnapshotID()}, volume.Handle{Repository: home, Snapshot: volume.NewSnapshotID()}
	var all []backend.Extent
	for i := range int64(7) {
		all = append(all, backend.Extent{Offset: 100 + i*10, Length: 10 - i%2})
	}
	f := &fakeService{sizeBytes: 1000}
	for name, c := range map[string]struct {
		most int32
		all  []backend.Extent
		want []int // blocks in each message
	}{
		"one by one":     {1, all, []int{1, 1, 1, 1, 1, 1, 1}},
		"by three":       {3, all, []int{3, 3, 1}},
		"a full message": {7, all, []int{7}},
		"as it likes":    {0, all, []int{7}},
		"many":           {1 << 30, all, []int{7}},
		"nothing":        {0, nil, []int{0}},
	} {
		f.extents = extents(c.all, nil)
		for rpc, call := range map[string]func() ([][]*csi.BlockMetadata, error){
			"allocated": func() ([][]*csi.BlockMetadata, error) {
				return metadata(t, f, allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: h.String(), StartingOffset: 100, MaxResults: c.most}))
			},
			"delta": func() ([][]*csi.BlockMetadata, error) {
				return metadata(t, f, delta(t, &csi.GetMetadataDeltaRequest{BaseSnapshotId: base.String(), TargetSnapshotId: h.String(), StartingOffset: 100, MaxResults: c.most}))
			},
		} {
			messages, err := call()
			var sizes []int
			var got []backend.Extent
			for _, m := range messages {
				sizes = append(sizes, len(m))
				for _, b := range m {
					got = append(got, backend.Extent{Offset: b.ByteOffset, Length: b.SizeBytes})
				}
			}
			if err.Error() != "EOF" || !reflect.DeepEqual(sizes, c.want) || !reflect.DeepEqual(got, c.all) {
				t.Errorf("%s, %s: got %v, %v, %v, want %v", rpc, name, sizes, got, err, c.want)
			}
			want := streamed{target: h, offset: 100}
			if rpc == "delta" {
				want.base = base
			}
			if !reflect.DeepEqual(f.asked, want) {
				t.Errorf("%s: asked %v, want %v", rpc, f.asked, want)
			}
		}
	}
}

// sink takes messages, and counts what it took.
type sink struct {
	csi.SnapshotMetadata_GetMetadataAllocatedServer
	t       *testing.T
	blocks  int64
	largest int
}

func (s *sink) Send(m *csi.GetMetadataAllocatedResponse) error {
	s.blocks += int64(len(m.BlockMetadata))
	s.largest = max(s.largest, len(m.BlockMetadata))
	return nil
}

// TestMetadataNeedsConstantMemory streams a volume of 100 GiB that is written in
// pieces of 64 KiB.
func TestMetadataNeedsConstantMemory(t *testing.T) {
	const size, block = 100 << 30, 64 << 10
	var peak uint64
	pieces := func(yield func(backend.Extent, error) bool) {
		for i := int64(0); i < size; i += 2 * block {
			if i%(size/16) == 0 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				peak = max(peak, m.HeapAlloc)
			}
			if !yield(backend.Extent{Offset: i, Length: block}, nil) {
				return
			}
		}
	}
	s := &sink{t: t}
	p, _ := pagesOf(0, 1<<30)
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	err := p.send(size, pieces, func(b []*csi.BlockMetadata) error {
		return s.Send(&csi.GetMetadataAllocatedResponse{BlockMetadata: b})
	})
	if err != nil || s.blocks != size/block/2 || s.largest != maxBlocks {
		t.Errorf("%d blocks, at most %d in a message, %v", s.blocks, s.largest, err)
	}
	if peak > before.HeapAlloc+8<<20 {
		t.Errorf("the heap grew from %d to %d", before.HeapAlloc, peak)
	}
}

func TestMetadataRefuses(t *testing.T) {
	h := volume.Handle{Repository: home, Snapshot: volume.NewSnapshotID()}.String()
	get := func(id string, offset int64, most int32) func(s *SnapshotMetadataServer) error {
		return func(s *SnapshotMetadataServer) error {
			return s.GetMetadataAllocated(&csi.GetMetadataAllocatedRequest{SnapshotId: id, StartingOffset: offset, MaxResults: most}, nil)
		}
	}
	diff := func(base, target string, offset int64, most int32) func(s *SnapshotMetadataServer) error {
		return func(s *SnapshotMetadataServer) error {
			return s.GetMetadataDelta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: target, StartingOffset: offset, MaxResults: most}, nil)
		}
	}
	for name, c := range map[string]struct {
		call func(s *SnapshotMetadataServer) error
		kind fault.Kind
		part string
	}{
		"no id":                    {get("", -1, -1), fault.Invalid, "snapshot_id"},
		"impossible id":            {get(impossible, -1, -1), fault.NotFound, "snapshot_id"},
		"negative offset":          {get(h, -1, 0), fault.OutOfRange, "starting_offset: -1"},
		"negative bound":           {get(h, 0, -1), fault.Invalid, "max_results: -1"},
		"delta: no base":           {diff("", impossible, -1, -1), fault.Invalid, "base_snapshot_id"},
		"delta: no target":         {diff(impossible, "", -1, -1), fault.Invalid, "target_snapshot_id"},
		"delta: impossible base":   {diff(impossible, h, -1, -1), fault.NotFound, "base_snapshot_id"},
		"delta: impossible target": {diff(h, impossible, -1, -1), fault.NotFound, "target_snapshot_id"},
		"delta: negative offset":   {diff(h, h, -1, 0), fault.OutOfRange, "starting_offset: -1"},
		"delta: negative bound":    {diff(h, h, 0, -1), fault.Invalid, "max_results: -1"},
	} {
		f := &fakeService{}
		err := c.call(NewSnapshotMetadataServer(f))
		if !fault.Is(err, c.kind) || !strings.Contains(err.Error(), c.part) || f.asked != nil {
			t.Errorf("%s: got %v, asked %v, want %v with %q", name, err, f.asked, c.kind, c.part)
		}
	}
}

// TestMetadataPassesOnlyWhatIsTrue: an engine that fails on the way ends the
// stream with its error, and one that is out of order is not believed.
func TestMetadataPassesOnlyWhatIsTrue(t *testing.T) {
	type all = [][2]int64 // offset, length
	for name, c := range map[string]struct {
		extents all
		end     error
		kind    fault.Kind
		sent    int
	}{
		"fails at once":        {nil, fault.New(fault.OutOfRange, "beyond"), fault.OutOfRange, 0},
		"fails on the way":     {all{{10, 5}, {20, 5}, {30, 5}}, fault.New(fault.Transient, "gone"), fault.Transient, 2},
		"goes back":            {all{{20, 5}, {10, 5}}, nil, fault.Internal, 0},
		"overlaps":             {all{{20, 5}, {24, 5}}, nil, fault.Internal, 0},
		"is empty":             {all{{20, 0}}, nil, fault.Internal, 0},
		"is negative":          {all{{20, -5}}, nil, fault.Internal, 0},
		"ends beyond the end":  {all{{98, 3}}, nil, fault.Internal, 0},
		"overflows":            {all{{20, 1<<63 - 1}}, nil, fault.Internal, 0},
		"begins before offset": {all{{9, 5}}, nil, fault.Internal, 0},
	} {
		var ranges []backend.Extent
		for _, e := range c.extents {
			ranges = append(ranges, backend.Extent{Offset: e[0], Length: e[1]})
		}
		sent := 0
		err := pages{offset: 10, blocks: 2}.send(100, extents(ranges, c.end), func(b []*csi.BlockMetadata) error {
			sent += len(b)
			return nil
		})
		if !fault.Is(err, c.kind) || sent != c.sent {
			t.Errorf("%s: sent %d, %v, want %d, %v", name, sent, err, c.sent, c.kind)
		}
	}
}
