package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/cmd/holkas/internal/config"
	"github.com/holkas-io/holkas/pkg/backend/object"
	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
	"github.com/holkas-io/holkas/pkg/blockdev/nbd"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/engine/cache"
	"github.com/holkas-io/holkas/pkg/engine/journal"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// objectOptions are the settings of object volumes, which a directory enables.
type objectOptions struct {
	dir     string
	run     string
	cache   int64
	journal int64
	memory  int64
	device  string
}

// The front-ends, as --object-device names them.
const (
	deviceAuto = "auto"
	deviceFUSE = "fuse"
	deviceNBD  = "nbd"
)

func (o *objectOptions) add(s *config.Set) {
	config.AddOne(s, config.One[string]{
		Name: "object-dir", Usage: "the `directory`, on a disk of this node, of the journals and the read cache of object volumes; without it the node has none. What was acknowledged and is not in the repository yet is only there",
		Into: &o.dir, Parse: parsePath,
	})
	config.AddOne(s, config.One[string]{
		Name: "object-run-dir", Usage: "the `directory`, in memory (tmpfs), of what a restart of the engine needs of the volumes that are attached, and one of the machine does not",
		Into: &o.run, Default: "/run/holkas/object", Parse: parsePath,
	})
	config.AddOne(s, config.One[int64]{
		Name: "cache-size", Usage: "`bytes` of the read cache of object volumes, such as 100Gi; 0 is none", Into: &o.cache, Default: "1Gi",
		Parse: func(text string) (int64, error) { return parseBytes(text, 0, cache.MinSize, cache.MaxSize) },
	})
	config.AddOne(s, config.One[int64]{
		Name: "journal-size", Usage: "`bytes` of the journal of each object volume that is attached: for how long writes go on while the repository is away", Into: &o.journal, Default: "1Gi",
		Parse: func(text string) (int64, error) {
			return parseBytes(text, journal.DefaultSize, journal.MinSize, journal.MaxSize)
		},
	})
	config.AddOne(s, config.One[int64]{
		Name: "object-memory", Usage: "`bytes` of memory of all object volumes together", Into: &o.memory, Default: "1Gi",
		Parse: func(text string) (int64, error) {
			return parseBytes(text, engine.DefaultMemory, engine.MinMemory, 1<<40)
		},
	})
	config.AddOne(s, config.One[string]{
		Name: "object-device", Usage: "how object volumes get their devices: `nbd`, fuse, or auto: nbd where the kernel has it", Into: &o.device, Default: deviceAuto,
		Parse: func(text string) (string, error) {
			if text != deviceAuto && text != deviceFUSE && text != deviceNBD {
				return "", fmt.Errorf("%q: want auto, fuse or nbd", text)
			}
			return text, nil
		},
	})
}

var quantity = regexp.MustCompile(`^([0-9]{1,12})(Ki|Mi|Gi|Ti|)$`)

// parseBytes reads a size as Kubernetes has it, in whole binary units.
func parseBytes(text string, zero, least, most int64) (int64, error) {
	want := fmt.Errorf("%q: want 0, or bytes from %d to %d such as 512Mi or 10Gi, in multiples of 4096", text, least, most)
	parts := quantity.FindStringSubmatch(text)
	if parts == nil {
		return 0, want
	}
	n, err := strconv.ParseInt(parts[1], 10, 64)
	unit := map[string]int64{"": 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40}[parts[2]]
	switch {
	case err == nil && n == 0:
		return zero, nil
	case err != nil || n > most/unit || n*unit < least || n*unit%volume.SizeUnit != 0:
		return 0, want
	}
	return n * unit, nil
}

// objects is the object backend of the process, and what it stands on.
type objects struct {
	*object.Backend
	engine *engine.Engine
	cache  *cache.Cache
}

// open opens what there is of object volumes. The repository is opened when it is
// needed first.
func (o *objectOptions) open(ctx context.Context, node volume.NodeID, maxVolumes int, at opener, r prometheus.Registerer) (_ *objects, err error) {
	for flag, dir := range map[string]string{"object-dir": o.dir, "object-run-dir": o.run} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return nil, fmt.Errorf("--%s: %w", flag, err)
		}
	}
	all := &objects{}
	defer func() {
		if err != nil {
			err = errors.Join(err, all.close(ctx))
		}
	}()
	if o.cache > 0 {
		if all.cache, err = cache.Open(ctx, cache.Options{Path: filepath.Join(o.dir, "cache"), SizeBytes: o.cache}); err != nil {
			return nil, err
		}
	}
	if all.engine, err = engine.New(engine.Options{Cache: all.cache, MemoryBytes: o.memory}); err != nil {
		return nil, err
	}
	devices, err := o.devices(ctx)
	if err != nil {
		return nil, err
	}
	home := func(ctx context.Context) (object.Home, error) {
		opened, err := at.open(ctx)
		if err != nil {
			return object.Home{}, err
		}
		store, err := at.data(ctx)
		return object.Home{Repository: opened, Store: store}, err
	}
	all.Backend, err = object.Open(ctx, object.Options{
		Home: home, Engine: all.engine, Devices: devices, Node: node, Dir: o.dir, RuntimeDir: o.run,
		JournalBytes: o.journal, MaxVolumes: maxVolumes,
	})
	if err != nil {
		return nil, errors.Join(err, devices.Close(ctx))
	}
	r.MustRegister(all.Metrics())
	return all, nil
}

// close ends the data path; devices stay.
func (o *objects) close(ctx context.Context) error {
	var err error
	if o.Backend != nil {
		err = o.Backend.Close(ctx)
	}
	if o.engine != nil {
		err = errors.Join(err, o.engine.Close())
	}
	if o.cache != nil {
		err = errors.Join(err, o.cache.Close(ctx))
	}
	return err
}

// devices opens the front-end.
func (o *objectOptions) devices(ctx context.Context) (object.Devices, error) {
	missing := nbd.Probe()
	switch {
	case o.device == deviceNBD && missing != nil:
		return nil, fmt.Errorf("--object-device: nbd: %w: want fuse or auto", missing)
	case o.device == deviceFUSE || missing != nil:
		klog.FromContext(ctx).Info("Object volumes get their devices by FUSE", "asked", o.device, "nbd", missing)
		s, err := fuse.Open(ctx, fuse.Options{Dir: filepath.Join(o.run, "devices")})
		if err != nil {
			return nil, err
		}
		return s, nil
	}
	klog.FromContext(ctx).Info("Object volumes get their devices by NBD", "asked", o.device)
	return nbd.New(nbd.Options{Dir: o.run})
}

// serially opens a repository once, for all who ask.
func serially(open func(ctx context.Context) (*repository.Repository, error)) func(ctx context.Context) (*repository.Repository, error) {
	var mu sync.Mutex
	var opened *repository.Repository
	return func(ctx context.Context) (*repository.Repository, error) {
		mu.Lock()
		defer mu.Unlock()
		if opened != nil {
			return opened, nil
		}
		r, err := open(ctx)
		if err == nil {
			opened = r
		}
		return r, err
	}
}
