package node

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

func TestAFilesystemVolumesLife(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		id := h.engine.create(sizeFor(fs))
		use := Use{Filesystem: fs, MountFlags: []string{"noatime", "nosuid"}}
		for range 2 { // each step twice: a retry is the same
			h.must(h.stage(id, use))
		}
		if got := h.state(id); got != backend.Formatted {
			h.Errorf("state %q, want %q", got, backend.Formatted)
		}
		for range 2 {
			h.must(h.publish(id, "a", use))
		}
		readOnly := use
		readOnly.ReadOnly = true
		h.must(h.publish(id, "b", readOnly))
		h.write(filepath.Join(h.target("a"), "f"), "hello")
		if got := h.read(filepath.Join(h.target("b"), "f")); got != "hello" {
			h.Errorf("read %q, want hello", got)
		}
		if err := os.WriteFile(filepath.Join(h.target("b"), "g"), nil, 0o600); err == nil {
			h.Error("wrote below a read-only target")
		}
		h.want(h.publish(id, "b", use), fault.Exists, "target_path")
		h.want(h.unstage(id), fault.InUse, "still published")

		usage, err := h.node.Stats(h.Context(), id, h.target("a"))
		h.must(err)
		if usage.Block || usage.Bytes.Total <= 0 || usage.Bytes.Total > sizeFor(fs) || usage.Bytes.Used <= 0 || usage.Bytes.Available <= 0 {
			h.Errorf("usage %+v", usage)
		}
		if fs != volume.Btrfs && usage.Inodes.Total <= 0 {
			h.Errorf("usage %+v: want inodes", usage)
		}
		for _, name := range []string{"a", "b", "b"} {
			h.must(h.unpublish(id, name))
			if _, err := os.Lstat(h.target(name)); !os.IsNotExist(err) {
				h.Errorf("target %s is still there: %v", name, err)
			}
		}
		for range 2 {
			h.must(h.unstage(id))
		}
		if h.device(id) != "" || len(h.mountsBelow()) > 0 {
			h.Errorf("left: device %q, mounts %v", h.device(id), h.mountsBelow())
		}
		h.must(h.stage(id, Use{}))
		if got := h.read(filepath.Join(h.staging(id), "f")); got != "hello" {
			h.Errorf("after staging again read %q, want hello", got)
		}
		h.must(h.unstage(id))
	})
}

func TestACloneMountsBesideItsOrigin(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		origin := h.engine.create(sizeFor(fs))
		h.must(h.stage(origin, Use{Filesystem: fs}))
		h.write(filepath.Join(h.staging(origin), "f"), "before")
		// The origin stays mounted: the clone is of an instant, its journal full.
		file, err := os.OpenFile(filepath.Join(h.staging(origin), "f"), os.O_WRONLY, 0)
		h.must(err)
		h.must(file.Sync())
		h.must(file.Close())
		h.write(filepath.Join(h.staging(origin), "unsynced"), "perhaps")

		clones := []volume.ID{h.engine.clone(origin, sizeFor(fs)), h.engine.clone(origin, sizeFor(fs)+64<<20)}
		for _, clone := range clones {
			h.must(h.stage(clone, Use{Filesystem: fs}))
			if got := h.state(clone); got != backend.Formatted {
				h.Errorf("state %q, want %q", got, backend.Formatted)
			}
			if got := h.read(filepath.Join(h.staging(clone), "f")); got != "before" {
				h.Errorf("read %q, want before", got)
			}
			h.write(filepath.Join(h.staging(clone), "f"), "of "+string(clone))
		}
		if got := h.read(filepath.Join(h.staging(origin), "f")); got != "before" {
			h.Errorf("the origin has %q, want before", got)
		}
		for _, clone := range clones {
			h.must(h.unstage(clone))
			h.must(h.stage(clone, Use{}))
			if got := h.read(filepath.Join(h.staging(clone), "f")); got != "of "+string(clone) {
				h.Errorf("read %q, want the clone's own", got)
			}
			h.must(h.unstage(clone))
			h.checkQuietly(clone, fs)
		}
		grown, err := inspectFile(h.engine.file(clones[1]))
		h.must(err)
		if want := sizeFor(fs) + 64<<20; grown.sizeBytes < want-16<<20 {
			h.Errorf("the larger clone's filesystem has %d bytes, want about %d", grown.sizeBytes, want)
		}
		if fs != volume.XFS && identity(h, clones[0]) == identity(h, origin) {
			h.Error("the clone has its origin's UUID")
		}
		h.must(h.unstage(origin))
	})
}

