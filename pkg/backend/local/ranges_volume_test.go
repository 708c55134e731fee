package local

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/volume"
)

const rangesBlock = 4096

// onRangePools runs a test on both kinds of pool.
func onRangePools(t *testing.T, sizeBytes int64, test func(t *testing.T, b *Backend)) {
	for _, as := range []volume.PoolType{volume.XFSPool, volume.BtrfsPool} {
		t.Run(string(as), func(t *testing.T) {
			root := backendtest.Pool(t, as, sizeBytes)
			b, err := Open(t.Context(), Options{Pools: []PoolConfig{{Name: "p", Path: root}}, Attacher: &loop.Attacher{}})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { b.Close(context.Background()) })
			test(t, b)
		})
	}
}

// rangesVolume is a volume whose test knows which blocks were touched when.
type rangesVolume struct {
	*testing.T
	b       *Backend
	id      volume.ID
	size    int64
	thin    bool
	random  *rand.Rand
	touched map[int64]int // block -> number of snapshots when it was touched last
	cuts    []volume.SnapshotID
}

func newRangesVolume(t *testing.T, b *Backend, p volume.Provisioning, from backend.Source, size int64) *rangesVolume {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	v := &rangesVolume{T: t, b: b, id: volume.NewID(), size: size, thin: p == volume.Thin, random: rand.New(rand.NewPCG(seed, 0)), touched: map[int64]int{}}
	class := volume.Class{Backend: volume.BackendLocal, Provisioning: p, MaxSnapshotPause: time.Minute}
	v.must(discard1(b.CreateVolume(t.Context(), backend.CreateVolumeRequest{ID: v.id, SizeBytes: size, Class: class, Source: from})))
	t.Cleanup(func() {
		if err := b.DeleteVolume(context.Background(), v.id); err != nil {
			t.Error(err)
		}
	})
	return v
}

func discard1[V any](_ V, err error) error { return err }

func (v *rangesVolume) must(err error) {
	v.Helper()
	if err != nil {
		v.Fatal(err)
	}
}

// change writes, discards and zeroes at random.
func (v *rangesVolume) change(times int) {
	v.Helper()
	d, err := v.b.Attach(v.Context(), backend.AttachRequest{ID: v.id})
	v.must(err)
	f, err := os.OpenFile(d.Path, os.O_RDWR, 0)
	v.must(err)
	defer f.Close()
	for range times {
		blocks := v.size / rangesBlock
		count := 1 + v.random.Int64N(16)
		first := v.random.Int64N(blocks - count)
		off, n := first*rangesBlock, count*rangesBlock
		switch kind := v.random.IntN(10); {
		case kind == 0 && v.thin:
			v.must(rangesIoctl(f, unix.BLKDISCARD, off, n))
		case kind <= 1:
			v.must(rangesIoctl(f, unix.BLKZEROOUT, off, n))
		case kind == 2: // part of a block
			count = 1
			v.must(discard1(f.WriteAt([]byte{byte(v.random.Uint32())}, off+v.random.Int64N(rangesBlock))))
		case kind == 3: // zeros
			v.must(discard1(f.WriteAt(make([]byte, n), off)))
		default:
			v.must(discard1(f.WriteAt(bytes.Repeat([]byte{byte(v.random.Uint32())}, int(n)), off)))
		}
		if v.random.IntN(20) == 0 {
			v.must(f.Sync())
		}
		for i := range count {
			v.touched[first+i] = len(v.cuts)
		}
	}
}

func rangesIoctl(f *os.File, request uintptr, offset, length int64) error {
	argument := [2]uint64{uint64(offset), uint64(length)}
	return ioctl(f, request, unsafe.Pointer(&argument))
}

// cut takes a snapshot: of the volume at rest, or of its device in use.
func (v *rangesVolume) cut() volume.SnapshotID {
	v.Helper()
	if v.random.IntN(2) == 0 {
		v.must(v.b.Detach(v.Context(), v.id))
	}
	id := volume.NewSnapshotID()
	v.must(discard1(v.b.CreateSnapshot(v.Context(), backend.CreateSnapshotRequest{ID: id, Volume: v.id, Consistency: volume.CrashConsistent})))
	v.cuts = append(v.cuts, id)
	v.Cleanup(func() {
		if err := v.b.DeleteSnapshot(context.Background(), id); err != nil {
			v.Error(err)
		}
	})
	return id
}

func (v *rangesVolume) grow(more int64) {
	v.Helper()
	v.size += more
	v.must(discard1(v.b.ExpandVolume(v.Context(), v.id, v.size)))
}

func (v *rangesVolume) bytes(id volume.SnapshotID) []byte {
	v.Helper()
	p, err := v.b.findSnapshot(v.Context(), id)
	v.must(err)
	content, err := os.ReadFile(p.medium.disk(p.dir))
	v.must(err)
	return content
}
