package node

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func (h *house) expand(id volume.ID, path string, r volume.Range) (int64, error) {
	return h.node.Expand(h.Context(), ExpandRequest{ID: id, VolumePath: path, Range: r})
}

func TestExpandGrowsWhatIsMounted(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		small := sizeFor(fs)
		large := small + 64<<20
		id := h.engine.create(small)
		h.must(h.stage(id, Use{Filesystem: fs}))
		h.must(h.publish(id, "a", Use{}))
		before := h.total(id, h.target("a"))
		if got, err := h.expand(id, h.target("a"), volume.Range{RequiredBytes: small}); err != nil || got != small {
			h.Errorf("got %d, %v, want %d: nothing to do", got, err, small)
		}
		_, err := h.expand(id, h.target("a"), volume.Range{RequiredBytes: large})
		h.want(err, fault.OutOfRange, "expand it in the controller first")
		_, err = h.engine.ExpandVolume(h.Context(), id, large)
		h.must(err)
		_, err = h.expand(id, h.target("a"), volume.Range{LimitBytes: small})
		h.want(err, fault.OutOfRange, "capacity_range")
		block := true
		_, err = h.node.Expand(h.Context(), ExpandRequest{ID: id, VolumePath: h.target("a"), Block: &block})
		h.want(err, fault.Invalid, "volume_capability")

		got, err := h.expand(id, h.target("a"), volume.Range{RequiredBytes: large})
		if fs == volume.Ext4 && !mayGrowMountedExt4() {
			// A machine that keeps the capability back: it is named, and the
			// next staging grows the filesystem instead.
			h.want(err, fault.Precondition, "CAP_SYS_RESOURCE")
			h.must(h.unpublish(id, "a"))
			h.must(h.unstage(id))
			h.must(h.stage(id, Use{}))
			h.must(h.publish(id, "a", Use{}))
		} else if err != nil || got != large {
			h.Errorf("got %d, %v, want %d", got, err, large)
		}
		if after := h.total(id, h.target("a")); after < before+48<<20 {
			h.Errorf("the filesystem has %d bytes, before %d: want about 64 MiB more", after, before)
		}
		h.must(h.unpublish(id, "a"))
		h.must(h.unstage(id))
		h.checkQuietly(id, fs)
	})
}

func TestAGrowthThatWasLost(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		small := sizeFor(fs)
		id := h.engine.create(small)
		h.must(h.stage(id, Use{Filesystem: fs}))
		before := h.total(id, h.staging(id))
		h.must(h.unstage(id))
		_, err := h.engine.ExpandVolume(h.Context(), id, small+64<<20)
		h.must(err)
		h.must(h.stage(id, Use{}))
		if after := h.total(id, h.staging(id)); after < before+48<<20 {
			h.Errorf("the filesystem has %d bytes, before %d: want about 64 MiB more", after, before)
		}
		h.must(h.unstage(id))
	})
}

func TestExpandABlockVolume(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{Block: true}))
	h.must(h.publish(id, "a", Use{Block: true}))
	// The engine died between the file and the device: the node asks again.
	h.engine.mu.Lock()
	h.engine.volumes[id].SizeBytes = 96 << 20
	h.engine.mu.Unlock()
	h.must(unix.Truncate(h.engine.file(id), 96<<20))
	if got, err := h.expand(id, h.target("a"), volume.Range{}); err != nil || got != 96<<20 {
		t.Errorf("got %d, %v, want %d", got, err, 96<<20)
	}
	for _, path := range []string{"some/path", "/etc", h.target("b"), h.staging(id), h.kubelet} {
		_, err := h.expand(id, path, volume.Range{})
		h.want(err, fault.NotFound, "volume_path")
		_, err = h.node.Stats(t.Context(), id, path)
		h.want(err, fault.NotFound, "volume_path")
	}
	h.must(h.unpublish(id, "a"))
	h.must(h.unstage(id))
}

func TestHealth(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	ask := func() []backend.Health {
		t.Helper()
		health, err := h.node.VolumeHealth(t.Context(), HealthRequest{ID: id, StagingPath: h.staging(id), PublishPath: h.target("a")})
		h.must(err)
		return health
	}
	if got := ask(); len(got) > 0 {
		t.Errorf("never staged: %+v", got)
	}
	h.must(h.stage(id, Use{}))
	h.must(h.publish(id, "a", Use{ReadOnly: true}))
	if got := ask(); len(got) > 0 {
		t.Errorf("healthy: %+v", got)
	}
	h.must(unix.Mount("", h.staging(id), "", unix.MS_REMOUNT|unix.MS_RDONLY, ""))
	h.engine.health = []backend.Health{{Severity: backend.DataLoss, Reason: "Rot"}, {Severity: backend.DataLoss, Reason: "Rot"}}
	if got := ask(); len(got) != 2 || got[0].Reason != "Rot" || got[1].Reason != "FilesystemReadOnly" {
		t.Errorf("got %+v, want Rot and FilesystemReadOnly, once each", got)
	}
	h.want(h.stage(id, Use{}), fault.Exists, "read-only")
	_, err := h.node.VolumeHealth(t.Context(), HealthRequest{ID: volume.NewID()})
	h.want(err, fault.NotFound, "unknown")
	_, err = h.node.VolumeHealth(t.Context(), HealthRequest{ID: id, StagingPath: "/etc"})
	h.want(err, fault.Invalid, "staging_target_path")
	h.must(h.unpublish(id, "a"))
	h.must(h.unstage(id))
	info, err := h.node.Info(t.Context())
	h.must(err)
	if info.ID != "node-1" || info.MaxVolumes != 7 {
		t.Errorf("info %+v", info)
	}
}
