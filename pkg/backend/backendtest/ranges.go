package backendtest

import (
	"bytes"
	"context"
	"iter"
	"os"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var ranges = []test{
	{"RangesAgainstBytes", testRangesAgainstBytes},
	{"RangesOfAMountedVolume", testRangesOfAMountedVolume},
	{"RangesRefused", testRangesRefused},
	{"RangesCancelled", testRangesCancelled},
}

// cutContent is a snapshot and what is in it.
type cutContent struct {
	backend.Snapshot
	content []byte
}

func testRangesAgainstBytes(s *scene) {
	v := s.blank()
	var cuts []cutContent
	cut := func() {
		s.Helper()
		c := cutContent{Snapshot: s.snapshot(v.ID)}
		c.content = s.readSnapshot(c.Snapshot)
		cuts = append(cuts, c)
	}
	cut() // of a blank volume
	f := s.openDevice(s.attach(v.ID, false).Path, os.O_RDWR)
	write := func(offset int64, content []byte) {
		s.Helper()
		_, err := f.WriteAt(content, offset)
		s.must(err)
	}
	write(0, pattern(1, 1<<20))
	write(3<<20, pattern(2, 8*block))
	cut()
	write(block, pattern(3, 3*block))
	write(1<<20+512, pattern(4, 512)) // a part of a block
	write(3<<20, pattern(2, 8*block)) // the same again
	cut()
	s.must(f.Sync())
	s.must(blockIoctl(f, unix.BLKZEROOUT, 512<<10, 256<<10))
	if err := blockIoctl(f, unix.BLKDISCARD, 3<<20, 4*block); err != nil && s.Class.Provisioning == volume.Thin {
		s.Errorf("discard on a thin volume: %v", err)
	}
	cut()
	_, err := s.Backend.ExpandVolume(s.Context(), v.ID, sizeBytes+1<<20)
	s.must(err)
	write(sizeBytes+block, pattern(5, block))
	s.must(f.Close())
	s.detach(v.ID)
	cut()
	cut() // without a change
	s.wantRanges(cuts)
	last := len(cuts) - 1
	if got := s.collect(s.Backend.Delta(s.Context(), cuts[last-1].ID, cuts[last].ID, 0), 0, cuts[last].SizeBytes); len(got) > 0 {
		s.Errorf("delta without a change: %v, want nothing", got)
	}
}

func testRangesOfAMountedVolume(s *scene) {
	m := s.mount()
	var cuts []cutContent
	for i := range 4 {
		s.must(m.put("file", string(bytes.Repeat([]byte{byte(i)}, 100_000*i))))
		c := cutContent{Snapshot: s.snapshot(m.id)}
		c.content = s.readSnapshot(c.Snapshot)
		cuts = append(cuts, c)
	}
	s.wantRanges(cuts)
}

// wantRanges holds what is yielded for every snapshot, and for every pair, to
// their bytes.
func (s *scene) wantRanges(cuts []cutContent) {
	s.Helper()
	for j, target := range cuts {
		allocated := func(offset int64) iter.Seq2[backend.Extent, error] {
			return s.Backend.Allocated(s.Context(), target.ID, offset)
		}
		s.wantCover("allocated", allocated, make([]byte, len(target.content)), target.content)
		for i, base := range cuts[:j+1] {
			delta := func(offset int64) iter.Seq2[backend.Extent, error] {
				return s.Backend.Delta(s.Context(), base.ID, target.ID, offset)
			}
			from := append(slices.Clone(base.content), make([]byte, len(target.content)-len(base.content))...)
			s.wantCover("delta", delta, from, target.content)
			if i == j && len(s.collect(delta(0), 0, target.SizeBytes)) > 0 {
				s.Error("delta of a snapshot to itself: ranges, want none")
			}
		}
	}
}

// wantCover sees that a stream covers all differences, and that it can begin
// anywhere.
func (s *scene) wantCover(what string, from func(offset int64) iter.Seq2[backend.Extent, error], base, target []byte) {
	s.Helper()
	size := int64(len(target))
	full := s.collect(from(0), 0, size)
	patched := slices.Clone(base)
	for _, e := range full {
		copy(patched[e.Offset:e.Offset+e.Length], target[e.Offset:])
	}
	s.wantBytes("base with what is "+what+" laid over it", patched, target)
	offsets := []int64{size, size / 2, 1}
	for _, e := range full[:min(len(full), 3)] {
		offsets = append(offsets, e.Offset, e.Offset+e.Length/2+1, e.Offset+e.Length)
	}
	for _, offset := range offsets {
		if got, want := s.collect(from(offset), offset, size), clip(full, offset); !slices.Equal(got, want) {
			s.Errorf("%s from %d on: %v, want %v", what, offset, got, want)
		}
	}
}

func clip(full []backend.Extent, offset int64) (rest []backend.Extent) {
	for _, e := range full {
		if before := offset - e.Offset; before > 0 {
			e = backend.Extent{Offset: offset, Length: e.Length - before}
		}
		if e.Length > 0 {
			rest = append(rest, e)
		}
	}
	return rest
}

// collect reads a stream to its end, and sees that it ascends and stays inside.
func (s *scene) collect(stream iter.Seq2[backend.Extent, error], offset, size int64) (all []backend.Extent) {
	s.Helper()
	end := offset
	for e, err := range stream {
		s.must(err)
		if e.Offset < end || e.Length <= 0 || e.Offset+e.Length > size {
			s.Fatalf("range %+v after %d, in %d bytes: want them ascending and inside", e, end, size)
		}
		all, end = append(all, e), e.Offset+e.Length
	}
	return all
}

func testRangesRefused(s *scene) {
	origin := s.blank()
	s.write(origin.ID, 0, pattern(1, sizeBytes))
	old, young := s.snapshot(origin.ID), s.snapshot(origin.ID)
	clone := s.create(s.request(sizeBytes, backend.Source{Snapshot: old.ID}))
	ofClone := s.snapshot(clone.ID)
	ctx := s.Context()
	s.wantEnd("offset beyond the end", s.Backend.Allocated(ctx, old.ID, sizeBytes+1), fault.OutOfRange)
	s.wantEnd("offset far beyond the end", s.Backend.Delta(ctx, old.ID, young.ID, 1<<62), fault.OutOfRange)
	s.wantEnd("negative offset", s.Backend.Delta(ctx, old.ID, young.ID, -1), fault.OutOfRange)
	s.wantEnd("base younger than target", s.Backend.Delta(ctx, young.ID, old.ID, 0), fault.Invalid)
	s.wantEnd("target of a clone", s.Backend.Delta(ctx, old.ID, ofClone.ID, 0), fault.Invalid)
	s.wantEnd("base of a clone", s.Backend.Delta(ctx, ofClone.ID, young.ID, 0), fault.Invalid)
	for _, id := range []volume.SnapshotID{volume.NewSnapshotID(), "", "../etc"} {
		s.wantEnd("unknown snapshot", s.Backend.Allocated(ctx, id, 0), fault.NotFound)
		s.wantEnd("unknown base", s.Backend.Delta(ctx, id, young.ID, 0), fault.NotFound)
		s.wantEnd("unknown target", s.Backend.Delta(ctx, old.ID, id, 0), fault.NotFound)
	}
}

// wantEnd reads a stream that yields nothing but an error.
func (s *scene) wantEnd(what string, stream iter.Seq2[backend.Extent, error], kind fault.Kind) {
	s.Helper()
	elements, last := 0, error(nil)
	for _, err := range stream {
		elements, last = elements+1, err
	}
	s.wantKind(what, last, kind)
	if elements > 1 {
		s.Errorf("%s: %d elements, want the error alone", what, elements)
	}
}

// testRangesCancelled: a stream that cannot go on says so.
func testRangesCancelled(s *scene) {
	v := s.blank()
	s.attach(v.ID, false)
	for at := int64(0); at < sizeBytes; at += 64 * block {
		s.write(v.ID, at, pattern(1, block))
	}
	cut := s.snapshot(v.ID)
	ctx, cancel := context.WithCancel(s.Context())
	cancel()
	s.wantEnd("cancelled before", s.Backend.Allocated(ctx, cut.ID, 0), fault.Canceled)
	stopped := 0
	for range s.Backend.Allocated(s.Context(), cut.ID, 0) {
		stopped++
		break
	}
	if stopped != 1 {
		s.Errorf("stopped after %d elements, want 1", stopped)
	}
	s.must(s.Backend.DeleteSnapshot(s.Context(), cut.ID))
	s.wantEnd("deleted before", s.Backend.Allocated(s.Context(), cut.ID, 0), fault.NotFound)
}
