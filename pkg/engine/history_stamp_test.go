package engine_test

import (
	"encoding/binary"
	"fmt"

	"github.com/holkas-io/holkas/pkg/vlog"
)

const (
	sector  = 512
	sectors = vlog.BlockSize / sector
)

// content is what a block holds: for each sector the number of the write that its
// bytes are of; 0 stands for zeros.
type content [sectors]uint32

// stamp fills p with what a write has at an offset: every sector tells where it
// belongs and which write it is of. Those of odd writes do not compress.
func stamp(p []byte, off int64, write uint32) {
	for ; len(p) > 0; p, off = p[sector:], off+sector {
		binary.LittleEndian.PutUint64(p, uint64(off/sector))
		binary.LittleEndian.PutUint64(p[8:], uint64(write))
		x := uint64(off)<<20 + uint64(write)
		for i := 16; i < sector; i += 8 {
			if write%2 == 1 {
				x ^= x << 13
				x ^= x >> 7
				x ^= x << 17
			}
			binary.LittleEndian.PutUint64(p[i:], x)
		}
	}
}

// decode tells what a block holds. Bytes that nobody wrote there are an error.
func decode(p []byte, block vlog.Block) (c content, err error) {
	var want [sector]byte
	for i := range c {
		got, off := p[i*sector:(i+1)*sector], int64(block)*vlog.BlockSize+int64(i)*sector
		write := binary.LittleEndian.Uint64(got[8:])
		clear(want[:])
		if write > 0 {
			stamp(want[:], off, uint32(write))
		}
		if string(got) != string(want[:]) {
			return c, fmt.Errorf("block %d, sector %d begins with %x: want what was written there", block, i, got[:24])
		}
		c[i] = uint32(write)
	}
	return c, nil
}

func (c content) String() string {
	for _, write := range c {
		if write != c[0] {
			return fmt.Sprint([sectors]uint32(c))
		}
	}
	return fmt.Sprint(c[0])
}
