package backendtest

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

var pauses = []test{
	{"PauseKeepsWriteOrder", testPauseKeepsWriteOrder},
	{"PauseRepeated", testPauseRepeated},
	{"PauseLapses", testPauseLapses},
	{"PauseOfWhatCannotBe", testPauseOfWhatCannotBe},
	{"PauseOfRawBlock", testPauseOfRawBlock},
	{"PauseExcludes", testPauseExcludes},
	{"PauseEndsWithItsProcess", testPauseEndsWithItsProcess},
}

// pauseID makes an id up.
func pauseID() backend.PauseID { return backend.PauseID(volume.NewGroupID()) }

// testPauseKeepsWriteOrder: a writer writes each number to one volume and then to
// the other. In snapshots under one pause the second never has a number that the
// first has not.
func testPauseKeepsWriteOrder(s *scene) {
	one, two := s.mount(), s.mount()
	written, stop, done := atomic.Int64{}, make(chan struct{}), make(chan error, 1)
	go func() {
		for i := int64(1); ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			for _, m := range []mounted{one, two} {
				if err := m.put("n", fmt.Sprintf("%09d", i)); err != nil {
					done <- err
					return
				}
			}
			written.Store(i)
		}
	}()
	var first, second [3]backend.Snapshot
	for round := range first {
		for seen := written.Load(); written.Load() < seen+3; {
			time.Sleep(time.Millisecond)
		}
		for attempt := 0; !s.cutBoth(one, two, &first[round], &second[round]); attempt++ {
			if attempt == 5 { // a busy machine may be too slow for the limit
				s.Fatalf("%d pauses in a row lapsed", attempt)
			}
		}
	}
	close(stop)
	s.must(<-done)
	for round := range first {
		a, errA := strconv.Atoi(s.readFile(first[round], "n", "ro,noload"))
		b, errB := strconv.Atoi(s.readFile(second[round], "n", "ro,noload"))
		if errA != nil || errB != nil || a < b || a > b+1 {
			s.Errorf("under one pause: %d and %d (%v, %v), want the same or one less", a, b, errA, errB)
		}
	}
}

// cutBoth snapshots two volumes under one pause, and reports whether that held.
func (s *scene) cutBoth(one, two mounted, first, second *backend.Snapshot) (held bool) {
	s.Helper()
	id := pauseID()
	s.resumeLater(id)
	s.must(s.Backend.Pause(s.Context(), id, []volume.ID{one.id, two.id}))
	cut := func(of mounted, into *backend.Snapshot) bool {
		s.Helper()
		r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: of.id, Consistency: volume.FilesystemConsistent, Pause: id}
		s.removeSnapshotLater(r.ID)
		got, err := s.Backend.CreateSnapshot(s.Context(), r)
		if fault.Is(err, fault.Precondition) {
			return false
		}
		s.must(err)
		if got.Consistency != volume.FilesystemConsistent {
			s.Errorf("cut under a pause: %q, want %q", got.Consistency, volume.FilesystemConsistent)
		}
		*into = got
		return true
	}
	// The first is cut last: writes in between would show.
	all := cut(two, second) && cut(one, first)
	err := s.Backend.Resume(s.Context(), id)
	if fault.Is(err, fault.Precondition) {
		return false
	}
	s.must(err)
	s.must(s.Backend.Resume(s.Context(), id)) // was resumed already
	return all
}

func testPauseRepeated(s *scene) {
	m, rested := s.mount(), s.blank()
	id, both := pauseID(), []volume.ID{m.id, rested.ID}
	s.resumeLater(id)
	s.must(s.Backend.Pause(s.Context(), id, both))
	s.must(s.Backend.Pause(s.Context(), id, both))
	r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: m.id, Consistency: volume.FilesystemConsistent, Pause: id}
	cut := s.cut(r)
	again := s.cut(r)
	s.wantSnapshot("repeated under the pause", again, cut)
	s.cut(backend.CreateSnapshotRequest{Volume: rested.ID, Consistency: volume.FilesystemConsistent, Pause: id})
	s.must(s.Backend.Resume(s.Context(), id))
	s.must(s.Backend.Pause(s.Context(), id, both)) // a late duplicate
	s.wantWriter(m, "after a late duplicate of the pause")
	s.must(s.Backend.Resume(s.Context(), id))
	again, err := s.Backend.CreateSnapshot(s.Context(), r)
	s.must(err)
	s.wantSnapshot("repeated after the pause", again, cut)
	r.ID = volume.NewSnapshotID()
	_, err = s.Backend.CreateSnapshot(s.Context(), r)
	s.wantKind("cut under a pause that is over", err, fault.Precondition)
	s.wantKind("resume a pause that never was", s.Backend.Resume(s.Context(), pauseID()), fault.Precondition)
}

// wantWriter sees that nothing holds a volume's writers.
func (s *scene) wantWriter(m mounted, when string) {
	s.Helper()
	done := make(chan error, 1)
	go func() { done <- m.put("free", when) }()
	select {
	case err := <-done:
		s.must(err)
	case <-time.After(s.PauseLimit * 3 / 4):
		s.Errorf("%s: writers are held", when)
		s.must(<-done)
	}
}

