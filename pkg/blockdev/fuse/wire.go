package fuse

import "encoding/binary"

// The kernel's protocol, include/uapi/linux/fuse.h, as far as one file needs it.
// All numbers are in the machine's own byte order.
var order = binary.NativeEndian

const (
	opLookup      = 1
	opForget      = 2
	opGetattr     = 3
	opSetattr     = 4
	opOpen        = 14
	opRead        = 15
	opWrite       = 16
	opStatfs      = 17
	opRelease     = 18
	opFsync       = 20
	opInit        = 26
	opInterrupt   = 36
	opDestroy     = 38
	opNotifyReply = 41
	opBatchForget = 42
	opFallocate   = 43
)

const (
	requestHeader = 40 // len, opcode u32; unique, nodeid u64; uid, gid, pid u32; ...
	replyHeader   = 16 // len u32, error i32, unique u64
	argsLength    = 40 // what a write has before its data: no operation needs more
	attrLength    = 88
)

// The two nodes: the folder, and the file in it.
const (
	rootNode = 1
	fileNode = 2
)

// Flags of the handshake.
const (
	initAsyncRead = 1 << 0
	initBigWrites = 1 << 5
	// initAsyncDIO lets the loop device have more than one request under way.
	initAsyncDIO = 1 << 15
	initMaxPages = 1 << 22

	wanted = initAsyncRead | initBigWrites | initAsyncDIO | initMaxPages
)

const (
	protocolMajor = 7
	// protocolMinor is what is spoken. Linux 5.4, the first that can mount it
	// nowhere, has it.
	protocolMinor = 31

	openDirectIO             = 1 << 0
	openNoFlush              = 1 << 5
	openParallelDirectWrites = 1 << 6 // as far as the kernel knows it

	setattrSize = 1 << 3

	fallocKeepSize  = 0x01
	fallocPunchHole = 0x02
	fallocZeroRange = 0x10

	// notifyRetrieve makes the kernel send a request (opNotifyReply) that nobody
	// waits for.
	notifyRetrieve = 5
)

// forEver is how long the kernel may keep an attribute or a name, in seconds. So
// whoever looks at the file while no engine answers need not wait; the size
// changes by a request of the kernel's own (setattr).
const forEver = 1 << 31

// request is one request of the kernel.
type request struct {
	op     uint32
	unique uint64
	node   uint64
	args   []byte // the first argsLength bytes of what follows the header
	rest   []byte // what follows those: the data of a write
}

func (r request) u32(off int) uint32 { return order.Uint32(r.args[off:]) }
func (r request) u64(off int) uint64 { return order.Uint64(r.args[off:]) }

// putHeader writes the header of a reply of n bytes behind it.
func putHeader(b []byte, unique uint64, errno int32, n int) {
	order.PutUint32(b[0:], uint32(replyHeader+n))
	order.PutUint32(b[4:], uint32(errno))
	order.PutUint64(b[8:], unique)
}

// putAttr writes a node's attributes.
func putAttr(b []byte, node uint64, size int64, mode, links uint32) {
	clear(b[:attrLength])
	order.PutUint64(b[0:], node)
	order.PutUint64(b[8:], uint64(size))
	order.PutUint64(b[16:], uint64(size)/512)
	order.PutUint32(b[60:], mode)
	order.PutUint32(b[64:], links)
	order.PutUint32(b[80:], blockSize)
}

// putInit answers the handshake, having seen the kernel's flags.
func putInit(b []byte, flags uint32, payload int) {
	clear(b[:64])
	order.PutUint32(b[0:], protocolMajor)
	order.PutUint32(b[4:], protocolMinor)
	order.PutUint32(b[12:], flags&wanted)
	order.PutUint16(b[16:], background)
	order.PutUint16(b[18:], background)
	order.PutUint32(b[20:], uint32(payload))
	order.PutUint32(b[24:], 1)
	order.PutUint16(b[28:], uint16(payload/pageSize))
}