// checkQuietly runs the filesystem's own checker, which must find nothing.
func (h *house) checkQuietly(id volume.ID, fs volume.Filesystem) {
	h.Helper()
	d, err := h.engine.Attach(h.Context(), backend.AttachRequest{ID: id})
	h.must(err)
	switch fs {
	case volume.Ext4:
		run(h.T, "e2fsck", "-f", "-n", d.Path)
	case volume.XFS:
		run(h.T, "xfs_repair", "-n", d.Path)
	case volume.Btrfs:
		run(h.T, "btrfs", "check", "--readonly", d.Path)
	}
	h.must(h.engine.Detach(h.Context(), id))
}

func identity(h *house, id volume.ID) string {
	return run(h.T, "blkid", "-p", "-s", "UUID", "-o", "value", h.engine.file(id))
}

func inspectFile(path string) (content, error) {
	head := make([]byte, endBytes)
	f, err := os.Open(path)
	if err != nil {
		return content{}, err
	}
	defer f.Close()
	_, err = f.ReadAt(head, 0)
	return recognize(head), err
}

func TestAReadOnlyStageOfADirtyClone(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		origin := h.engine.create(sizeFor(fs))
		h.must(h.stage(origin, Use{Filesystem: fs}))
		h.write(filepath.Join(h.staging(origin), "f"), "x")
		run(h.T, "sync", "-f", h.staging(origin))
		h.write(filepath.Join(h.staging(origin), "g"), "y")
		run(h.T, "sync", filepath.Join(h.staging(origin), "g"))
		clone := h.engine.clone(origin, sizeFor(fs))
		left := h.engine.clone(origin, sizeFor(fs)) // by the node's death: dirty, and Formatted
		h.must(h.engine.RecordFilesystem(t.Context(), left, backend.Filesystem{Type: fs, State: backend.Formatted}))
		use := Use{Filesystem: fs, ReadOnly: true}
		for range 2 {
			h.must(h.stage(clone, use))
		}
		if got := h.read(filepath.Join(h.staging(clone), "g")); got != "y" {
			h.Errorf("read %q, want y: the journal was not replayed", got)
		}
		if err := os.WriteFile(filepath.Join(h.staging(clone), "h"), nil, 0o600); err == nil {
			h.Error("wrote to a read-only volume")
		}
		if d, err := lookAtDevice(h.device(clone)); err != nil || !d.readOnly {
			h.Errorf("device %+v, %v: want it read-only", d, err)
		}
		h.want(h.publish(clone, "a", Use{}), fault.Precondition, "read-only")
		h.must(h.publish(clone, "a", use))
		h.want(h.stage(clone, Use{}), fault.InUse, "read-only")
		h.must(h.unpublish(clone, "a"))
		h.must(h.unstage(clone))
		h.must(h.stage(clone, Use{})) // and back
		h.must(h.unstage(clone))
		h.must(h.unstage(origin))

		h.must(h.stage(left, use))
		if got := h.read(filepath.Join(h.staging(left), "g")); got != "y" {
			h.Errorf("read %q, want y: the journal was not replayed", got)
		}
		h.must(h.unstage(left))
		h.want(h.stage(h.engine.create(sizeFor(fs)), use), fault.Precondition, "never formatted")
	})
}

func TestWhatIsGoneIsNeverFormattedAgain(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		for _, state := range []backend.FormatState{backend.Formatted, backend.Cloned} {
			for name, spoil := range map[string]func(path string){
				"blank":   func(string) {},
				"foreign": func(path string) { run(h.T, "mkswap", path) },
				"other":   func(path string) { h.must(mkfs(h.Context(), otherThan(fs), path)) },
			} {
				for _, readOnly := range []bool{false, true} {
					id := h.engine.create(sizeFor(volume.XFS))
					spoil(h.engine.file(id))
					h.must(h.engine.RecordFilesystem(h.Context(), id, backend.Filesystem{Type: fs, State: state}))
					before := fingerprint(h, id)
					h.want(h.stage(id, Use{Filesystem: fs, ReadOnly: readOnly}), fault.Corrupt, "left untouched")
					if fingerprint(h, id) != before || h.state(id) != state {
						h.Errorf("%s %s: something was written", state, name)
					}
					h.must(h.unstage(id))
					h.must(os.Remove(h.engine.file(id)))
				}
			}
		}
	})
}

