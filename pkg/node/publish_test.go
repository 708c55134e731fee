package node

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestABlockVolumesLife(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	block := Use{Block: true}
	h.want(h.publish(id, "a", block), fault.Precondition, "not staged")
	for range 2 {
		h.must(h.stage(id, block))
	}
	for range 2 {
		h.must(h.publish(id, "a", block))
	}
	info, err := os.Lstat(h.target("a"))
	h.must(err)
	if info.Mode().Type() != os.ModeDevice {
		t.Errorf("target is %v, want a device", info.Mode())
	}
	h.write(h.target("a"), "raw bytes")
	usage, err := h.node.Stats(t.Context(), id, h.target("a"))
	h.must(err)
	if !usage.Block || usage.Bytes.Total != 64<<20 {
		t.Errorf("usage %+v", usage)
	}
	// The other mode is refused wherever it is asked for.
	h.want(h.stage(id, Use{}), fault.Exists, "published as a block device")
	h.want(h.publish(id, "a", Use{}), fault.Precondition, "no filesystem")
	h.want(h.publish(id, "b", Use{Block: true, ReadOnly: true}), fault.Precondition, "readonly")
	h.want(h.unstage(id), fault.InUse, "still published")
	h.must(h.unpublish(id, "a"))
	h.must(h.unpublish(id, "a"))
	h.want(h.stage(id, Use{}), fault.Precondition, "not blank")
	h.must(h.unstage(id))

	h.must(h.stage(id, Use{Block: true, ReadOnly: true}))
	h.must(h.publish(id, "ro", Use{Block: true, ReadOnly: true}))
	if err := os.WriteFile(h.target("ro"), []byte("x"), 0); err == nil {
		t.Error("wrote to a read-only device")
	}
	h.must(h.unpublish(id, "ro"))
	h.must(h.unstage(id))
	filesystem := h.engine.create(64 << 20)
	h.must(h.stage(filesystem, Use{}))
	h.want(h.stage(filesystem, block), fault.Exists, "mounted as a filesystem")
	h.want(h.publish(filesystem, "a", block), fault.Precondition, "staged as a filesystem")
	h.must(h.unstage(filesystem))
}

func TestAnExclusiveVolumeHasOneTarget(t *testing.T) {
	h := newHouse(t)
	for _, block := range []bool{false, true} {
		id := h.engine.create(64 << 20)
		exclusive, shared := Use{Block: block, Exclusive: true}, Use{Block: block}
		h.must(h.stage(id, exclusive))
		h.must(h.publish(id, "a", exclusive))
		h.must(h.publish(id, "a", exclusive))
		h.want(h.publish(id, "b", exclusive), fault.Precondition, "SINGLE_NODE_SINGLE_WRITER")
		if _, err := os.Lstat(h.target("b")); !os.IsNotExist(err) {
			t.Error("a refused target was left behind")
		}
		// What the kubelet makes of a publication is not one.
		subpaths := filepath.Join(h.kubelet, "pods", "p", "volume-subpaths", "v", "c", "0")
		h.must(os.MkdirAll(subpaths, 0o750))
		if !block {
			h.must(unix.Mount(h.target("a"), subpaths, "", unix.MS_BIND, ""))
		}
		h.must(h.unpublish(id, "a"))
		h.must(h.publish(id, "b", exclusive))
		h.must(h.publish(id, "c", shared))
		h.must(h.unpublish(id, "b"))
		h.must(h.unpublish(id, "c"))
		if !block {
			h.want(h.unstage(id), fault.InUse, "volume-subpaths")
			h.must(unix.Unmount(subpaths, 0))
		}
		h.must(h.unstage(id))
	}
}

func TestWhatIsInTheWay(t *testing.T) {
	h := newHouse(t)
	id, other := h.engine.create(64<<20), h.engine.create(64<<20)
	h.must(h.stage(id, Use{}))
	h.must(h.stage(other, Use{}))
	h.must(h.publish(other, "other", Use{}))
	h.want(h.publish(id, "other", Use{}), fault.Exists, "already")
	h.want(h.node.Stage(t.Context(), StageRequest{ID: id, StagingPath: h.staging(other)}), fault.Exists, "already")
	h.write(h.target("file"), "x")
	h.want(h.publish(id, "file", Use{}), fault.Precondition, "in the way")
	h.want(h.publish(id, "no/such/parent", Use{}), fault.Precondition, "parent")
	// Unstaging at another volume's path leaves both alone.
	h.want(h.node.Unstage(t.Context(), id, h.staging(other)), fault.InUse, h.staging(id))
	if got := len(h.mountsBelow()); got != 3 {
		t.Errorf("%d mounts, want 3", got)
	}
	// A directory with something in it is not removed.
	h.must(os.MkdirAll(filepath.Join(h.target("full"), "sub"), 0o750))
	h.want(h.unpublish(id, "full"), fault.Precondition, "not empty")
	// Nor is a mount that is not ours.
	h.must(os.Mkdir(h.target("tmpfs"), 0o750))
	h.must(unix.Mount("tmpfs", h.target("tmpfs"), "tmpfs", 0, ""))
	h.want(h.unpublish(id, "tmpfs"), fault.Precondition, "tmpfs")
	h.must(unix.Unmount(h.target("tmpfs"), 0))
	// The topmost mount counts.
	h.must(unix.Mount("tmpfs", h.target("other"), "tmpfs", 0, ""))
	h.want(h.publish(other, "other", Use{}), fault.Exists, "tmpfs")
	h.want(h.unpublish(other, "other"), fault.Precondition, "tmpfs")
	h.must(unix.Unmount(h.target("other"), 0))
	h.must(h.unpublish(other, "other"))
	h.must(h.unstage(other))
	h.must(h.unstage(id))
}

