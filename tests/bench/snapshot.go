package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/agent"
	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// snapshots measures snapshots and clones of volumes of several sizes, written
// in order and at random, with how long writers waited.
func (b *bench) snapshots(ctx context.Context) error {
	for _, size := range []int64{1, 10, 100} {
		for _, written := range []string{"sequential", "random"} {
			name := fmt.Sprintf("snapshot, %d GiB written %s", size, written)
			if !b.want(name) {
				continue
			}
			if err := b.snapshotOf(ctx, name, size*gib, written == "random"); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
		}
	}
	return nil
}

func (b *bench) snapshotOf(ctx context.Context, name string, sizeBytes int64, random bool) error {
	v, err := b.create(ctx, name, sizeBytes, site.Filesystem("ext4"), map[string]string{
		volume.ParamProvisioning: string(volume.Thin), volume.ParamMaxSnapshotPause: "1m",
	}, nil)
	if err != nil {
		return err
	}
	m := b.At(v, site.Filesystem("ext4"), "snapshot")
	if err := b.Mount(ctx, b.Site, m); err != nil {
		return err
	}
	defer b.remove(ctx, m)
	if err := fill(ctx, m.Target, min(sizeBytes*9/10, 9*gib), random); err != nil {
		return err
	}
	t := &times{took: map[string][]float64{}}
	for round := range b.rounds {
		if err := b.snapshotAndClone(ctx, t, m, fmt.Sprintf("%s-%d", name, round)); err != nil {
			return err
		}
	}
	for _, part := range t.order {
		took := t.took[part]
		b.add(line{Name: b.name(name + ": " + part), Value: median(took), Unit: "ms", Spread: spread(took)})
	}
	return nil
}

// fill writes so much into a file of a mounted volume. At random it writes
// 200,000 blocks at most, into a file that is allocated first.
func fill(ctx context.Context, mount string, bytes int64, random bool) error {
	file := filepath.Join(mount, "data")
	args := []string{"fio", "--name=fill", "--filename=" + file, "--direct=1", "--ioengine=libaio", "--iodepth=16", "--end_fsync=1", fmt.Sprintf("--size=%d", bytes)}
	if !random {
		_, err := command(ctx, append(args, "--rw=write", "--bs=1M")...)
		return err
	}
	writes := min(bytes/4096, 200_000)
	_, err := command(ctx, append(args, "--rw=randwrite", "--bs=4k", "--fallocate=native", "--iodepth=64", fmt.Sprintf("--io_size=%d", writes*4096))...)
	return err
}

func (b *bench) snapshotAndClone(ctx context.Context, t *times, m *site.Mounted, name string) error {
	var s *csi.Snapshot
	if err := t.call("CreateSnapshot", func() error {
		reply, err := b.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: m.Volume.VolumeId})
		s = reply.GetSnapshot()
		return err
	}); err != nil {
		return err
	}
	pause, err := b.pause(ctx, s.SnapshotId)
	if err != nil {
		return err
	}
	t.add("writers' pause", pause.Pause)
	if pause.PredictedPause > 0 {
		t.add("writers' pause, predicted", pause.PredictedPause)
	}
	var clone *csi.Volume
	if err := t.call("CreateVolume from it", func() (err error) {
		source := &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.SnapshotId}}}
		clone, err = b.create(ctx, name+"-clone", m.Volume.CapacityBytes, m.Capability, map[string]string{volume.ParamProvisioning: string(volume.Thin)}, source)
		return err
	}); err != nil {
		return err
	}
	if _, err := b.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: clone.VolumeId}); err != nil {
		return err
	}
	if err := t.call("DeleteSnapshot", func() error {
		_, err := b.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: s.SnapshotId})
		return err
	}); err != nil {
		return err
	}
	return rewrite(filepath.Join(m.Target, "data"))
}

// rewrite touches the volume, so that the next snapshot is one of a volume in
// use.
func rewrite(file string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.WriteAt(make([]byte, 4096), time.Now().UnixNano()%1000*4096); err != nil {
		return err
	}
	return f.Sync()
}

// pause asks the engine for the snapshot, which CSI has no field for.
func (b *bench) pause(ctx context.Context, handle string) (backend.Snapshot, error) {
	h, err := volume.ParseHandle(handle)
	if err != nil {
		return backend.Snapshot{}, err
	}
	dialer := &agent.Dialer{}
	defer dialer.Close()
	engine, err := dialer.Backend(repository.Node{ID: b.Node, Address: "unix://" + filepath.Join(b.Dir, "agent.sock")}, b.backend())
	if err != nil {
		return backend.Snapshot{}, err
	}
	return engine.Snapshot(ctx, h.Snapshot)
}
