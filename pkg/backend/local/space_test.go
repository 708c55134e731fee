package local

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// aligned is a buffer for direct I/O, with random bytes.
func aligned(size int) []byte {
	raw := make([]byte, size+4096)
	skip := -int(uintptr(unsafe.Pointer(&raw[0]))) & 4095
	b := raw[skip : skip+size]
	for i := range b {
		b[i] = byte(rand.Int())
	}
	return b
}

// disk opens the file behind a volume as its loop device does, with direct I/O:
// errors are told at once.
func (h *house) disk(id volume.ID) *os.File {
	h.Helper()
	s := h.store()
	f, err := os.OpenFile(s.medium.disk(s.volume(id)), os.O_RDWR|unix.O_DIRECT, 0)
	h.must(err)
	return f
}

// scatter writes a share of a volume, in percent, in random order.
func (h *house) scatter(id volume.ID, share int, rng *rand.Rand) error {
	h.Helper()
	f := h.disk(id)
	defer f.Close()
	info, err := f.Stat()
	h.must(err)
	piece := max(h.piece, 16<<10)
	b := aligned(int(piece))
	pieces := rng.Perm(int(info.Size() / piece))
	for _, p := range pieces[:len(pieces)*share/100] {
		if _, err := f.WriteAt(b, int64(p)*piece); err != nil {
			return err
		}
	}
	return f.Sync()
}

// TestThickVolumeNeverMeetsAFullPool plays histories of creates, snapshots,
// clones, deletions and writes in a small pool, fills it to its brim, and
// rewrites every thick volume from end to end.
func TestThickVolumeNeverMeetsAFullPool(t *testing.T) {
	t.Parallel()
	histories := 1
	if os.Getenv("HOLKAS_SOAK") != "" {
		histories = 50
	}
	eachPool(t, 512*mib, func(h *house) {
		for range histories {
			seed := uint64(time.Now().UnixNano())
			h.Logf("seed %d", seed)
			h.history(rand.New(rand.NewPCG(seed, 0)), false)
			if h.Failed() {
				return
			}
			h.deleteAll()
		}
	})
}

// TestThinVolumesBesideThickOnes is the same with thin volumes in the pool, which
// may meet a full pool, and discard.
func TestThinVolumesBesideThickOnes(t *testing.T) {
	t.Parallel()
	eachPool(t, 512*mib, func(h *house) {
		h.piece = 256 << 10 // btrfs slows down when it is full
		seed := uint64(time.Now().UnixNano())
		h.Logf("seed %d", seed)
		h.history(rand.New(rand.NewPCG(seed, 0)), true)
	})
}

