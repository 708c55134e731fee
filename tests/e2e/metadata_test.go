package e2e

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

const metadataSize = 256 * lab.MiB

// metadataLab adds what these tests call.
type metadataLab struct{ *lab.Lab }

// TestSnapshotMetadata writes, discards and overwrites a raw block volume
// between snapshots, and holds what the service says against the bytes.
func TestSnapshotMetadata(t *testing.T) {
	onEach(t, 4*lab.GiB, func(plain *lab.Lab, _ lab.Kind) {
		l := &metadataLab{plain}
		seed := rand.Uint64()
		l.T.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		r := lab.VolumeRequest("origin", metadataSize, site.Block())
		r.Parameters[volume.ParamProvisioning] = string(volume.Thin)
		m := l.Mounted(r)
		scribble(l.T, random, m.Target, 600, 0)
		first := l.Snapshot(m.Volume.VolumeId, "first")
		scribble(l.T, random, m.Target, 100, 20)
		second := l.Snapshot(m.Volume.VolumeId, "second")
		a, b := l.content(first, "a"), l.content(second, "b")
		zero := make([]byte, len(a))

		allocated := l.allocated(first.SnapshotId, 0, 0)
		checkUnlisted(l.T, "allocated", allocated, zero, a)
		delta := l.delta(first.SnapshotId, second.SnapshotId, 0, 0)
		checkUnlisted(l.T, "delta", delta, a, b)
		if sum := total(delta); sum == 0 || sum > metadataSize/4 {
			l.T.Errorf("a delta of 120 small changes lists %d bytes", sum)
		}
		if same := l.delta(first.SnapshotId, first.SnapshotId, 0, 0); total(same) != 0 {
			l.T.Errorf("a snapshot differs from itself in %d bytes", total(same))
		}
		for range 10 {
			from := random.Int64N(metadataSize)
			checkTail(l.T, delta, l.delta(first.SnapshotId, second.SnapshotId, from, 1+random.Int32N(50)), from)
			checkTail(l.T, allocated, l.allocated(first.SnapshotId, from, 1+random.Int32N(50)), from)
		}
		l.badMetadataRequests(first.SnapshotId)
		l.Remove(m)
	})
}

func (l *metadataLab) badMetadataRequests(id string) {
	missing := string(volume.NewRepositoryID()) + "/" + string(volume.NewSnapshotID())
	for _, c := range []struct {
		id     string
		offset int64
		want   codes.Code
	}{
		{"", 0, codes.InvalidArgument},
		{missing, 0, codes.NotFound},
		{"../x", 0, codes.NotFound},
		{id, -1, codes.OutOfRange},
		{id, metadataSize + 1, codes.OutOfRange},
	} {
		stream, err := l.GetMetadataAllocated(l.T.Context(), &csi.GetMetadataAllocatedRequest{SnapshotId: c.id, StartingOffset: c.offset})
		if err == nil {
			_, err = stream.Recv()
		}
		lab.WantCode(l.T, err, c.want)
	}
}

// scribble writes random data in places aligned to 512 bytes and of many
// lengths, and discards some ranges.
func scribble(t *testing.T, random *rand.Rand, device string, writes, discards int) {
	t.Helper()
	f, err := os.OpenFile(device, os.O_RDWR, 0)
	lab.Must(t, err)
	defer f.Close()
	for range writes {
		length := (1 + random.Int64N(32)) * 512
		offset := random.Int64N((metadataSize-length)/512) * 512
		body := make([]byte, length)
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		_, err := f.WriteAt(body, offset)
		lab.Must(t, err)
	}
	for range discards {
		offset := random.Int64N(metadataSize/lab.MiB-1) * lab.MiB
		lab.Must(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, 64<<10))
	}
	lab.Must(t, f.Sync())
}

type extent struct{ offset, size int64 }

// metadataStream is either of the service's streams.
type metadataStream[T any] interface{ Recv() (T, error) }

type metadataReply interface {
	GetBlockMetadata() []*csi.BlockMetadata
	GetVolumeCapacityBytes() int64
	GetBlockMetadataType() csi.BlockMetadataType
}

func collect[T metadataReply](t *testing.T, stream metadataStream[T], err error, maxResults int32) (all []extent) {
	t.Helper()
	lab.Must(t, err)
	for {
		reply, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return all
		}
		lab.Must(t, err)
		blocks := reply.GetBlockMetadata()
		if maxResults > 0 && len(blocks) > int(maxResults) {
			t.Fatalf("%d results in a message, want at most %d", len(blocks), maxResults)
		}
		if reply.GetVolumeCapacityBytes() != metadataSize || reply.GetBlockMetadataType() != csi.BlockMetadataType_VARIABLE_LENGTH {
			t.Fatalf("got capacity %d and type %s", reply.GetVolumeCapacityBytes(), reply.GetBlockMetadataType())
		}
		for _, b := range blocks {
			if len(all) > 0 && b.ByteOffset < all[len(all)-1].offset+all[len(all)-1].size {
				t.Fatalf("range at %d does not ascend", b.ByteOffset)
			}
			all = append(all, extent{b.ByteOffset, b.SizeBytes})
		}
	}
}

func (l *metadataLab) allocated(id string, from int64, maxResults int32) []extent {
	stream, err := l.GetMetadataAllocated(l.T.Context(), &csi.GetMetadataAllocatedRequest{SnapshotId: id, StartingOffset: from, MaxResults: maxResults})
	return collect(l.T, stream, err, maxResults)
}

func (l *metadataLab) delta(base, target string, from int64, maxResults int32) []extent {
	stream, err := l.GetMetadataDelta(l.T.Context(), &csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: target, StartingOffset: from, MaxResults: maxResults})
	return collect(l.T, stream, err, maxResults)
}

// content restores a snapshot and reads all of it.
func (l *metadataLab) content(s *csi.Snapshot, name string) []byte {
	r := lab.VolumeRequest("read-"+name, s.SizeBytes, site.Block())
	r.VolumeContentSource = lab.FromSnapshot(s.SnapshotId)
	m := l.Mounted(r)
	body, err := os.ReadFile(m.Target)
	lab.Must(l.T, err)
	l.Remove(m)
	return body
}

// checkUnlisted fails where two contents differ outside of the listed ranges.
func checkUnlisted(t *testing.T, what string, listed []extent, a, b []byte) {
	t.Helper()
	if len(a) != len(b) {
		t.Fatalf("%s: sizes %d and %d", what, len(a), len(b))
	}
	at := int64(0)
	for _, e := range append(listed, extent{int64(len(a)), 0}) {
		if !bytes.Equal(a[at:e.offset], b[at:e.offset]) {
			t.Fatalf("%s: bytes %d to %d are not listed but differ", what, at, e.offset)
		}
		at = e.offset + e.size
	}
}

// checkTail compares a listing that began at an offset with the whole one: they
// must cover the same bytes from there on.
func checkTail(t *testing.T, whole, tail []extent, from int64) {
	t.Helper()
	cover := func(list []extent) []bool {
		blocks := make([]bool, metadataSize/4096)
		for _, e := range list {
			for at := max(e.offset, from) / 4096; at < (e.offset+e.size+4095)/4096; at++ {
				blocks[at] = true
			}
		}
		return blocks
	}
	want, got := cover(whole), cover(tail)
	for i := from/4096 + 1; i < int64(len(want)); i++ {
		if want[i] != got[i] {
			t.Fatalf("from offset %d: block %d listed: %v, want %v", from, i, got[i], want[i])
		}
	}
}

func total(list []extent) (sum int64) {
	for _, e := range list {
		sum += e.size
	}
	return sum
}
