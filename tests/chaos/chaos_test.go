// Package chaos has many callers use one site through two controllers while its
// processes are killed and stopped at random, and holds every answer to what it
// promised.
//
// Each worker owns some names and knows what each acknowledged call promised: an
// acknowledged volume or snapshot exists, under the same reply however often and
// through whichever controller it is asked for again, and holds what was in it; a
// deleted one is gone. A volume's content is a file with a counter that only
// grows, so a snapshot's content is known to be between what was synced before
// its call and what was written before its answer. Calls that cannot both succeed
// are sent at once through both controllers. Some calls are given up for good,
// and may have succeeded or not. In the end nothing is left behind.
//
// The history comes from a seed, which is printed and which HOLKAS_SEED repeats,
// as far as the machine does. It takes half a minute for each kind of pool, and
// with HOLKAS_SOAK=1 half of a quarter of an hour.
package chaos

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/build"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

const workers = 4

var program string

func TestMain(m *testing.M) {
	built, remove, err := build.Holkas("")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = built
	code := m.Run()
	remove()
	os.Exit(code)
}

// world is the site that all workers use.
type world struct {
	*lab.Lab
	controllers [2]site.Clients
	seed        uint64
	abandoned   atomic.Int64 // calls that were given up and may have made something
}

func (w *world) random(stream uint64) *rand.Rand { return rand.New(rand.NewPCG(w.seed, stream)) }

func TestChaos(t *testing.T) {
	duration := 25 * time.Second
	if os.Getenv("HOLKAS_SOAK") != "" {
		duration = 450 * time.Second
	}
	seed := rand.Uint64()
	if s := os.Getenv("HOLKAS_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		lab.Must(t, err)
	}
	for _, pool := range lab.PoolTypes {
		t.Run(string(pool), func(t *testing.T) {
			t.Logf("HOLKAS_SEED=%d", seed)
			start(t, pool, seed).run(duration)
		})
	}
}

func start(t *testing.T, pool volume.PoolType, seed uint64) *world {
	o := lab.Pool(program, pool, 8*lab.GiB)
	o.Controllers = 2
	o.Args = map[string][]string{"controller": {"--intent-timeout=2s"}}
	w := &world{Lab: lab.Start(t, o), seed: seed}
	for i := range w.controllers {
		var err error
		w.controllers[i], err = w.Site.Clients(i)
		lab.Must(t, err)
	}
	return w
}

// run lets the workers work while processes die, and then looks at what is left.
func (w *world) run(duration time.Duration) {
	ctx, cancel := context.WithTimeout(w.T.Context(), duration)
	defer cancel()
	all := make([]*worker, workers)
	faults := make([]error, workers+1)
	var group sync.WaitGroup
	for i := range all {
		all[i] = newWorker(w, i)
		group.Go(func() {
			if faults[i] = all[i].work(ctx); faults[i] != nil {
				cancel()
			}
		})
	}
	deaths := 0
	group.Go(func() { deaths, faults[workers] = w.haunt(ctx) })
	group.Wait()
	lab.Must(w.T, errors.Join(faults...))
	calls := 0
	for i, worker := range all {
		calls += worker.answered
		faults[i] = worker.finish()
	}
	lab.Must(w.T, errors.Join(faults...))
	w.T.Logf("%d answers, %d deaths and stops, %d calls given up", calls, deaths, w.abandoned.Load())
	if deaths == 0 || calls < 10*workers {
		w.T.Errorf("%d answers and %d deaths: the test does not do its work", calls, deaths)
	}
	lab.Must(w.T, w.removeAbandoned())
	// A controller sweeps half a minute after it starts.
	w.Controller[0].Kill()
	lab.Eventually(w.T, func() error { return w.Controller[0].Start(w.T.Context()) })
	lab.Eventually(w.T, w.Leftovers)
}

// haunt kills processes and starts them again, or stops them for a while, until
// ctx ends; then all of them run.
func (w *world) haunt(ctx context.Context) (deaths int, err error) {
	random := w.random(1000)
	between := func(least, most time.Duration) time.Duration {
		return least + time.Duration(random.Int64N(int64(most-least)))
	}
	for {
		select {
		case <-ctx.Done():
			return deaths, nil
		case <-time.After(between(50*time.Millisecond, 1500*time.Millisecond)):
		}
		p := w.Processes()[random.IntN(len(w.Processes()))]
		deaths++
		if random.IntN(4) == 0 {
			faults := syscall.Kill(p.Pid(), syscall.SIGSTOP)
			time.Sleep(between(20*time.Millisecond, 2*time.Second)) //nolint:forbidigo // the history's own pace
			if err := errors.Join(faults, syscall.Kill(p.Pid(), syscall.SIGCONT)); err != nil {
				return deaths, err
			}
			continue
		}
		p.Kill()
		time.Sleep(between(0, 500*time.Millisecond)) //nolint:forbidigo // the history's own pace
		if err := p.Start(context.Background()); err != nil {
			return deaths, err
		}
	}
}

// removeAbandoned deletes what calls that were given up have made after all:
// nothing else can be there.
func (w *world) removeAbandoned() error {
	ctx := w.T.Context()
	snapshots, err := w.ListSnapshots(ctx, &csi.ListSnapshotsRequest{})
	if err != nil {
		return err
	}
	volumes, err := w.ListVolumes(ctx, &csi.ListVolumesRequest{})
	if err != nil {
		return err
	}
	if found := int64(len(snapshots.Entries) + len(volumes.Entries)); found > 2*w.abandoned.Load() {
		return fmt.Errorf("%d volumes and snapshots that nobody has, after %d calls that were given up: %v %v", found, w.abandoned.Load(), volumes, snapshots)
	}
	groups := map[string][]string{}
	var faults []error
	for _, e := range snapshots.Entries {
		if e.Snapshot.GroupSnapshotId != "" {
			groups[e.Snapshot.GroupSnapshotId] = append(groups[e.Snapshot.GroupSnapshotId], e.Snapshot.SnapshotId)
			continue
		}
		_, err := w.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: e.Snapshot.SnapshotId})
		faults = append(faults, err)
	}
	for id, members := range groups {
		_, err := w.DeleteVolumeGroupSnapshot(ctx, &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: id, SnapshotIds: members})
		faults = append(faults, err)
	}
	for _, e := range volumes.Entries {
		_, err := w.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: e.Volume.VolumeId})
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}
