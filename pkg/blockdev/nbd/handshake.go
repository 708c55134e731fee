package nbd

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Numbers of the fixed newstyle handshake.
const (
	serverMagic  = 0x4e42444d41474943 // "NBDMAGIC"
	optionMagic  = 0x49484156454f5054 // "IHAVEOPT"
	optionReply  = 0x0003e889045565a9
	fixedNew     = 1 << 0 // of the server and of the client
	noZeroes     = 1 << 1
	optExport    = 1
	optAbort     = 2
	optList      = 3
	optInfo      = 6
	optGo        = 7
	repAck       = 1
	repServer    = 2
	repInfo      = 3
	repErrUnsup  = 1<<31 | 1
	repErrInval  = 1<<31 | 3
	repErrUnk    = 1<<31 | 6
	infoExport   = 0
	infoBlocks   = 3
	maxOption    = 8 << 10 // a name has at most 4096 bytes
	maxOptions   = 64      // of one handshake
	exportZeroes = 124
)

// errAborted ends a handshake in which the client wants nothing (any more).
var errAborted = errors.New("the client ended the handshake")

// offer is what a handshake is about.
type offer struct {
	name      string
	sizeBytes int64
	flags     uint16
}

// has reports whether a client's name means the offer. The empty name is the
// default export's.
func (o offer) has(name []byte) bool { return len(name) == 0 || string(name) == o.name }

// handshake agrees with a client on the offer. When it returns nil, requests
// follow.
func (o offer) handshake(rw io.ReadWriter) error {
	hello := binary.BigEndian.AppendUint64(nil, serverMagic)
	hello = binary.BigEndian.AppendUint64(hello, optionMagic)
	hello = binary.BigEndian.AppendUint16(hello, fixedNew|noZeroes)
	if _, err := rw.Write(hello); err != nil {
		return err
	}
	var b [4]byte
	if _, err := io.ReadFull(rw, b[:]); err != nil {
		return err
	}
	client := binary.BigEndian.Uint32(b[:])
	if client&fixedNew == 0 || client&^(fixedNew|noZeroes) != 0 {
		return fmt.Errorf("client flags %#x: want the fixed newstyle handshake", client)
	}
	for range maxOptions {
		option, data, err := readOption(rw)
		if err != nil {
			return err
		}
		var out bytes.Buffer
		ready, err := o.answer(&out, option, data, client&noZeroes != 0)
		if _, err := rw.Write(out.Bytes()); err != nil {
			return err
		}
		if ready || err != nil {
			return err
		}
	}
	return fmt.Errorf("%d options and no export chosen", maxOptions)
}

// readOption reads one option: its magic, number, length and data.
func readOption(r io.Reader) (option uint32, data []byte, err error) {
	var head [16]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, nil, err
	}
	if magic := binary.BigEndian.Uint64(head[:]); magic != optionMagic {
		return 0, nil, fmt.Errorf("option begins with %#x, not %#x", magic, uint64(optionMagic))
	}
	length := binary.BigEndian.Uint32(head[12:])
	if length > maxOption {
		return 0, nil, fmt.Errorf("option of %d bytes: at most %d", length, maxOption)
	}
	data = make([]byte, length)
	_, err = io.ReadFull(r, data)
	return binary.BigEndian.Uint32(head[8:]), data, noEOF(err)
}

// answer writes the replies to an option. It reports whether requests follow;
// with an error, the connection ends once the replies are sent.
func (o offer) answer(out *bytes.Buffer, option uint32, data []byte, shortReply bool) (ready bool, err error) {
	reply := func(kind uint32, parts ...[]byte) {
		body := bytes.Join(parts, nil)
		out.Write(binary.BigEndian.AppendUint64(nil, optionReply))
		for _, v := range []uint32{option, kind, uint32(len(body))} {
			out.Write(binary.BigEndian.AppendUint32(nil, v))
		}
		out.Write(body)
	}
	switch option {
	case optExport: // has no reply for errors
		if !o.has(data) {
			return false, fmt.Errorf("export %q: there is only %q", data, o.name)
		}
		out.Write(o.export())
		if !shortReply {
			out.Write(make([]byte, exportZeroes))
		}
		return true, nil
	case optAbort:
		reply(repAck)
		return false, errAborted
	case optList:
		if len(data) > 0 {
			reply(repErrInval)
			return false, nil
		}
		reply(repServer, binary.BigEndian.AppendUint32(nil, uint32(len(o.name))), []byte(o.name))
		reply(repAck)
	case optInfo, optGo:
		name, ok := infoName(data)
		switch {
		case !ok:
			reply(repErrInval)
		case !o.has(name):
			reply(repErrUnk, []byte(fmt.Sprintf("there is only %q", o.name)))
		default:
			reply(repInfo, binary.BigEndian.AppendUint16(nil, infoExport), o.export())
			blocks := binary.BigEndian.AppendUint16(nil, infoBlocks)
			for _, v := range []uint32{sectorBytes, preferredBytes, maxPayload} {
				blocks = binary.BigEndian.AppendUint32(blocks, v)
			}
			reply(repInfo, blocks)
			reply(repAck)
			return option == optGo, nil
		}
	default: // structured replies, TLS, contexts, and what is yet to come
		reply(repErrUnsup)
	}
	return false, nil
}

// export is the size and the flags.
func (o offer) export() []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint64(nil, uint64(o.sizeBytes)), o.flags)
}

// infoName takes the export's name out of the data of INFO or GO: its length,
// itself, and the number and kinds of what the client would like to know, all of
// which it is told anyway.
func infoName(data []byte) (name []byte, ok bool) {
	if len(data) < 6 {
		return nil, false
	}
	length := uint64(binary.BigEndian.Uint32(data))
	if length > uint64(len(data)-6) {
		return nil, false
	}
	name, data = data[4:4+length], data[4+length:]
	return name, len(data) == 2+2*int(binary.BigEndian.Uint16(data))
}
