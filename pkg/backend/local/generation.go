package local

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"iter"
	"os"
	"syscall"
	"unsafe"
)

// owedByGeneration counts what btrfs will copy when it is written, and what is a
// hole. It writes in place only what is not shared (FIEMAP knows), and was
// written after the newest snapshot of its subvolume (the extents' generations
// tell).
func owedByGeneration(path string, sizeBytes int64) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	last, err := lastSnapshot(f)
	if err != nil {
		return 0, err
	}
	newer, stopNewer := iter.Pull2(newerThan(f, last))
	defer stopNewer()
	unshared, stopUnshared := iter.Pull2(unsharedIn(f))
	defer stopUnshared()
	owed := sizeBytes
	a, errA, okA := newer()
	b, errB, okB := unshared()
	for okA && okB {
		if err := errors.Join(errA, errB); err != nil {
			return 0, err
		}
		start, end := max(a.start, b.start), min(a.end, b.end, uint64(sizeBytes))
		if start < end {
			owed -= int64(end - start)
		}
		if a.end <= b.end {
			a, errA, okA = newer()
		} else {
			b, errB, okB = unshared()
		}
	}
	return owed, errors.Join(errA, errB)
}

// span is a range of a file, from start up to end.
type span struct{ start, end uint64 }

// unsharedIn yields what of a file nothing else references.
func unsharedIn(f *os.File) iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		for e, err := range extents(f, 0, 0) {
			if e.flags&fiemapShared != 0 {
				continue
			}
			if !yield(span{e.logical, e.logical + e.length}, err) {
				return
			}
		}
	}
}

// newerThan yields the extents of a file that were written after a generation.
func newerThan(f *os.File, generation uint64) iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		inode, err := inodeOf(f)
		if err != nil {
			yield(span{}, err)
			return
		}
		from := treeKey{object: inode, is: extentDataKey}
		to := treeKey{object: inode, is: extentDataKey, offset: ^uint64(0)}
		for item, err := range treeItems(f, 0, from, to) {
			if err != nil {
				yield(span{}, err)
				return
			}
			s, written, ok := fileExtent(item)
			if ok && written > generation && !yield(s, nil) {
				return
			}
		}
	}
}

// fileExtent decodes struct btrfs_file_extent_item: generation (8 bytes), length
// in memory (8), compression, encryption and other encoding (4), type (1), and,
// unless the data is inline, the extent's place (8) and length (8), and the offset
// (8) and length (8) of what of it is used. ok is false for a hole.
func fileExtent(item treeItem) (s span, generation uint64, ok bool) {
	const regular, inline = 53, 0
	b := item.data
	if len(b) < regular || b[20] == inline || binary.LittleEndian.Uint64(b[21:]) == 0 {
		return span{}, 0, false
	}
	length := binary.LittleEndian.Uint64(b[45:])
	return span{item.key.offset, item.key.offset + length}, binary.LittleEndian.Uint64(b), true
}

// lastSnapshot returns the generation of the newest snapshot of a file's
// subvolume: last_snapshot of struct btrfs_root_item.
func lastSnapshot(f *os.File) (uint64, error) {
	const lastSnapshotAt = 200
	id, err := subvolumeID(f)
	if err != nil {
		return 0, err
	}
	from := treeKey{object: id, is: rootItemKey}
	to := treeKey{object: id, is: rootItemKey, offset: ^uint64(0)}
	for item, err := range treeItems(f, rootTree, from, to) {
		if err != nil {
			return 0, err
		}
		if len(item.data) < lastSnapshotAt+8 {
			break
		}
		return binary.LittleEndian.Uint64(item.data[lastSnapshotAt:]), nil
	}
	return 0, &os.PathError{Op: "root item", Path: f.Name(), Err: fs.ErrNotExist}
}

func subvolumeID(f *os.File) (uint64, error) {
	// struct btrfs_ioctl_ino_lookup_args
	args := struct {
		tree, object uint64
		name         [4080]byte
	}{object: 256}
	if err := ioctl(f, inoLookup, unsafe.Pointer(&args)); err != nil {
		return 0, &os.PathError{Op: "subvolume of", Path: f.Name(), Err: err}
	}
	return args.tree, nil
}

func inodeOf(f *os.File) (uint64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fs.ErrInvalid
	}
	return st.Ino, nil
}

// deletedSubvolumes returns the ids of the deleted subvolumes that still hold
// room. f is any file of the filesystem.
func deletedSubvolumes(f *os.File) (map[uint64]bool, error) {
	from := treeKey{object: orphans, is: orphanItemKey}
	to := treeKey{object: orphans, is: orphanItemKey, offset: ^uint64(0)}
	ids := map[uint64]bool{}
	for item, err := range treeItems(f, rootTree, from, to) {
		if err != nil {
			return nil, err
		}
		ids[item.key.offset] = true
	}
	return ids, nil
}