func (h *house) history(rng *rand.Rand, thin bool) {
	var thick, thins []volume.ID
	var cuts []volume.SnapshotID
	step := func(n int) {
		switch roll := rng.IntN(n); {
		case roll < 3:
			r := request(thickClass(), int64(1+rng.IntN(40))*mib)
			if thin && rng.IntN(2) == 0 {
				r = request(thinClass(), int64(1+rng.IntN(400))*mib)
			}
			if len(cuts) > 0 && roll == 0 {
				from := cuts[rng.IntN(len(cuts))]
				s, err := h.Snapshot(h.Context(), from)
				h.must(err)
				r.Source.Snapshot, r.SizeBytes = from, max(r.SizeBytes, s.SizeBytes)
			}
			if _, err := h.CreateVolume(h.Context(), r); err != nil {
				h.want(err, fault.Exhausted, "bytes are missing")
			} else if r.Class.Provisioning == volume.Thick {
				thick = append(thick, r.ID)
			} else {
				thins = append(thins, r.ID)
			}
		case roll < 6 && len(thick) > 0:
			r := cutOf(thick[rng.IntN(len(thick))], volume.FilesystemConsistent)
			if len(thins) > 0 && rng.IntN(2) == 0 {
				r.Volume = thins[rng.IntN(len(thins))]
			}
			if _, err := h.CreateSnapshot(h.Context(), r); err != nil {
				h.want(err, fault.Exhausted, "bytes are missing")
			} else {
				cuts = append(cuts, r.ID)
			}
		case roll < 8 && len(thick) > 0:
			id := thick[rng.IntN(len(thick))]
			if err := h.scatter(id, rng.IntN(100), rng); err != nil {
				h.Errorf("write into thick volume %s: %v", id, err)
			}
		case roll == 8 && len(cuts) > 0:
			i := rng.IntN(len(cuts))
			h.must(h.DeleteSnapshot(h.Context(), cuts[i]))
			cuts = append(cuts[:i], cuts[i+1:]...)
		case roll == 9 && len(thick) > 0:
			i := rng.IntN(len(thick))
			h.must(h.DeleteVolume(h.Context(), thick[i]))
			thick = append(thick[:i], thick[i+1:]...)
		case roll > 9 && len(thins) > 0:
			id := thins[rng.IntN(len(thins))]
			if err := h.scatter(id, rng.IntN(50), rng); err != nil && !errors.Is(err, unix.ENOSPC) {
				h.Errorf("write into thin volume %s: %v", id, err)
			}
			if h.as == volume.XFSPool && rng.IntN(3) == 0 { // see doc.go for btrfs
				h.punch(id)
			}
		}
	}
	n := 10
	if thin {
		n = 12
	}
	for range 40 {
		step(n)
	}
	// To the brim: what still fits, in ever smaller pieces, and snapshots of all.
	for size := int64(64 * mib); size >= mib; size /= 2 {
		for {
			r := request(thickClass(), size)
			if _, err := h.CreateVolume(h.Context(), r); err != nil {
				h.want(err, fault.Exhausted, "bytes are missing")
				break
			}
			thick = append(thick, r.ID)
			if rng.IntN(2) == 0 { // XFS shares only what was written
				h.must(h.scatter(r.ID, 100, rng))
				_, err := h.CreateSnapshot(h.Context(), cutOf(r.ID, volume.CrashConsistent))
				if err != nil {
					h.want(err, fault.Exhausted, "bytes are missing")
				}
			}
		}
	}
	for _, id := range thins {
		if err := h.scatter(id, 100, rng); err != nil && !errors.Is(err, unix.ENOSPC) {
			h.Errorf("write into thin volume %s: %v", id, err)
		}
	}
	for _, id := range thick {
		if err := h.scatter(id, 100, rng); err != nil {
			h.Errorf("rewrite of thick volume %s in a full pool: %v", id, err)
		}
	}
}

// punch frees the first half of a volume, as a discard does.
func (h *house) punch(id volume.ID) {
	h.Helper()
	f := h.disk(id)
	defer f.Close()
	info, err := f.Stat()
	h.must(err)
	h.must(unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, info.Size()/2))
}

// TestCapacityIsHonest: the largest volume that is announced can be created, and
// one unit more cannot; not even with other volumes and snapshots in the pool.
func TestCapacityIsHonest(t *testing.T) {
	t.Parallel()
	eachPool(t, 512*mib, func(h *house) {
		ask := func() int64 {
			h.must(h.store().medium.quiet()) // what was deleted a moment ago may be left out of it for a while
			c, err := h.Capacity(h.Context(), thickClass())
			h.must(err)
			if c.AvailableBytes != c.MaximumVolumeBytes {
				h.Errorf("%+v: want both the same in a single pool", c)
			}
			return c.MaximumVolumeBytes
		}
		try := func() {
			h.Helper()
			most := ask()
			_, err := h.CreateVolume(h.Context(), request(thickClass(), most+volume.SizeUnit))
			h.want(err, fault.Exhausted, "bytes are missing")
			h.nothingLeft("tmp")
			id := h.create(thickClass(), most)
			if left := ask(); left > 0 {
				h.Errorf("%d bytes are left beside the largest volume", left)
			}
			h.must(h.DeleteVolume(h.Context(), id))
		}
		try()
		id := h.create(thickClass(), 48*mib)
		h.must(h.scatter(id, 100, rand.New(rand.NewPCG(1, 1))))
		before := ask()
		s := h.snapshotOf(id)
		if after := ask(); before-after < 48*mib {
			h.Errorf("%d bytes are left after the snapshot of a volume of 48 MiB, and were %d before: want its copy-on-write counted", after, before)
		}
		try()
		h.must(h.scatter(id, 100, rand.New(rand.NewPCG(1, 1))))
		h.must(h.DeleteSnapshot(h.Context(), s.ID))
		try()
		if thin, err := h.Capacity(h.Context(), thinClass()); err != nil || thin.MaximumVolumeBytes <= before {
			h.Errorf("thin: %+v, %v: want more than %d where no thick volume depends on it", thin, err, before)
		}
		h.must(h.DeleteVolume(h.Context(), id))
	})
}

