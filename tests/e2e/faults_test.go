package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

// TestDamagedCatalogue truncates and removes objects of the catalogue: what needs
// them is DataLoss and names them, lists fail rather than leave something out,
// and everything else goes on.
func TestDamagedCatalogue(t *testing.T) {
	l := lab.Start(t, lab.Pool(program, volume.XFSPool, 2*lab.GiB))
	ctx := t.Context()
	request := lab.VolumeRequest("damaged", 16*lab.MiB, site.Filesystem("ext4"))
	m := l.Mounted(request)
	other := l.Mounted(lab.VolumeRequest("other", 16*lab.MiB, site.Filesystem("ext4")))
	id := m.Volume.VolumeId
	objects, err := filepath.Glob(filepath.Join(l.Site.Repository, "volumes", id, "records", "*"))
	lab.Must(t, err)
	newest := objects[len(objects)-1]
	whole, err := os.ReadFile(newest)
	lab.Must(t, err)
	calls := map[string]func() error{
		"create": func() error { _, err := l.CreateVolume(ctx, request); return err },
		"get": func() error {
			_, err := l.ControllerGetVolume(ctx, &csi.ControllerGetVolumeRequest{VolumeId: id})
			return err
		},
		"delete": func() error { _, err := l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: id}); return err },
		"snapshot": func() error {
			_, err := l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "of the damaged", SourceVolumeId: id})
			return err
		},
		"list": func() error { _, err := l.ListVolumes(ctx, &csi.ListVolumesRequest{}); return err },
	}
	for damage, body := range map[string][]byte{"empty": {}, "truncated": whole[:len(whole)-5], "flipped": append([]byte("x"), whole[1:]...)} {
		lab.Must(t, os.WriteFile(newest, body, 0o600))
		for name, call := range calls {
			err := call()
			if status.Code(err) != codes.DataLoss {
				t.Errorf("%s, %s: got %v, want DataLoss", damage, name, err)
				continue
			}
			lab.WantCode(t, err, codes.DataLoss, id, filepath.Base(newest))
		}
		restage(l, m) // the data path needs none of it
		restage(l, other)
		l.Snapshot(other.Volume.VolumeId, "of the other, "+damage)
	}
	for _, object := range objects {
		lab.Must(t, os.Remove(object))
	}
	lab.WantCode(t, calls["create"](), codes.DataLoss, id, "missing")
	lab.Must(t, os.WriteFile(newest, whole, 0o600))
}