// fingerprint changes with what a filesystem's tools write.
func fingerprint(h *house, id volume.ID) string {
	h.Helper()
	f, err := os.Open(h.engine.file(id))
	h.must(err)
	defer f.Close()
	ends := make([]byte, 4<<20)
	_, err = f.ReadAt(ends, 0)
	h.must(err)
	return fmt.Sprintf("%x %s", sha256.Sum256(ends), run(h.T, "stat", "-c", "%s %b", f.Name()))
}

func otherThan(fs volume.Filesystem) volume.Filesystem {
	if fs == volume.Ext4 {
		return volume.XFS
	}
	return volume.Ext4
}

func TestWhatIsNotBlankIsNotFormatted(t *testing.T) {
	h := newHouse(t)
	const sizeBytes = 64 << 20
	for name, offset := range map[string]int64{"first byte": 0, "backup GPT": sizeBytes - 512, "in the first MiB": 700000} {
		id := h.engine.create(sizeBytes)
		f, err := os.OpenFile(h.engine.file(id), os.O_WRONLY, 0)
		h.must(err)
		_, err = f.WriteAt([]byte("EFI PART"), offset)
		h.must(err)
		h.must(f.Close())
		h.want(h.stage(id, Use{}), fault.Precondition, "not blank")
		if got := h.state(id); got != backend.NeverFormatted {
			h.Errorf("%s: state %q", name, got)
		}
	}
}

func TestTheRecordedFilesystemCounts(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	h.want(h.stage(id, Use{Filesystem: volume.XFS}), fault.Precondition, `"xfs", but the volume is formatted with "ext4"`)
	h.must(h.unstage(id))
	h.want(h.stage(id, Use{Filesystem: volume.XFS}), fault.Precondition, `"xfs", but the volume is formatted with "ext4"`)
	small := h.engine.create(64 << 20)
	h.want(h.stage(small, Use{Filesystem: volume.XFS}), fault.Precondition, "at least")
	if h.state(small) != backend.NeverFormatted {
		h.Error("a volume that is too small was begun to be formatted")
	}
	h.want(h.stage(small, Use{MountFlags: []string{"device=/dev/sda"}}), fault.Invalid, `"device"`)
	if h.device(small) == "" {
		h.must(h.stage(small, Use{Filesystem: volume.Ext4, MountFlags: []string{"data=ordered,commit=30"}}))
	}
	h.must(h.unstage(small))
}

func TestDamageIsFoundBeforeMounting(t *testing.T) {
	eachFilesystem(t, func(h *house, fs volume.Filesystem) {
		id := h.engine.create(sizeFor(fs))
		h.must(h.stage(id, Use{Filesystem: fs}))
		for _, name := range []string{"a", "b", "c"} {
			h.must(os.Mkdir(filepath.Join(h.staging(id), name), 0o755))
		}
		h.must(h.unstage(id))
		f, err := os.OpenFile(h.engine.file(id), os.O_RDWR, 0)
		h.must(err)
		switch fs {
		case volume.Ext4: // the group descriptors and the inode tables
			run(h.T, "tune2fs", "-E", "force_fsck", h.engine.file(id))
			_, err = f.WriteAt(make([]byte, 8<<20), 64<<10)
		case volume.XFS: // all but the first superblock of the first group
			_, err = f.WriteAt(make([]byte, 1<<20), 4096)
		case volume.Btrfs: // everything but the superblocks
			_, err = f.WriteAt(make([]byte, 40<<20), 1<<20)
		}
		h.must(err)
		h.must(f.Close())
		h.want(h.stage(id, Use{}), fault.Corrupt, map[volume.Filesystem]string{volume.Ext4: "repairing it needs a decision", volume.XFS: "xfs_repair -n", volume.Btrfs: "btrfs check"}[fs])
		if h.state(id) != backend.Formatted || len(h.mountsBelow()) > 0 {
			h.Errorf("state %q, mounts %v", h.state(id), h.mountsBelow())
		}
		h.must(h.unstage(id))
	})
}