// testPauseLapses: writers go on after the limit, whatever happens, and what was
// cut is void.
func testPauseLapses(s *scene) {
	m := s.mount()
	id := pauseID()
	s.resumeLater(id)
	began := time.Now()
	s.must(s.Backend.Pause(s.Context(), id, []volume.ID{m.id}))
	paused := time.Now()
	s.must(m.put("late", "written when the pause was over"))
	if held, most := time.Since(paused), time.Since(began); most < s.PauseLimit*9/10 || held > s.PauseLimit*2 {
		s.Errorf("writers were held for %v (the call began %v ago), want %v", held, most, s.PauseLimit)
	}
	r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: m.id, Consistency: volume.FilesystemConsistent, Pause: id}
	_, err := s.Backend.CreateSnapshot(s.Context(), r)
	s.wantKind("cut under a pause that lapsed", err, fault.Precondition)
	for range 2 {
		s.wantKind("resume a pause that lapsed", s.Backend.Resume(s.Context(), id), fault.Precondition)
	}
	r.Pause = ""
	s.cut(r) // neither the volume nor the snapshot's id was spoilt
}

// testPauseOfWhatCannotBe: then none is paused.
func testPauseOfWhatCannotBe(s *scene) {
	m, raw := s.mount(), s.blank()
	s.attach(raw.ID, false)
	rows := map[string]struct {
		with volume.ID
		want fault.Kind
	}{
		"a raw block volume in use": {raw.ID, fault.Precondition},
		"an unknown volume":         {volume.NewID(), fault.NotFound},
	}
	if s.Class.Shared() {
		delete(rows, "a raw block volume in use")
	}
	for what, row := range rows {
		id := pauseID()
		s.resumeLater(id)
		for range 2 {
			s.wantKind("pause "+what, s.Backend.Pause(s.Context(), id, []volume.ID{m.id, row.with}), row.want)
			s.wantWriter(m, "after a pause that failed")
		}
		s.wantKind("resume a pause that failed", s.Backend.Resume(s.Context(), id), fault.Precondition)
	}
	s.wantKind("a pause of nothing", s.Backend.Pause(s.Context(), pauseID(), nil), fault.Invalid)
	s.wantKind("a pause without id", s.Backend.Pause(s.Context(), "", []volume.ID{m.id}), fault.Invalid)
}

// testPauseOfRawBlock: where writers can be held without a filesystem, they are.
func testPauseOfRawBlock(s *scene) {
	if !s.Class.Shared() {
		return
	}
	raw := s.blank()
	f := s.openDevice(s.attach(raw.ID, false).Path, os.O_RDWR|syscall.O_DIRECT)
	old, young := aligned(pattern(1, block)), aligned(pattern(2, block))
	_, err := f.WriteAt(old, 0)
	s.must(err)
	id := pauseID()
	s.resumeLater(id)
	s.must(s.Backend.Pause(s.Context(), id, []volume.ID{raw.ID}))
	written := make(chan error, 1)
	go func() { _, err := f.WriteAt(young, 0); written <- err }()
	r := backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: raw.ID, Consistency: volume.FilesystemConsistent, Pause: id}
	cut := s.cut(r)
	if cut.Consistency != volume.CrashConsistent {
		s.Errorf("raw block cut under a pause: %q, want %q", cut.Consistency, volume.CrashConsistent)
	}
	select {
	case err := <-written:
		s.Errorf("a write under a pause came through, with error %v", err)
		written <- nil
	default:
	}
	s.must(s.Backend.Resume(s.Context(), id))
	s.must(<-written)
	s.must(f.Close())
	s.detach(raw.ID)
	s.wantBytes("cut under a pause", s.readSnapshot(cut)[:block], old)
	s.wantBytes("after the pause", s.read(raw.ID)[:block], young)
}

// aligned returns the bytes at an address that direct I/O takes.
func aligned(p []byte) []byte {
	b := make([]byte, len(p)+block)
	skip := -int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) & (block - 1)
	return append(b[skip:skip:skip+len(p)], p...)
}

// testPauseExcludes: what else is to be done with a paused volume waits, within
// its context.
func testPauseExcludes(s *scene) {
	v := s.blank()
	id := pauseID()
	s.resumeLater(id)
	s.must(s.Backend.Pause(s.Context(), id, []volume.ID{v.ID}))
	for what, do := range map[string]func(context.Context) error{
		"delete":        func(ctx context.Context) error { return s.Backend.DeleteVolume(ctx, v.ID) },
		"expand":        func(ctx context.Context) error { return second(s.Backend.ExpandVolume(ctx, v.ID, 2*sizeBytes)) },
		"attach":        func(ctx context.Context) error { return second(s.Backend.Attach(ctx, backend.AttachRequest{ID: v.ID})) },
		"another pause": func(ctx context.Context) error { return s.Backend.Pause(ctx, pauseID(), []volume.ID{v.ID}) },
	} {
		ctx, cancel := context.WithTimeout(s.Context(), 20*time.Millisecond)
		s.wantKind(what+" a paused volume", do(ctx), fault.Busy, fault.Deadline)
		cancel()
	}
	waiter := make(chan error, 1)
	go func() { waiter <- second(s.Backend.ExpandVolume(s.Context(), v.ID, 3*sizeBytes)) }()
	s.wantVolume("while it is paused", s.volume(v.ID), v)
	s.must(s.Backend.Resume(s.Context(), id))
	s.must(<-waiter)
	v.SizeBytes = 3 * sizeBytes
	s.wantVolume("after the pause", s.volume(v.ID), v)
}

func second[V any](_ V, err error) error { return err }

func testPauseEndsWithItsProcess(s *scene) {
	if s.Reopen == nil {
		return
	}
	m := s.mount()
	id := pauseID()
	s.must(s.Backend.Pause(s.Context(), id, []volume.ID{m.id}))
	s.reopen()
	s.wantWriter(m, "after a restart")
	s.wantKind("resume a pause of an earlier process", s.Backend.Resume(s.Context(), id), fault.Precondition)
}
