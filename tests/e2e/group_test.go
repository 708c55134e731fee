package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// TestGroupSnapshotOrder has a writer that counts up on two volumes in turn,
// each write synced before the next: whatever the moment of the cut, the second
// volume's counter is at most the first's, and at most one behind it.
func TestGroupSnapshotOrder(t *testing.T) {
	onEach(t, 6*lab.GiB, func(l *lab.Lab, _ lab.Kind) {
		a := l.Mounted(lab.VolumeRequest("a", 64*lab.MiB, site.Filesystem("ext4")))
		b := l.Mounted(lab.VolumeRequest("b", 320*lab.MiB, site.Filesystem("xfs")))
		w := startWriter(l.T, a.Target, b.Target)
		for round := range 5 {
			w.waitFor(l.T, 20)
			reply, err := l.CreateVolumeGroupSnapshot(l.T.Context(), groupRequest(fmt.Sprint("group-", round), a, b))
			lab.Must(l.T, err)
			checkGroup(l, reply.GroupSnapshot, a, b)
			again, err := l.CreateVolumeGroupSnapshot(l.T.Context(), groupRequest(fmt.Sprint("group-", round), b, a))
			lab.Must(l.T, err)
			if again.String() != reply.String() {
				l.T.Errorf("a retry was answered with %v, want %v", again, reply)
			}
			checkOrder(l, reply.GroupSnapshot, a, b, round)
		}
		lab.Must(l.T, w.stop())
		l.Remove(a)
		l.Remove(b)
		lab.Must(l.T, l.Leftovers())
	})
}

func groupRequest(name string, members ...*site.Mounted) *csi.CreateVolumeGroupSnapshotRequest {
	r := &csi.CreateVolumeGroupSnapshotRequest{Name: name}
	for _, m := range members {
		r.SourceVolumeIds = append(r.SourceVolumeIds, m.Volume.VolumeId)
	}
	return r
}

// checkGroup looks at the reply, at what Get says, and at the rules for members.
func checkGroup(l *lab.Lab, g *csi.VolumeGroupSnapshot, members ...*site.Mounted) {
	l.T.Helper()
	ids := memberIDs(g)
	if len(ids) != len(members) || !g.ReadyToUse || g.CreationTime == nil {
		l.T.Fatalf("got %v", g)
	}
	for _, s := range g.Snapshots {
		if s.GroupSnapshotId != g.GroupSnapshotId || !s.ReadyToUse || s.SizeBytes == 0 {
			l.T.Fatalf("member %v", s)
		}
	}
	got, err := l.GetVolumeGroupSnapshot(l.T.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId, SnapshotIds: ids})
	lab.Must(l.T, err)
	if got.GroupSnapshot.String() != g.String() {
		l.T.Errorf("Get says %v, Create said %v", got.GroupSnapshot, g)
	}
	_, err = l.GetVolumeGroupSnapshot(l.T.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId, SnapshotIds: ids[:1]})
	lab.WantCode(l.T, err, codes.InvalidArgument)
	_, err = l.DeleteSnapshot(l.T.Context(), &csi.DeleteSnapshotRequest{SnapshotId: ids[0]})
	lab.WantCode(l.T, err, codes.InvalidArgument, g.GroupSnapshotId)
}

func memberIDs(g *csi.VolumeGroupSnapshot) (ids []string) {
	for _, s := range g.Snapshots {
		ids = append(ids, s.SnapshotId)
	}
	return ids
}

