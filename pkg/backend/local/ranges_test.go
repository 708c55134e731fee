package local

import (
	"bytes"
	"iter"
	"slices"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// collectRanges gathers a stream, and sees that it is in order and in range.
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
				if b.Pools(t.Context())[0].Type == volume.BtrfsPool { // moves every extent, for all who share it
					backendtest.Command(t, "btrfs", "balance", "start", "-d", b.options.Pools[0].Path)
					v.compareAll()
				}
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
