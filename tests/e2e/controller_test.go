package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// TestPagingSurvivesDeletions deletes the last entry of each page, and others,
// between pages: every entry that stays is seen exactly once.
func TestPagingSurvivesDeletions(t *testing.T) {
	l := lab.Start(t, lab.Pool(program, volume.XFSPool, 2*lab.GiB))
	ctx := t.Context()
	live := map[string]bool{}
	for i := range 20 {
		r := lab.VolumeRequest(fmt.Sprint("volume-", i), 4*lab.MiB, site.Block())
		live[l.Volume(r).VolumeId] = true
	}
	seen := map[string]int{}
	for token := ""; ; {
		page, err := l.ListVolumes(ctx, &csi.ListVolumesRequest{MaxEntries: 3, StartingToken: token})
		lab.Must(t, err)
		for _, e := range page.Entries {
			seen[e.Volume.VolumeId]++
		}
		if token = page.NextToken; token == "" {
			break
		}
		last := page.Entries[len(page.Entries)-1].Volume.VolumeId
		for _, id := range []string{last, notSeen(live, seen)} {
			if id == "" {
				continue
			}
			_, err := l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
			lab.Must(t, err)
			delete(live, id)
		}
	}
	for id := range live {
		if seen[id] != 1 {
			t.Errorf("volume %s was listed %d times, want once", id, seen[id])
		}
	}
	for _, token := range []string{"nonsense", "v1.", "\x00"} {
		_, err := l.ListVolumes(ctx, &csi.ListVolumesRequest{StartingToken: token})
		lab.WantCode(t, err, codes.Aborted, "starting_token")
		_, err = l.ListSnapshots(ctx, &csi.ListSnapshotsRequest{StartingToken: token})
		lab.WantCode(t, err, codes.Aborted, "starting_token")
	}
}

func notSeen(live map[string]bool, seen map[string]int) string {
	for _, id := range slices.Sorted(maps.Keys(live)) {
		if seen[id] == 0 {
			return id
		}
	}
	return ""
}

// TestDuplicates sends every create many times at once through two controllers:
// each answer is the one volume, or Aborted; and nothing else remains.
func TestDuplicates(t *testing.T) {
	o := lab.Pool(program, volume.BtrfsPool, 4*lab.GiB)
	o.Controllers = 2
	l := lab.Start(t, o)
	second, err := l.Site.Clients(1)
	lab.Must(t, err)
	controllers := []site.Clients{l.Clients, second}
	for round := range 10 {
		request := lab.VolumeRequest(fmt.Sprint("volume-", round), 8*lab.MiB, site.Block())
		id := same(t, controllers, func(c site.Clients) (string, error) {
			reply, err := c.CreateVolume(t.Context(), request)
			return reply.GetVolume().GetVolumeId(), err
		})
		snapshot := same(t, controllers, func(c site.Clients) (string, error) {
			reply, err := c.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: fmt.Sprint("snapshot-", round), SourceVolumeId: id})
			return reply.GetSnapshot().String(), err
		})
		if snapshot == "" {
			t.Fatal("no snapshot")
		}
		group := same(t, controllers, func(c site.Clients) (string, error) {
			reply, err := c.CreateVolumeGroupSnapshot(t.Context(), &csi.CreateVolumeGroupSnapshotRequest{Name: fmt.Sprint("group-", round), SourceVolumeIds: []string{id}})
			return reply.GetGroupSnapshot().GetGroupSnapshotId(), err
		})
		deleteAll(t, controllers, id, group)
	}
	lab.Eventually(t, l.Leftovers)
}

// same calls 16 times at once, alternating between controllers, and again until
// one succeeds; every success must be the same.
func same(t *testing.T, controllers []site.Clients, call func(site.Clients) (string, error)) string {
	t.Helper()
	var mu sync.Mutex
	answers := map[string]bool{}
	var faults []error
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			answer, err := call(controllers[i%len(controllers)])
			mu.Lock()
			defer mu.Unlock()
			if err == nil {
				answers[answer] = true
			} else if status.Code(err) != codes.Aborted {
				faults = append(faults, err)
			}
		})
	}
	wg.Wait()
	lab.Must(t, errors.Join(faults...))
	for _, c := range controllers {
		lab.Eventually(t, func() error {
			answer, err := call(c)
			if err == nil {
				answers[answer] = true
			}
			return err
		})
	}
	if len(answers) != 1 {
		t.Fatalf("%d different answers: %v", len(answers), answers)
	}
	return slices.Collect(maps.Keys(answers))[0]
}

// deleteAll deletes a volume and all snapshots, through both controllers at
// once.
func deleteAll(t *testing.T, controllers []site.Clients, id, group string) {
	t.Helper()
	ctx := t.Context()
	list, err := controllers[0].ListSnapshots(ctx, &csi.ListSnapshotsRequest{SourceVolumeId: id})
	lab.Must(t, err)
	var members, single []string
	for _, e := range list.Entries {
		if e.Snapshot.GroupSnapshotId == group {
			members = append(members, e.Snapshot.SnapshotId)
		} else {
			single = append(single, e.Snapshot.SnapshotId)
		}
	}
	if len(members) != 1 || len(single) != 1 {
		t.Fatalf("%d snapshots in the group and %d others, want one of each: %v", len(members), len(single), list)
	}
	each := func(call func(context.Context, site.Clients) error) {
		var wg sync.WaitGroup
		for _, c := range controllers {
			wg.Go(func() { lab.Eventually(t, func() error { return call(ctx, c) }) })
		}
		wg.Wait()
	}
	each(func(ctx context.Context, c site.Clients) error {
		_, err := c.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: group, SnapshotIds: members})
		return err
	})
	each(func(ctx context.Context, c site.Clients) error {
		_, err := c.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: single[0]})
		return err
	})
	each(func(ctx context.Context, c site.Clients) error {
		_, err := c.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id})
		return err
	})
}

// TestManyVolumes takes 200 volumes through their whole life with 16 workers,
// and finds nothing left behind.
func TestManyVolumes(t *testing.T) {
	onEach(t, 8*lab.GiB, func(l *lab.Lab, _ lab.Kind) {
		work := make(chan int)
		faults := make(chan error, 16)
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := range work {
					if err := wholeLife(l, i); err != nil {
						faults <- fmt.Errorf("volume %d: %w", i, err)
						return
					}
				}
			})
		}
		for i := range 200 {
			select {
			case work <- i:
			case err := <-faults:
				l.T.Fatal(err)
			}
		}
		close(work)
		wg.Wait()
		select {
		case err := <-faults:
			l.T.Fatal(err)
		default:
		}
		lab.Must(l.T, l.Leftovers())
	})
}

func wholeLife(l *lab.Lab, i int) error {
	ctx := l.T.Context()
	capability := []*csi.VolumeCapability{site.Filesystem("ext4"), site.Block()}[i%2]
	name := fmt.Sprint("volume-", i)
	reply, err := l.CreateVolume(ctx, lab.VolumeRequest(name, 16*lab.MiB, capability))
	if err != nil {
		return err
	}
	m := l.At(reply.Volume, capability, name)
	if err := l.Mount(ctx, l.Site, m); err != nil {
		return err
	}
	if err := l.Unmount(ctx, l.Site, m); err != nil {
		return err
	}
	_, err = l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: reply.Volume.VolumeId})
	return err
}