// TestPoolFails makes a pool read-only, full and absent under a running engine,
// and takes its places away: each call gets the code that says whether to try
// again or elsewhere, and all is well when the pool is.
func TestPoolFails(t *testing.T) {
	onEachPool(t, 2*lab.GiB, func(l *lab.Lab, kind volume.PoolType) {
		ctx, pool := l.T.Context(), l.PoolPath(string(kind))
		m := l.Mounted(lab.VolumeRequest("mounted", 16*lab.MiB, site.Filesystem("ext4")))
		idle := l.Volume(lab.VolumeRequest("idle", 16*lab.MiB, site.Filesystem("ext4")))
		create := func() error {
			_, err := l.CreateVolume(ctx, lab.VolumeRequest("new", 16*lab.MiB, site.Filesystem("ext4")))
			return err
		}
		snapshot := func() error {
			_, err := l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "snapshot", SourceVolumeId: m.Volume.VolumeId})
			return err
		}
		expand := func() error {
			_, err := l.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: idle.VolumeId, CapacityRange: &csi.CapacityRange{RequiredBytes: 32 * lab.MiB}})
			return err
		}
		doomed := l.Volume(lab.VolumeRequest("doomed", 16*lab.MiB, site.Filesystem("ext4")))
		remove := func() error {
			_, err := l.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: doomed.VolumeId})
			return err
		}
		calls := []func() error{create, snapshot, expand, remove}
		run := func(args ...string) {
			l.T.Helper()
			if out, err := exec.Command(args[0], args[1:]...).CombinedOutput(); err != nil {
				l.T.Fatalf("%v: %v: %s", args, err, out)
			}
		}

		// A bind mount over the pool's folder hides it, as an unmounted pool does.
		empty := l.T.TempDir()
		run("mount", "--bind", empty, pool)
		for i, call := range calls {
			if err := call(); status.Code(err) != codes.Unavailable && !(i == 0 && status.Code(err) == codes.ResourceExhausted) {
				l.T.Errorf("call %d without the pool: got %v", i, err)
			}
		}
		if entries, err := os.ReadDir(empty); err != nil || len(entries) > 0 {
			l.T.Errorf("something was made where the pool was: %v, %v", entries, err)
		}
		run("umount", pool)
		lab.Eventually(l.T, snapshot)

		lab.Must(l.T, l.Unmount(ctx, l.Site, m)) // a read-only pool has no writable devices
		run("mount", "-o", "remount,ro", pool)
		another := func() error {
			_, err := l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "another", SourceVolumeId: m.Volume.VolumeId})
			return err
		}
		calls[1] = another
		for i, call := range calls {
			if err := call(); status.Code(err) != codes.Unavailable && !(i == 0 && status.Code(err) == codes.ResourceExhausted) {
				l.T.Errorf("call %d with the pool read-only: got %v", i, err)
			}
		}
		capacity, err := l.GetCapacity(ctx, &csi.GetCapacityRequest{})
		if lab.Must(l.T, err); capacity.AvailableCapacity != 0 {
			l.T.Errorf("a read-only pool has capacity %d", capacity.AvailableCapacity)
		}
		run("mount", "-o", "remount,rw", pool)
		lab.Eventually(l.T, another) // what was begun is finished
		lab.Must(l.T, l.Mount(ctx, l.Site, m))

		// Somebody else takes all the room that is left.
		filler := filepath.Join(pool, "filler")
		f, err := os.Create(filler)
		lab.Must(l.T, err)
		chunk := make([]byte, lab.MiB)
		for err == nil {
			_, err = f.Write(chunk)
		}
		if err = errors.Join(f.Sync(), f.Close()); err != nil && !errors.Is(err, syscall.ENOSPC) {
			l.T.Fatal(err)
		}
		lab.WantCode(l.T, create(), codes.ResourceExhausted)
		lab.WantCode(l.T, expand(), codes.ResourceExhausted)
		_, err = l.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: "full", SourceVolumeId: m.Volume.VolumeId})
		lab.WantCode(l.T, err, codes.ResourceExhausted)
		lab.Must(l.T, remove())
		lab.Must(l.T, os.Remove(filler))
		lab.Eventually(l.T, create)

		list, err := l.ListSnapshots(ctx, &csi.ListSnapshotsRequest{})
		lab.Must(l.T, err)
		for _, e := range list.Entries {
			removeAll(l.T, l, []string{e.Snapshot.SnapshotId})
		}
		l.Remove(m)
		made, err := l.CreateVolume(ctx, lab.VolumeRequest("new", 16*lab.MiB, site.Filesystem("ext4")))
		lab.Must(l.T, err)
		removeAll(l.T, l, nil, made.Volume.VolumeId, idle.VolumeId)
		lab.Eventually(l.T, l.Leftovers)
	})
}

// TestNoDeviceLeft: a node with as many volumes as it can have refuses another.
func TestNoDeviceLeft(t *testing.T) {
	o := lab.Pool(program, volume.XFSPool, 2*lab.GiB)
	o.Args = map[string][]string{"engine": {"--max-volumes=1"}}
	l := lab.Start(t, o)
	m := l.Mounted(lab.VolumeRequest("first", 16*lab.MiB, site.Filesystem("ext4")))
	second := l.At(l.Volume(lab.VolumeRequest("second", 16*lab.MiB, site.Filesystem("ext4"))), m.Capability, "second")
	lab.WantCode(t, l.Mount(t.Context(), l.Site, second), codes.ResourceExhausted)
	lab.Must(t, os.MkdirAll(second.Staging, 0o755))
	lab.WantCode(t, l.Stage(t.Context(), second), codes.ResourceExhausted, "maxVolumes")
	lab.Must(t, l.Unmount(t.Context(), l.Site, m))
	lab.Must(t, l.Mount(t.Context(), l.Site, second))
	l.Remove(second)
	removeAll(t, l, nil, m.Volume.VolumeId)
	lab.Must(t, l.Leftovers())
}

