package local

import (
	"bytes"
	"context"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/fault"
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

// collect gathers a stream, and sees that it is in order and in range.
func collectRanges(t *testing.T, stream iter.Seq2[backend.Extent, error], offset, size int64) (all []backend.Extent) {
	t.Helper()
	end := offset
	for e, err := range stream {
		if err != nil {
			t.Fatal(err)
		}
		if e.Offset < end || e.Length <= 0 || e.Offset+e.Length > size {
			t.Fatalf("range %+v after %d in a snapshot of %d bytes: want them ascending, apart and inside", e, end, size)
		}
		if len(all) > 0 && e.Offset == end {
			t.Fatalf("range %+v touches the one before: want them as one", e)
		}
		all, end = append(all, e), e.Offset+e.Length
	}
	return all
}

// compare holds the ranges to the bytes: what is not listed must be equal, and
// what is listed must have been touched.
func (v *rangesVolume) compare(what string, ranges []backend.Extent, base, target []byte, since int) {
	v.Helper()
	base = append(slices.Clone(base), make([]byte, len(target)-len(base))...)
	listed := map[int64]bool{}
	for _, e := range ranges {
		for at := e.Offset; at < e.Offset+e.Length; at += rangesBlock {
			listed[at/rangesBlock] = true
			if touched, ok := v.touched[at/rangesBlock]; !ok || touched < since {
				v.Errorf("%s: block %d is listed, but was not touched", what, at/rangesBlock)
				return
			}
		}
	}
	for i := int64(0); i < int64(len(target))/rangesBlock; i++ {
		at := i * rangesBlock
		if !listed[i] && !bytes.Equal(base[at:at+rangesBlock], target[at:at+rangesBlock]) {
			v.Errorf("%s: block %d differs, and is not listed", what, i)
			return
		}
	}
}

func TestRangesAgainstBytes(t *testing.T) {
	onRangePools(t, 2<<30, func(t *testing.T, b *Backend) {
		for _, p := range []volume.Provisioning{volume.Thick, volume.Thin} {
			t.Run(string(p), func(t *testing.T) {
				v := newRangesVolume(t, b, p, backend.Source{}, 8<<20)
				v.cut() // of an empty volume
				for i := range 5 {
					v.change(40)
					v.cut()
					if i%2 == 1 {
						v.grow(2 << 20)
					}
				}
				v.compareAll()
				clone := newRangesVolume(t, b, p, backend.Source{Snapshot: v.cuts[2]}, 16<<20)
				clone.cut()
				clone.change(40)
				clone.cut()
				clone.compareAll()
				for _, own := range clone.cuts {
					wantRangesFault(t, b.Delta(t.Context(), v.cuts[2], own, 0), fault.Invalid)
				}
			})
		}
	})
}

// compareAll compares every pair of snapshots, and each with nothing.
func (v *rangesVolume) compareAll() {
	v.Helper()
	ctx := v.Context()
	for j, target := range v.cuts {
		content := v.bytes(target)
		size := int64(len(content))
		full := collectRanges(v.T, v.b.Allocated(ctx, target, 0), 0, size)
		if v.touchedFromBirth() {
			v.compare("allocated in "+string(target), full, nil, content, 0)
		}
		v.clipped(full, size, func(offset int64) iter.Seq2[backend.Extent, error] { return v.b.Allocated(ctx, target, offset) })
		for i, base := range v.cuts[:j+1] {
			delta := collectRanges(v.T, v.b.Delta(ctx, base, target, 0), 0, size)
			if i == j && len(delta) > 0 {
				v.Errorf("delta of a snapshot to itself: %v, want nothing", delta)
			}
			v.compare("delta", delta, v.bytes(base), content, i+1)
			v.clipped(delta, size, func(offset int64) iter.Seq2[backend.Extent, error] { return v.b.Delta(ctx, base, target, offset) })
		}
		for _, younger := range v.cuts[j+1:] {
			wantRangesFault(v.T, v.b.Delta(ctx, younger, target, 0), fault.Invalid)
		}
	}
}

// touchedFromBirth reports whether all that the volume holds is known to be of
// this test's making.
func (v *rangesVolume) touchedFromBirth() bool {
	got, err := v.b.Volume(v.Context(), v.id)
	v.must(err)
	return got.Source == backend.Source{}
}

// clipped starts a stream anywhere: it must be the rest of the full one.
func (v *rangesVolume) clipped(full []backend.Extent, size int64, from func(offset int64) iter.Seq2[backend.Extent, error]) {
	v.Helper()
	for _, offset := range []int64{1, rangesBlock, v.random.Int64N(size), v.random.Int64N(size/512) * 512, size - 1, size} {
		var want []backend.Extent
		for _, e := range full {
			if cut := offset - e.Offset; cut > 0 {
				e = backend.Extent{Offset: offset, Length: e.Length - cut}
			}
			if e.Length > 0 {
				want = append(want, e)
			}
		}
		if got := collectRanges(v.T, from(offset), offset, size); !slices.Equal(got, want) {
			v.Errorf("from %d on: %v, want %v", offset, got, want)
		}
	}
	wantRangesFault(v.T, from(size+1), fault.OutOfRange)
	wantRangesFault(v.T, from(-1), fault.OutOfRange)
}

func wantRangesFault(t *testing.T, stream iter.Seq2[backend.Extent, error], kind fault.Kind) {
	t.Helper()
	var last error
	for _, err := range stream {
		if last != nil {
			t.Errorf("the stream went on after %v", last)
		}
		last = err
	}
	if !fault.Is(last, kind) {
		t.Errorf("stream ended with %v, want kind %q", last, kind)
	}
}