func TestABusyTargetIsRetried(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	h.must(h.publish(id, "a", Use{}))
	held, err := os.Create(filepath.Join(h.target("a"), "held"))
	h.must(err)
	h.want(h.unpublish(id, "a"), fault.InUse, "still uses it")
	h.must(held.Close())
	h.must(h.unpublish(id, "a"))
	// One that lets go in a moment is waited for.
	h.must(h.publish(id, "a", Use{}))
	held, err = os.Create(filepath.Join(h.target("a"), "held"))
	h.must(err)
	timer := time.AfterFunc(busyLimit/4, func() { _ = held.Close() })
	defer timer.Stop()
	h.must(h.unpublish(id, "a"))
	h.must(h.unstage(id))
}

func TestStackedAndHalfDoneMounts(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	h.must(os.Mkdir(h.target("a"), 0o750)) // it died after making the directory
	h.must(h.publish(id, "a", Use{}))
	h.must(unix.Mount(h.target("a"), h.target("a"), "", unix.MS_BIND, ""))
	h.must(h.unpublish(id, "a"))
	if _, err := os.Lstat(h.target("a")); !os.IsNotExist(err) {
		t.Errorf("target is still there: %v", err)
	}
	// Somebody unmounted the staging path behind our back.
	h.must(unix.Unmount(h.staging(id), 0))
	h.want(h.publish(id, "a", Use{}), fault.Precondition, "stage it there first")
	h.must(h.stage(id, Use{}))
	h.must(h.unstage(id))
	h.must(os.Remove(h.staging(id)))
	h.must(h.node.Unstage(t.Context(), id, filepath.Join(h.kubelet, "staging", string(id))))
	h.must(h.node.Unstage(t.Context(), id, filepath.Join(h.kubelet, "staging", "gone", string(id))))
}

func TestAFilesystemThatDied(t *testing.T) {
	h := newHouse(t)
	const fs = volume.XFS
	id := h.engine.create(sizeFor(fs))
	h.must(h.stage(id, Use{Filesystem: fs}))
	h.must(h.publish(id, "a", Use{}))
	run(t, "xfs_io", "-x", "-c", "shutdown", h.staging(id))
	health, err := h.node.VolumeHealth(t.Context(), HealthRequest{ID: id, StagingPath: h.staging(id), PublishPath: h.target("a")})
	h.must(err)
	if len(health) != 1 || health[0].Reason != "FilesystemDown" {
		t.Errorf("health %+v, want FilesystemDown once", health)
	}
	h.want(h.publish(id, "b", Use{}), fault.Precondition, "no longer answers")
	h.must(h.unpublish(id, "a"))
	h.must(h.stage(id, Use{})) // mounts it anew
	h.must(h.publish(id, "a", Use{}))
	h.write(filepath.Join(h.target("a"), "f"), "x")
	h.must(h.unpublish(id, "a"))
	run(t, "xfs_io", "-x", "-c", "shutdown", h.staging(id))
	h.must(h.unstage(id))
}

// TestWhatCannotBeWrittenOut is told of, and stays staged; unless the engine knows
// that the volume takes no more writes: then nothing is gained by keeping it.
func TestWhatCannotBeWrittenOut(t *testing.T) {
	for _, known := range []string{"", "lost", "deleted"} {
		h := newHouse(t)
		h.must(unix.Mount("none", h.engine.dir, "tmpfs", 0, "size=24m"))
		t.Cleanup(func() { h.must(unix.Unmount(h.engine.dir, unix.MNT_DETACH)) })
		id := h.engine.create(64 << 20)
		h.must(h.stage(id, Use{}))
		h.must(os.WriteFile(filepath.Join(h.staging(id), "f"), make([]byte, 32<<20), 0o600)) // more than there is room for
		switch known {
		case "lost":
			h.engine.health = []backend.Health{{Severity: backend.Degraded, Reason: "Late"}, {Severity: backend.Inaccessible, Reason: "Fenced"}}
		case "deleted":
			h.engine.gone = true
		}
		err := h.unstage(id)
		if known == "" {
			h.want(err, fault.Internal, "may be lost")
			if len(h.mountsBelow()) != 1 {
				h.Error("it was unmounted")
			}
			err = h.unstage(id)
		}
		h.must(err)
		h.engine.gone = false
		if len(h.mountsBelow()) > 0 || h.device(id) != "" {
			h.Errorf("%q: left: device %q, mounts %v", known, h.device(id), h.mountsBelow())
		}
	}
}
