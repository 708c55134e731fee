package nbd

import (
	"encoding/binary"
	"fmt"
)

// Magic numbers and sizes of the transmission phase, see doc/proto.md of the NBD
// project, which names all of this. Integers are big-endian.
const (
	requestMagic = 0x25609513
	replyMagic   = 0x67446698
	requestBytes = 28
	replyBytes   = 16
)

// What a client may ask.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisconnect  = 2
	cmdFlush       = 3
	cmdTrim        = 4
	cmdWriteZeroes = 6
)

// Flags of one request.
const (
	flagFUA    = 1 << 0
	flagNoHole = 1 << 1
)

// What an export says of itself.
const (
	hasFlags        = 1 << 0
	readOnly        = 1 << 1
	sendFlush       = 1 << 2
	sendFUA         = 1 << 3
	sendTrim        = 1 << 5
	sendWriteZeroes = 1 << 6
	canMultiConn    = 1 << 8
)

// Errors in a reply.
const (
	ePerm   = 1
	eIO     = 5
	eInval  = 22
	eNoSpc  = 28
	eNotSup = 95
)

// Sizes that requests have. A payload of 32 MiB is what a client may send that
// was not told of a limit.
const (
	sectorBytes    = 512
	preferredBytes = 4096
	maxPayload     = 32 << 20
)

// request is the head of a request:
//
//	offset 0   u32  requestMagic
//	       4   u16  flags
//	       6   u16  command
//	       8   u64  cookie, repeated in the reply
//	      16   u64  offset in bytes
//	      24   u32  length in bytes
//
// The bytes of a write follow.
type request struct {
	flags, command uint16
	cookie         uint64
	offset         uint64
	length         uint32
}

// parseRequest reads a request's head. An error is one after which the stream
// cannot be understood any more.
func parseRequest(b *[requestBytes]byte) (request, error) {
	if magic := binary.BigEndian.Uint32(b[0:]); magic != requestMagic {
		return request{}, fmt.Errorf("request begins with %#x, not %#x", magic, uint32(requestMagic))
	}
	r := request{
		flags:   binary.BigEndian.Uint16(b[4:]),
		command: binary.BigEndian.Uint16(b[6:]),
		cookie:  binary.BigEndian.Uint64(b[8:]),
		offset:  binary.BigEndian.Uint64(b[16:]),
		length:  binary.BigEndian.Uint32(b[24:]),
	}
	if r.command == cmdWrite && r.length > maxPayload {
		return request{}, fmt.Errorf("write of %d bytes: at most %d", r.length, maxPayload)
	}
	return r, nil
}

// putReply writes the head of a simple reply: magic, error, cookie.
func putReply(b []byte, code uint32, cookie uint64) {
	binary.BigEndian.PutUint32(b[0:], replyMagic)
	binary.BigEndian.PutUint32(b[4:], code)
	binary.BigEndian.PutUint64(b[8:], cookie)
}

// check says with which error a request is refused, or 0. Offsets and lengths
// are multiples of 512 and lie within the disk.
func (r request) check(sizeBytes int64, isReadOnly bool) uint32 {
	// FUA may stand on any request; on a read it asks for nothing.
	flags := r.flags &^ flagFUA
	switch r.command {
	case cmdRead:
		if r.length > maxPayload {
			return eInval
		}
	case cmdWrite, cmdTrim:
	case cmdWriteZeroes:
		flags &^= flagNoHole
	case cmdFlush:
		if flags != 0 || r.offset != 0 || r.length != 0 {
			return eInval
		}
		return 0
	default:
		return eInval
	}
	size := uint64(sizeBytes)
	switch {
	case flags != 0:
		return eInval
	case r.command != cmdRead && isReadOnly:
		return ePerm
	case r.length == 0 || r.length%sectorBytes != 0 || r.offset%sectorBytes != 0:
		return eInval
	case r.offset > size || uint64(r.length) > size-r.offset:
		if r.command == cmdRead || r.command == cmdTrim {
			return eInval
		}
		return eNoSpc
	}
	return 0
}