// TestEngineHangs: while an engine does not answer, though it is there, the
// controller tells of every one of its volumes that this is so.
func TestEngineHangs(t *testing.T) {
	l := lab.Start(t, lab.Pool(program, volume.XFSPool, 2*lab.GiB))
	var ids []string
	for i := range 12 {
		ids = append(ids, l.Volume(lab.VolumeRequest(fmt.Sprint("volume-", i), 4*lab.MiB, site.Block())).VolumeId)
	}
	pid := l.Engine.Pid()
	lab.Must(t, syscall.Kill(pid, syscall.SIGSTOP))
	defer func() { lab.Must(t, syscall.Kill(pid, syscall.SIGCONT)) }()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	list, err := l.ControllerListVolumeHealth(ctx, &csi.ControllerListVolumeHealthRequest{})
	lab.Must(t, err)
	if len(list.Entries) != len(ids) {
		t.Fatalf("%d volumes are said to be ill, want %d: %v", len(list.Entries), len(ids), list)
	}
	for _, e := range list.Entries {
		if len(e.HealthStatuses) != 1 || e.HealthStatuses[0].Status != csi.VolumeHealthErrorType_INACCESSIBLE {
			t.Errorf("got %v, want that it is inaccessible", e)
		}
	}
	capacity, err := l.GetCapacity(ctx, &csi.GetCapacityRequest{})
	if lab.Must(t, err); capacity.AvailableCapacity != 0 {
		t.Errorf("an engine that hangs has capacity %d", capacity.AvailableCapacity)
	}
	_, err = l.CreateVolume(ctx, lab.VolumeRequest("new", 4*lab.MiB, site.Block()))
	lab.WantCode(t, err, codes.Unavailable)
}

// TestEngineStopsWhileFrozen stops and kills the engine while it holds the
// filesystems of a group frozen. Writers go on without it: at once when it was
// killed, after the limit of a pause when it is stopped. What it had cut by then
// counts for nothing, and a repetition of the call makes a group that is one
// moment.
func TestEngineStopsWhileFrozen(t *testing.T) {
	for _, how := range []string{"stopped", "killed"} {
		t.Run(how, func(t *testing.T) {
			l := lab.Start(t, lab.Pool(program, volume.XFSPool, 4*lab.GiB))
			a := l.Mounted(lab.VolumeRequest("a", 64*lab.MiB, site.Filesystem("ext4")))
			b := l.Mounted(lab.VolumeRequest("b", 64*lab.MiB, site.Filesystem("ext4")))
			w := startWriter(t, a.Target, b.Target)
			for round := 0; ; round++ {
				w.waitFor(t, 20)
				request := groupRequest(fmt.Sprint("group-", round), a, b)
				answered := make(chan error, 1)
				go func() {
					_, err := l.CreateVolumeGroupSnapshot(context.WithoutCancel(t.Context()), request)
					answered <- err
				}()
				frozen := stopFrozen(t, l, w, time.Duration(10+round%30)*time.Millisecond)
				if frozen && how == "killed" {
					l.Engine.Kill()
					w.waitFor(t, 20) // with no engine
					lab.Must(t, l.Engine.Start(t.Context()))
				} else {
					if frozen {
						w.waitFor(t, 20) // while it is stopped
					}
					lab.Must(t, syscall.Kill(l.Engine.Pid(), syscall.SIGCONT))
				}
				w.waitFor(t, 20)
				err := <-answered
				if code := status.Code(err); frozen && code != codes.Unavailable && code != codes.DeadlineExceeded {
					t.Errorf("the attempt ended with %v: want that it is unknown what became of it", err)
				}
				var reply *csi.CreateVolumeGroupSnapshotResponse
				lab.Eventually(t, func() (err error) {
					reply, err = l.CreateVolumeGroupSnapshot(t.Context(), request)
					return err
				})
				checkOrder(l, reply.GroupSnapshot, a, b, round)
				if frozen {
					t.Logf("frozen in round %d; the attempt ended with %v", round, err)
					break
				}
				if round == 400 {
					t.Fatal("the engine was never met while it held anything frozen")
				}
			}
			lab.Must(t, w.stop())
			l.Remove(a)
			l.Remove(b)
			lab.Eventually(t, l.Leftovers)
		})
	}
}

// stopFrozen stops the engine a while after it began to freeze something, and
// reports whether the writer is blocked then.
func stopFrozen(t *testing.T, l *lab.Lab, w *writer, after time.Duration) bool {
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); { // or it was too fast to be seen
		entries, err := os.ReadDir(filepath.Join(l.PoolPath("xfs"), "frozen"))
		lab.Must(t, err)
		if len(entries) > 0 {
			break
		}
	}
	time.Sleep(after) //nolint:forbidigo // the moment is what is tried
	lab.Must(t, syscall.Kill(l.Engine.Pid(), syscall.SIGSTOP))
	counted := w.count.Load()
	time.Sleep(500 * time.Millisecond) //nolint:forbidigo // hundreds of writes, if it is not blocked
	return w.count.Load() <= counted+1
}