func TestEngineDown(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	down := func(string) error { return fault.New(fault.Transient, "connection refused") }
	h.engine.fail = down
	h.want(h.stage(id, Use{}), fault.Transient, "refused")
	calls := 0
	h.engine.fail = func(string) error {
		if calls++; calls < 3 {
			return down("")
		}
		return nil
	}
	h.must(h.stage(id, Use{})) // it was starting
	h.must(h.publish(id, "a", Use{}))
	h.engine.mu.Lock()
	h.engine.fail = down
	h.engine.mu.Unlock()
	h.must(h.unpublish(id, "a")) // a pod ends without it
	h.want(h.unstage(id), fault.Transient, "refused")
	health, err := h.node.StorageHealth(h.Context())
	h.must(err)
	if len(health) != 1 || health[0].Reason != "EngineUnreachable" {
		h.Errorf("health %+v", health)
	}
	h.engine.fail = nil
	h.must(h.unstage(id))
}

func TestUnknownVolumes(t *testing.T) {
	h := newHouse(t)
	id := volume.NewID()
	h.want(h.stage(id, Use{}), fault.NotFound, "unknown")
	h.want(h.publish(id, "a", Use{}), fault.NotFound, "unknown")
	h.must(h.unpublish(id, "a"))
	h.must(h.unstage(id))
	_, err := h.node.Stats(h.Context(), id, h.target("a"))
	h.want(err, fault.NotFound, "unknown")
	// Staged, then forgotten by the engine: the mount is cleaned all the same.
	id = h.engine.create(64 << 20)
	h.must(h.stage(id, Use{}))
	device := h.device(id)
	h.engine.mu.Lock()
	delete(h.engine.volumes, id)
	h.engine.mu.Unlock()
	h.must(h.unstage(id))
	if points := h.mountsBelow(); len(points) > 0 {
		h.Errorf("still mounted: %v", points)
	}
	run(t, "losetup", "-d", device)
}

func TestDuplicatesInFlight(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	held, let := make(chan struct{}), make(chan struct{})
	h.node.here = func(place string) {
		if place == "node: attached" {
			close(held)
			<-let
		}
	}
	first := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	request := StageRequest{ID: id, StagingPath: h.staging(id)}
	go func() { first <- h.node.Stage(ctx, request) }()
	<-held
	h.want(h.stage(id, Use{}), fault.Busy, "under way")
	h.want(h.unpublish(id, "a"), fault.Busy, "under way")
	other := volume.NewID()
	h.want(h.node.Unstage(t.Context(), other, h.staging(id)), fault.Busy, "under way")
	// The caller leaves; the work goes on and is there for the retry.
	cancel()
	h.want(<-first, fault.Canceled, "goes on")
	h.want(h.stage(id, Use{}), fault.Busy, "under way")
	close(let)
	h.node.running.Wait()
	if len(h.mountsBelow()) != 1 {
		h.Errorf("mounts %v, want the abandoned stage's", h.mountsBelow())
	}
	h.node.here = func(string) {}
	h.must(h.stage(id, Use{}))
	h.must(h.unstage(id))
	h.node.Close()
	h.want(h.stage(id, Use{}), fault.Transient, "stopping")
}

// TestWhatIsWrittenRawIsNotFormattedOver: mkfs died, the volume was then used as
// a raw block device, and is now to be a filesystem again.
func TestWhatIsWrittenRawIsNotFormattedOver(t *testing.T) {
	h := newHouse(t)
	id := h.engine.create(64 << 20)
	h.must(h.engine.RecordFilesystem(t.Context(), id, backend.Filesystem{Type: volume.Ext4, State: backend.Formatting}))
	h.must(h.stage(id, Use{Block: true}))
	h.write(h.device(id), "precious")
	h.must(h.unstage(id))
	h.want(h.stage(id, Use{Filesystem: volume.Ext4}), fault.Precondition, "never formatted, yet is not blank")
	if got := h.read(h.device(id))[:8]; got != "precious" {
		t.Errorf("the device holds %q", got)
	}
	h.must(h.unstage(id))
}
