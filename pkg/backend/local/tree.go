package local

import (
	"encoding/binary"
	"errors"
	"iter"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Of linux/btrfs.h and linux/btrfs_tree.h.
const (
	inoLookup     = 0xd0009412
	treeSearch    = 0xc0709411 // BTRFS_IOC_TREE_SEARCH_V2
	rootTree      = 1
	orphans       = ^uint64(4) // BTRFS_ORPHAN_OBJECTID, -5
	orphanItemKey = 48
	extentDataKey = 108
	rootItemKey   = 132
)

// treeKey is where an item stands in a tree.
type treeKey struct {
	object uint64
	is     uint8
	offset uint64
}

// treeItem is an item of a tree. Its data is only valid until the next.
type treeItem struct {
	key  treeKey
	data []byte
}

// treeSearchArgs is struct btrfs_ioctl_search_args_v2.
type treeSearchArgs struct {
	tree                           uint64
	minObject, maxObject           uint64
	minOffset, maxOffset           uint64
	minTransaction, maxTransaction uint64
	minType, maxType, items, _     uint32
	_                              [4]uint64
	size                           uint64
	buffer                         [64 << 10]byte
}

// treeItems yields the items of a tree (0: the file's own subvolume) from one key
// to another. The two have the same object and type.
func treeItems(f *os.File, tree uint64, from, to treeKey) iter.Seq2[treeItem, error] {
	return func(yield func(treeItem, error) bool) {
		args := &treeSearchArgs{}
		for {
			args.tree = tree
			args.minObject, args.maxObject = from.object, to.object
			args.minType, args.maxType = uint32(from.is), uint32(to.is)
			args.minOffset, args.maxOffset = from.offset, to.offset
			args.minTransaction, args.maxTransaction = 0, ^uint64(0)
			args.items, args.size = ^uint32(0), uint64(len(args.buffer))
			err := ioctl(f, treeSearch, unsafe.Pointer(args))
			if errors.Is(err, unix.EINTR) {
				continue
			}
			if err != nil {
				yield(treeItem{}, &os.PathError{Op: "tree search", Path: f.Name(), Err: err})
				return
			}
			if args.items == 0 {
				return
			}
			b := args.buffer[:]
			for range args.items {
				item, rest := nextItem(b)
				if !yield(item, nil) || item.key.offset == ^uint64(0) {
					return
				}
				b, from.offset = rest, item.key.offset+1
			}
		}
	}
}

// nextItem decodes struct btrfs_ioctl_search_header (transaction, object, offset,
// type, length) and what follows it.
func nextItem(b []byte) (item treeItem, rest []byte) {
	const header = 32
	length := binary.NativeEndian.Uint32(b[28:])
	item.key = treeKey{
		object: binary.NativeEndian.Uint64(b[8:]),
		offset: binary.NativeEndian.Uint64(b[16:]),
		is:     uint8(binary.NativeEndian.Uint32(b[24:])),
	}
	item.data = b[header : header+length]
	return item, b[header+length:]
}
