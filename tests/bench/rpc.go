package main

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/holkas-io/holkas/pkg/demo/site"
)

// rpcs measures each call of a volume's life, with 1 and with 16 workers.
func (b *bench) rpcs(ctx context.Context) error {
	for _, workers := range []int{1, 16} {
		if !b.want(fmt.Sprintf("rpc, %d workers", workers)) {
			continue
		}
		t := &times{took: map[string][]float64{}}
		work := make(chan int)
		faults := make(chan error, workers)
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for i := range work {
					if err := b.life(ctx, t, fmt.Sprintf("rpc-%d-%d", workers, i)); err != nil {
						faults <- err
						return
					}
				}
			})
		}
		if err := hand(work, faults, 16*b.rounds*max(1, workers/4)); err != nil {
			return err
		}
		wg.Wait()
		for _, name := range t.order {
			for _, q := range []struct {
				name string
				at   float64
			}{{"p50", 0.5}, {"p99", 0.99}} {
				took := t.took[name]
				b.add(line{Name: b.name(fmt.Sprintf("rpc, %d workers: %s %s", workers, name, q.name)), Value: quantile(took, q.at), Unit: "ms", Spread: (quantile(took, 0.9) - quantile(took, 0.1)) / median(took)})
			}
		}
	}
	return nil
}

func hand(work chan<- int, faults <-chan error, n int) error {
	defer close(work)
	for i := range n {
		select {
		case work <- i:
		case err := <-faults:
			return err
		}
	}
	return nil
}

// times collects how long calls took, in milliseconds.
type times struct {
	mu    sync.Mutex
	order []string
	took  map[string][]float64
}

func (t *times) call(name string, do func() error) error {
	began := time.Now()
	if err := do(); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	t.add(name, time.Since(began))
	return nil
}

func (t *times) add(name string, d time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.took[name] == nil {
		t.order = append(t.order, name)
	}
	t.took[name] = append(t.took[name], d.Seconds()*1000)
}

// life takes one ext4 volume of 64 MiB through its life.
func (b *bench) life(ctx context.Context, t *times, name string) error {
	var v *csi.Volume
	var snapshot string
	var m *site.Mounted
	steps := []struct {
		name string
		do   func() error
	}{
		{"CreateVolume", func() (err error) {
			v, err = b.create(ctx, name, 64*mib, site.Filesystem("ext4"), nil, nil)
			return err
		}},
		{"stage + publish", func() error {
			m = b.At(v, site.Filesystem("ext4"), name)
			return b.Mount(ctx, b.Site, m)
		}},
		{"CreateSnapshot", func() error {
			reply, err := b.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: v.VolumeId})
			snapshot = reply.GetSnapshot().GetSnapshotId()
			return err
		}},
		{"DeleteSnapshot", func() error {
			_, err := b.DeleteSnapshot(ctx, &csi.DeleteSnapshotRequest{SnapshotId: snapshot})
			return err
		}},
		{"unpublish + unstage", func() error { return b.Unmount(ctx, b.Site, m) }},
		{"DeleteVolume", func() error {
			_, err := b.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: v.VolumeId})
			return err
		}},
	}
	for _, s := range steps {
		if err := t.call(s.name, s.do); err != nil {
			return err
		}
	}
	return nil
}