// checkOrder restores both members, reads their counters, and deletes
// everything again.
func checkOrder(l *lab.Lab, g *csi.VolumeGroupSnapshot, a, b *site.Mounted, round int) {
	l.T.Helper()
	var counters [2]uint64
	for i, m := range []*site.Mounted{a, b} {
		at := slices.IndexFunc(g.Snapshots, func(s *csi.Snapshot) bool { return s.SourceVolumeId == m.Volume.VolumeId })
		r := lab.VolumeRequest(fmt.Sprintf("restored-%d-%d", round, i), m.Volume.CapacityBytes, m.Capability)
		r.VolumeContentSource = lab.FromSnapshot(g.Snapshots[at].SnapshotId)
		restored := l.Mounted(r)
		body, err := os.ReadFile(filepath.Join(restored.Target, "counter"))
		lab.Must(l.T, err)
		counters[i] = binary.BigEndian.Uint64(body)
		l.Remove(restored)
	}
	if counters[1] > counters[0] || counters[0] > counters[1]+1 {
		l.T.Errorf("round %d: the counters are %d and %d: not a cut between two writes", round, counters[0], counters[1])
	}
	_, err := l.DeleteVolumeGroupSnapshot(l.T.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId, SnapshotIds: memberIDs(g)})
	lab.Must(l.T, err)
	_, err = l.GetVolumeGroupSnapshot(l.T.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: g.GroupSnapshotId, SnapshotIds: memberIDs(g)})
	lab.WantCode(l.T, err, codes.NotFound)
}

// writer counts up in the file "counter" of several directories in turn.
type writer struct {
	count atomic.Uint64
	quit  context.CancelFunc
	done  chan error
}

func startWriter(t *testing.T, dirs ...string) *writer {
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{quit: cancel, done: make(chan error, 1)}
	var files []*os.File
	for _, dir := range dirs {
		f, err := os.Create(filepath.Join(dir, "counter"))
		lab.Must(t, err)
		files = append(files, f)
	}
	go func() { w.done <- w.run(ctx, files) }()
	t.Cleanup(func() { w.quit() })
	return w
}

func (w *writer) run(ctx context.Context, files []*os.File) error {
	for n := uint64(1); ctx.Err() == nil; n++ {
		for _, f := range files {
			if _, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, n), 0); err != nil {
				return err
			}
			if err := f.Sync(); err != nil {
				return err
			}
		}
		w.count.Add(1)
	}
	for _, f := range files {
		f.Close()
	}
	return nil
}

// waitFor waits until the writer has made this many more rounds.
func (w *writer) waitFor(t *testing.T, rounds uint64) {
	t.Helper()
	from := w.count.Load()
	lab.Eventually(t, func() error {
		if n := w.count.Load(); n < from+rounds {
			return fmt.Errorf("the writer made %d rounds", n-from)
		}
		return nil
	})
}

// stop ends the writer and returns what went wrong with its writes.
func (w *writer) stop() error {
	w.quit()
	return <-w.done
}

// TestGroupSnapshotRefused: what cannot be frozen cannot be in a group, and
// nothing is left of the attempt.
func TestGroupSnapshotRefused(t *testing.T) {
	onEachPool(t, 4*lab.GiB, func(l *lab.Lab, _ volume.PoolType) {
		a := l.Mounted(lab.VolumeRequest("a", 64*lab.MiB, site.Filesystem("ext4")))
		raw := l.Mounted(lab.VolumeRequest("raw", 64*lab.MiB, site.Block()))
		w := startWriter(l.T, a.Target)
		_, err := l.CreateVolumeGroupSnapshot(l.T.Context(), groupRequest("group", a, raw))
		lab.WantCode(l.T, err, codes.FailedPrecondition, raw.Volume.VolumeId)
		w.waitFor(l.T, 10)
		missing := groupRequest("group", a)
		missing.SourceVolumeIds = append(missing.SourceVolumeIds, string(volume.NewID()))
		_, err = l.CreateVolumeGroupSnapshot(l.T.Context(), missing)
		lab.WantCode(l.T, err, codes.NotFound, missing.SourceVolumeIds[1])
		_, err = l.DeleteVolumeGroupSnapshot(l.T.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: "never-was"})
		lab.Must(l.T, err)
		lab.Must(l.T, w.stop())
		l.Remove(a)
		l.Remove(raw)
		lab.Must(l.T, l.Leftovers())
	})
}
