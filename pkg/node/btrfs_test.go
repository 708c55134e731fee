package node

import (
	"os"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// TestACloneThatReachesTheThirdSuperblock: btrfs keeps a copy of its superblock
// at 256 GiB. A clone of a smaller filesystem on a device that reaches there has
// none yet, and one of a larger filesystem has its origin's.
func TestACloneThatReachesTheThirdSuperblock(t *testing.T) {
	const third = 256 << 30
	for name, row := range map[string]struct{ filesystemBytes, deviceBytes int64 }{
		"the device reaches it":             {256 << 20, third + 1<<30},
		"the filesystem ends just there":    {third + btrfsSuperBytes, third + 1<<30},
		"the filesystem reaches it as well": {third + 1<<30, third + 2<<30},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			id := h.engine.create(row.deviceBytes)
			file := h.engine.file(id)
			run(t, "mkfs.btrfs", "-q", "-K", "-f", "-b", strconv.FormatInt(row.filesystemBytes, 10), file)
			h.must(h.engine.RecordFilesystem(t.Context(), id, backend.Filesystem{Type: volume.Btrfs, State: backend.Cloned}))
			before := identity(h, id)
			h.must(h.stage(id, Use{}))
			if total := h.total(id, h.staging(id)); total != row.deviceBytes {
				t.Errorf("the filesystem has %d bytes, want it grown to %d", total, row.deviceBytes)
			}
			h.write(filepath.Join(h.staging(id), "f"), "x")
			h.must(h.unstage(id))
			h.checkQuietly(id, volume.Btrfs)
			if after := identity(h, id); after == before {
				t.Errorf("identity %s, want a new one", after)
			}
		})
	}
}

// FuzzSuperblock gives the readers of superblocks the beginning of a device: they
// recognise it or not, and a btrfs superblock that passes the check has a new
// identity that passes it too.
func FuzzSuperblock(f *testing.F) {
	for _, fs := range filesystems {
		image := filepath.Join(f.TempDir(), "image")
		if err := os.WriteFile(image, nil, 0o600); err != nil {
			f.Fatal(err)
		}
		if err := os.Truncate(image, fs.MinimumBytes()); err != nil {
			f.Fatal(err)
		}
		if err := mkfs(f.Context(), fs, image); err != nil {
			f.Fatal(err)
		}
		head := make([]byte, btrfsSuperOffset+btrfsSuperBytes)
		file, err := os.Open(image)
		if err != nil {
			f.Fatal(err)
		}
		if _, err := file.ReadAt(head, 0); err != nil {
			f.Fatal(err)
		}
		file.Close()
		if found := recognize(head); found.filesystem != fs {
			f.Fatalf("%s is recognised as %q", fs, found.filesystem)
		}
		f.Add(head[:2048], head[btrfsSuperOffset:])
	}
	f.Add([]byte{}, []byte{})
	f.Fuzz(func(t *testing.T, start, super []byte) {
		recognize(start)
		head := make([]byte, btrfsSuperOffset+btrfsSuperBytes)
		copy(head, start[:min(len(start), btrfsSuperOffset)])
		copy(head[btrfsSuperOffset:], super)
		recognize(head)
		s := btrfsSuper(head[btrfsSuperOffset:])
		if err := s.check(btrfsSuperOffset); err != nil {
			if !fault.Is(err, fault.Corrupt) && !fault.Is(err, fault.Unsupported) {
				t.Errorf("got %v, want Corrupt or Unsupported", err)
			}
			return
		}
		s.identify([16]byte{1})
		if err := s.check(btrfsSuperOffset); err != nil {
			t.Errorf("after a new identity: %v", err)
		}
	})
}
