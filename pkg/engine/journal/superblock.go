package journal

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/vlog"
	"github.com/holkas-io/holkas/pkg/volume"
)

const (
	block       = vlog.BlockSize
	crcAt       = block - 4
	superblocks = 2 * block // where the ring begins

	version    = 1
	superMagic = "hlkjsup\n"
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// run tells what was written since one epoch record from everything before: 64
// random bits.
type run uint64

// cursor is what the record at a position must be to follow what is before it.
type cursor struct {
	at    vlog.LSN
	run   run
	epoch vlog.Epoch
	link  uint32
}

// superblock is drawn in the package's comment.
type superblock struct {
	generation  uint64
	volume      volume.ID
	log         vlog.LogID
	incarnation vlog.Incarnation
	size        int64
	tail        cursor
	durable     vlog.LSN
	filled      int64
}

// put writes the superblock into a block of zeros.
func (s superblock) put(b []byte) {
	putOuter(b, superMagic)
	le.PutUint64(b[16:], s.generation)
	copy(b[24:52], s.volume)
	copy(b[52:68], s.log[:])
	le.PutUint64(b[84:], uint64(s.incarnation))
	le.PutUint64(b[92:], uint64(s.size))
	le.PutUint64(b[100:], uint64(s.tail.at))
	le.PutUint64(b[108:], uint64(s.durable))
	le.PutUint64(b[116:], uint64(s.filled))
	le.PutUint64(b[124:], uint64(s.tail.epoch))
	le.PutUint64(b[132:], uint64(s.tail.run))
	le.PutUint32(b[140:], s.tail.link)
	le.PutUint32(b[crcAt:], crc(b[:crcAt]))
}

// decodeSuperblock reads a superblock. Corrupt; Unsupported if it is whole but of
// a later version. what names file and offset.
func decodeSuperblock(b []byte, what string) (s superblock, err error) {
	more, err := checkOuter(b, superMagic, what)
	if err != nil {
		return s, err
	}
	s = superblock{
		generation:  le.Uint64(b[16:]),
		volume:      volume.ID(b[24:52]),
		log:         vlog.LogID(b[52:68]),
		incarnation: vlog.Incarnation(le.Uint64(b[84:])),
		size:        int64(le.Uint64(b[92:])),
		tail: cursor{
			at:    vlog.LSN(le.Uint64(b[100:])),
			epoch: vlog.Epoch(le.Uint64(b[124:])),
			run:   run(le.Uint64(b[132:])),
			link:  le.Uint32(b[140:]),
		},
		durable: vlog.LSN(le.Uint64(b[108:])),
		filled:  int64(le.Uint64(b[116:])),
	}
	switch _, idErr := volume.ParseID(string(s.volume)); {
	case [16]byte(b[68:84]) != [16]byte{}:
		err = fault.New(fault.Unsupported, "%s: payloads are sealed with key %x: this program reads plain ones: use a newer one", what, b[68:84])
	case s.generation == 0 || idErr != nil || s.incarnation == 0:
		err = fault.New(fault.Corrupt, "%s: generation %d, volume %q, incarnation %x: want none of them empty", what, s.generation, s.volume, s.incarnation)
	case s.size < MinSize || s.size > MaxSize || s.size%block != 0:
		err = fault.New(fault.Corrupt, "%s at 92: size: got %d, want a multiple of %d from %d to %d", what, s.size, block, int64(MinSize), int64(MaxSize))
	case s.tail.at%block != 0 || s.durable%block != 0 || s.tail.at > maxLSN || s.durable < s.tail.at || s.durable-s.tail.at > vlog.LSN(s.size):
		err = fault.New(fault.Corrupt, "%s at 100: tail %d and durable %d: want ascending multiples of %d, at most %d apart", what, s.tail.at, s.durable, block, s.size)
	case s.filled < 0 || s.filled > s.size || s.filled%block != 0:
		err = fault.New(fault.Corrupt, "%s at 116: filled: got %d, want a multiple of %d up to %d", what, s.filled, block, s.size)
	case s.tail.epoch > vlog.MaxEpoch:
		err = fault.New(fault.Corrupt, "%s at 124: epoch: got %d, want at most %d", what, s.tail.epoch, vlog.MaxEpoch)
	case b[14] != 0 || b[15] != 0 || !more && !zero(b[144:crcAt]):
		err = fault.New(fault.Corrupt, "%s: got bytes at 14 or behind 144: want zeros up to %d", what, crcAt)
	}
	return s, err
}

// putOuter writes what superblocks and headers have in common.
func putOuter(b []byte, magic string) {
	copy(b, magic)
	le.PutUint16(b[8:], version)
}

// checkOuter checks what superblocks and headers have in common: damage first,
// then whether this program understands them. more says that there may be fields
// that it does not know.
func checkOuter(b []byte, magic, what string) (more bool, err error) {
	if string(b[:8]) != magic {
		return false, fault.New(fault.Corrupt, "%s at 0: magic: got %q, want %q", what, b[:8], magic)
	}
	if got, want := crc(b[:crcAt]), le.Uint32(b[crcAt:]); got != want {
		return false, fault.New(fault.Corrupt, "%s: CRC32C of its first %d bytes: got %08x, want %08x", what, crcAt, got, want)
	}
	v, must := le.Uint16(b[8:]), le.Uint16(b[10:])
	switch {
	case v == 0:
		return false, fault.New(fault.Corrupt, "%s at 8: version: got 0, want one from 1", what)
	case v > version:
		return false, fault.New(fault.Unsupported, "%s: format version %d: this program reads up to %d: use a newer one", what, v, version)
	case must != 0:
		return false, fault.New(fault.Unsupported, "%s: must-understand flags %#04x: this program knows none: use a newer one", what, must)
	}
	return le.Uint16(b[12:]) != 0, nil
}

func zero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}
