package local

import (
	"errors"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/volume"
)

// TestRoundIsShared: who asks while it is being done is not served by that, and
// all of those share the next.
func TestRoundIsShared(t *testing.T) {
	t.Parallel()
	var r round
	var runs atomic.Int32
	begun, goOn, fault := make(chan struct{}, 10), make(chan struct{}), errors.New("of the second")
	results := make(chan error, 10)
	ask := func() {
		results <- r.do(func() error {
			begun <- struct{}{}
			<-goOn
			if runs.Add(1) == 2 {
				return fault
			}
			return nil
		})
	}
	go ask()
	<-begun
	for range 9 {
		go ask()
	}
	for r.ask(0) < 10 {
		<-time.After(time.Millisecond)
	}
	close(goOn)
	if err := <-results; err != nil {
		t.Errorf("the first: %v, want nothing of those who asked later", err)
	}
	for range 9 {
		if err := <-results; !errors.Is(err, fault) {
			t.Errorf("%v, want what the second round gave", err)
		}
	}
	if n := runs.Load(); n != 2 {
		t.Errorf("it was done %d times, want twice", n)
	}
}

// TestOnlyTheNeedyWaitForRoom: while a create waits for the room of a volume that
// was deleted and that btrfs cannot clean away yet, since its file is open, what
// fits without that room goes on.
func TestOnlyTheNeedyWaitForRoom(t *testing.T) {
	t.Parallel()
	h := newHouse(t, volume.BtrfsPool, 1024*mib)
	s := h.store()
	m := s.medium.(btrfs)
	m.cleaning.limit = time.Hour
	small, big := h.create(thickClass(), 16*mib), h.create(thickClass(), 256*mib)
	held, err := os.Open(m.disk(s.volume(big)))
	h.must(err)
	t.Cleanup(func() { held.Close() }) // also where the test fails: nothing waits for an hour
	h.must(h.DeleteVolume(h.Context(), big))

	needy := make(chan error, 2)
	r := request(thickClass(), s.space.roughlyLeft()/volume.SizeUnit*volume.SizeUnit+64*mib)
	go func() {
		_, err := h.CreateVolume(h.Context(), r)
		needy <- err
	}()
	for m.cleaning.round.ask(0) == 0 {
		<-time.After(time.Millisecond)
	}
	others := make(chan error, 1)
	go func() { others <- h.othersGoOn(small) }()
	select {
	case err := <-others:
		h.must(err)
	case err := <-needy:
		h.Errorf("create without the room for it: %v, want it to wait", err)
	case <-time.After(20 * time.Second):
		h.Fatal("calls that need no room of what was deleted wait for it")
	}
	go func() { // asks for all that there will be
		_, err := h.Capacity(h.Context(), thickClass())
		needy <- err
	}()
	held.Close()
	h.must(m.settle()) // wakes what cleans
	h.must(<-needy)
	h.must(<-needy)
	h.deleteAll()
}

// othersGoOn makes calls that need little room.
func (h *house) othersGoOn(id volume.ID) error {
	r := request(thickClass(), 4*mib)
	_, err := h.CreateVolume(h.Context(), r)
	s := cutOf(id, volume.FilesystemConsistent)
	_, cutErr := h.CreateSnapshot(h.Context(), s)
	_, healthErr := h.Health(h.Context())
	return errors.Join(err, cutErr, healthErr, h.DeleteSnapshot(h.Context(), s.ID), h.DeleteVolume(h.Context(), r.ID))
}

// TestQuietIsClean: on btrfs a cut waits for deleted subvolumes to be gone before
// it holds anybody.
func TestQuietIsClean(t *testing.T) {
	t.Parallel()
	h := newHouse(t, volume.BtrfsPool, 384*mib)
	s := h.store()
	m := s.medium.(btrfs)
	m.cleaning.limit = time.Hour
	id := h.create(thickClass(), 16*mib)
	held, err := os.Open(m.disk(s.volume(id)))
	h.must(err)
	t.Cleanup(func() { held.Close() })
	h.must(h.DeleteVolume(h.Context(), id))
	var open atomic.Bool
	open.Store(true)
	quiet := make(chan error, 1)
	go func() {
		err := m.quiet()
		if open.Load() {
			h.Error("quiet while a deleted subvolume is there")
		}
		quiet <- err
	}()
	for m.cleaning.round.ask(0) == 0 && len(quiet) == 0 {
		<-time.After(time.Millisecond)
	}
	open.Store(false)
	held.Close()
	h.must(m.settle()) // wakes what cleans
	h.must(<-quiet)
	h.deleteAll()
}