// TestFullPoolCanBeDeletedFrom: where thin volumes took the last block, deleting
// still works, and is remembered.
func TestFullPoolCanBeDeletedFrom(t *testing.T) {
	t.Parallel()
	eachPool(t, 384*mib, func(h *house) {
		id := h.create(thinClass(), 1<<30)
		s := h.snapshotOf(id)
		rng := rand.New(rand.NewPCG(1, 1))
		if err := h.scatter(id, 100, rng); !errors.Is(err, unix.ENOSPC) {
			h.Fatalf("%v, want ENOSPC", err)
		}
		h.fillUp()
		_, err := h.CreateVolume(h.Context(), request(thickClass(), mib))
		h.want(err, fault.Exhausted)
		h.must(h.DeleteSnapshot(h.Context(), s.ID))
		h.must(h.DeleteVolume(h.Context(), id))
		for _, gone := range []string{string(id), string(s.ID)} {
			h.want(fenced([]*store{h.store()}, gone), fault.Fenced, gone)
		}
		os.Remove(h.root + "/filler")
		h.reopen()
		h.deleteAll()
	})
}

// fillUp takes what room is left, down to the last block.
func (h *house) fillUp() {
	h.Helper()
	f, err := os.Create(h.root + "/filler")
	if errors.Is(err, unix.ENOSPC) {
		return // as full as can be
	}
	h.must(err)
	defer f.Close()
	for size := 1 << 20; size >= 4096; size /= 2 {
		b := make([]byte, size)
		for err == nil {
			if _, err = f.Write(b); err == nil {
				err = f.Sync()
			}
		}
		if !errors.Is(err, unix.ENOSPC) {
			h.must(err)
		}
		err = nil
	}
}

// TestDebtOutlivesTheSnapshot: btrfs copies what was written before a snapshot
// also when that is gone. Such a volume is as safe in a full pool as any other.
func TestDebtOutlivesTheSnapshot(t *testing.T) {
	t.Parallel()
	h := newHouse(t, volume.BtrfsPool, 768*mib)
	ask := func() int64 {
		h.Helper()
		c, err := h.Capacity(h.Context(), thickClass())
		h.must(err)
		return c.AvailableBytes
	}
	rng := rand.New(rand.NewPCG(1, 1))
	const size = 160 * mib
	id := h.create(thickClass(), size)
	h.must(h.scatter(id, 100, rng))
	fresh := ask()
	h.must(h.DeleteSnapshot(h.Context(), h.snapshotOf(id).ID))
	if owing := ask(); fresh-owing < size {
		h.Errorf("available %d, and %d after a snapshot that is gone: want %d set aside", fresh, owing, int64(size))
	}
	if most := ask(); most > 0 {
		h.create(thickClass(), most)
	}
	if err := h.scatter(id, 100, rng); err != nil {
		h.Errorf("rewrite in a full pool: %v", err)
	}
	h.deleteAll()
}
