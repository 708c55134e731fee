package node

import (
	"crypto/rand"
	"encoding/binary"
	"hash/crc32"
	"os"

	"github.com/holkas-io/holkas/pkg/fault"
)

// A clone of a btrfs filesystem has its origin's identity, and kernels before
// 6.7 do not mount the two at once. Since 5.0 a filesystem can have a new
// identity while its trees keep the old one: the superblock says both. Only the
// superblock changes, in one write, whatever else is on the device (a log of
// unfinished fsyncs included, which btrfstune would lose).
//
// The fields of the superblock, little-endian, from its beginning:
//
//	  0   4  CRC32C of bytes 32 to 4096 (checksum type 0; 28 more bytes for others)
//	 32  16  fsid: the identity
//	 48   8  the superblock's own offset on the device
//	 64   8  magic "_BHRfS_M"
//	 96   8  where the log of unfinished fsyncs is, or 0
//	136   8  number of devices
//	188   8  incompatible features; bit 10: metadata_uuid is in use
//	196   2  checksum type
//	209   8  the filesystem's size on this device in bytes
//	283  16  the device's fsid: that of the trees
//	571  16  metadata_uuid: the identity in the trees
type btrfsSuper []byte

const (
	btrfsSuperOffset  = 64 << 10
	btrfsSuperBytes   = 4096
	btrfsMetadataUUID = 1 << 10
)

// btrfsCopies are the offsets of the superblock and of its copies, as far as the
// filesystem reaches: what lies behind it on a larger device is nothing yet.
var btrfsCopies = []int64{btrfsSuperOffset, 64 << 20, 256 << 30}

func (s btrfsSuper) valid() bool { return string(s[64:72]) == "_BHRfS_M" }

func (s btrfsSuper) deviceBytes() int64 { return int64(binary.LittleEndian.Uint64(s[209:])) }

func (s btrfsSuper) features() uint64 { return binary.LittleEndian.Uint64(s[188:]) }

func (s btrfsSuper) checksum() uint32 {
	return crc32.Checksum(s[32:btrfsSuperBytes], crc32.MakeTable(crc32.Castagnoli))
}

// check reports a superblock that must not be changed.
func (s btrfsSuper) check(offset int64) error {
	little := binary.LittleEndian
	trees := s[32:48]
	if s.features()&btrfsMetadataUUID != 0 {
		trees = s[571:587]
	}
	switch {
	case !s.valid() || int64(little.Uint64(s[48:])) != offset:
		return fault.New(fault.Corrupt, "btrfs superblock at %d: not one", offset)
	case little.Uint16(s[196:]) != 0:
		return fault.New(fault.Unsupported, "btrfs superblock at %d: checksum type %d: want 0 (crc32c)", offset, little.Uint16(s[196:]))
	case little.Uint32(s) != s.checksum():
		return fault.New(fault.Corrupt, "btrfs superblock at %d: checksum %08x: want %08x", offset, little.Uint32(s), s.checksum())
	case little.Uint64(s[136:]) != 1:
		return fault.New(fault.Unsupported, "btrfs superblock at %d: %d devices: want 1", offset, little.Uint64(s[136:]))
	case string(s[283:299]) != string(trees):
		return fault.New(fault.Corrupt, "btrfs superblock at %d: the device's identity %x is not the trees' %x", offset, s[283:299], trees)
	}
	return nil
}

// identify gives the superblock a new identity.
func (s btrfsSuper) identify(id [16]byte) {
	little := binary.LittleEndian
	if s.features()&btrfsMetadataUUID == 0 {
		copy(s[571:587], s[32:48])
		little.PutUint64(s[188:], s.features()|btrfsMetadataUUID)
	}
	copy(s[32:48], id[:])
	little.PutUint32(s, s.checksum())
}

// hasBtrfsLog reports whether a filesystem has fsyncs to replay.
func hasBtrfsLog(device string) (bool, error) {
	f, err := os.Open(device)
	if err != nil {
		return false, fault.As(fault.Internal, err)
	}
	defer f.Close()
	s := make(btrfsSuper, btrfsSuperBytes)
	if _, err := f.ReadAt(s, btrfsSuperOffset); err != nil {
		return false, fault.As(fault.Internal, err)
	}
	return s.valid() && binary.LittleEndian.Uint64(s[96:]) != 0, nil
}

// newBtrfsIdentity gives the filesystem on a device that is not mounted an
// identity of its own. It is durable when it returns, and may be repeated.
func newBtrfsIdentity(device string) error {
	f, err := os.OpenFile(device, os.O_RDWR|os.O_EXCL, 0)
	if err != nil {
		return fault.As(fault.Internal, err)
	}
	defer f.Close()
	var id [16]byte
	_, _ = rand.Read(id[:])                        // never fails
	id[6], id[8] = id[6]&0xf|0x40, id[8]&0x3f|0x80 // a random UUID
	end := btrfsCopies[0] + btrfsSuperBytes + 1
	for _, offset := range btrfsCopies {
		if offset+btrfsSuperBytes >= end { // as the kernel counts
			break
		}
		s := make(btrfsSuper, btrfsSuperBytes)
		if _, err := f.ReadAt(s, offset); err != nil {
			return fault.As(fault.Internal, err)
		}
		if err := s.check(offset); err != nil {
			return fault.Wrap(err, "new identity for", device)
		}
		end = s.deviceBytes()
		s.identify(id)
		if _, err := f.WriteAt(s, offset); err != nil {
			return fault.As(fault.Internal, err)
		}
	}
	return fault.As(fault.Internal, f.Sync())
}
