package cache

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/holkas-io/holkas/pkg/engine/disk"
	"github.com/holkas-io/holkas/pkg/fault"
)

// The geometry. All of it is part of the format.
const (
	block      = disk.Align
	tailAt     = block - 64
	crcAt      = block - 4
	payload    = tailAt // bytes of an object in a block
	lineBlocks = 16
	unit       = lineBlocks * block // a line, or the index of a group, in the file

	entryBytes  = 12
	pageEntries = payload / entryBytes     // 336
	groupLines  = lineBlocks * pageEntries // 5376
	groupUnits  = 1 + groupLines

	// LineBytes is the bytes of an object in a line.
	LineBytes = lineBlocks * payload

	superMagic = "hlkcach\n"
	version    = 1
	pageKind   = 255 // of the blocks of the index; those of objects have vlog's kinds
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	le         = binary.LittleEndian
)

func crc(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// linesIn returns how many lines fit into a file of so many bytes.
func linesIn(bytes int64) int {
	units := bytes/unit - 1
	if units < 1 {
		return 0
	}
	groups := (units + groupUnits - 1) / groupUnits
	return int(max(0, units-groups))
}

// fileBytes returns the length of a file with so many lines.
func fileBytes(lines int) int64 {
	groups := (lines + groupLines - 1) / groupLines
	return int64(1+groups+lines) * unit
}

// lineAt returns where in the file a line is.
func lineAt(slot uint32) int64 {
	group := int64(slot) / groupLines
	return (1 + group*groupUnits + 1 + int64(slot)%groupLines) * unit
}

// pageAt returns where in the file a page of the index is.
func pageAt(page int) int64 {
	group := int64(page) / lineBlocks
	return (1+group*groupUnits)*unit + int64(page)%lineBlocks*block
}

func pagesOf(lines int) int { return (lines + pageEntries - 1) / pageEntries }

// incarnation tells one life of a file from every other: 128 random bits.
type incarnation [16]byte

// tail is the end of a block without its checksum: whose it is, in full.
type tail [crcAt - tailAt]byte

// tail returns the end of one of the object's blocks, whose number is in the
// block after those of lower numbers.
func (o Object) tail(number int64) (t tail) {
	copy(t[0:], o.Log[:])
	copy(t[16:], o.Nonce[:])
	le.PutUint64(t[32:], uint64(o.Sequence))
	le.PutUint32(t[40:], uint32(number))
	le.PutUint16(t[44:], uint16(min(payload, o.SizeBytes-number*payload)))
	t[46] = byte(o.Kind)
	return t
}

func pageTail(life incarnation, page int) (t tail) {
	copy(t[0:], life[:])
	le.PutUint32(t[40:], uint32(page))
	le.PutUint16(t[44:], payload)
	t[46] = pageKind
	return t
}

// seal completes a block whose payload is there.
func seal(b []byte, t tail) {
	copy(b[tailAt:], t[:])
	le.PutUint32(b[crcAt:], crc(b[:crcAt]))
}

// whole reports whether b is the block with this tail, undamaged.
func whole(b []byte, t tail) bool {
	return bytes.Equal(b[tailAt:crcAt], t[:]) && crc(b[:crcAt]) == le.Uint32(b[crcAt:block])
}

// putSuper writes the superblock into a block of zeros.
func putSuper(b []byte, life incarnation) {
	copy(b, superMagic)
	le.PutUint16(b[8:], version)
	copy(b[16:], life[:])
	le.PutUint32(b[crcAt:], crc(b[:crcAt]))
}

// decodeSuper reads a superblock. ok is false if the content of the file cannot
// be used, because the superblock is damaged or of a version or with flags that
// this program does not know. Precondition if the file is no cache at all.
func decodeSuper(b []byte, what string) (life incarnation, ok bool, err error) {
	if string(b[:8]) != superMagic {
		return life, false, fault.New(fault.Precondition, "%s at 0: magic: got %q, want %q: the file is no cache and is left as it is: remove it or name another path", what, b[:8], superMagic)
	}
	if crc(b[:crcAt]) != le.Uint32(b[crcAt:]) || le.Uint16(b[8:]) != version || le.Uint16(b[10:]) != 0 {
		return life, false, nil
	}
	copy(life[:], b[16:])
	return life, true, nil
}

// entry is what the index says about a slot.
type entry struct {
	print  fingerprint
	blocks uint16 // those that are there, from the lowest bit
	state  state
}

// putPage writes a page of the index into a block of zeros.
func putPage(b []byte, entries []entry, life incarnation, page int) {
	for i, e := range entries {
		at := b[i*entryBytes:]
		le.PutUint64(at, uint64(e.print))
		le.PutUint16(at[8:], e.blocks)
		at[10] = byte(e.state)
	}
	seal(b, pageTail(life, page))
}

// decodePage reads a page of the index; nil if it is damaged, or is another's.
func decodePage(b []byte, life incarnation, page int) (entries []entry) {
	if !whole(b, pageTail(life, page)) {
		return nil
	}
	for at := 0; at < pageEntries*entryBytes; at += entryBytes {
		e := entry{fingerprint(le.Uint64(b[at:])), le.Uint16(b[at+8:]), state(b[at+10])}
		if e.print>>16 == 0 || e.blocks == 0 {
			e = entry{}
		}
		e.state &= hitsMask | queueMask
		entries = append(entries, e)
	}
	return entries
}
