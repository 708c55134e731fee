package nbd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Generic netlink, as linux/netlink.h and linux/genetlink.h have it, in the
// machine's byte order:
//
//	message    u32 length, u16 type (the family), u16 flags, u32 sequence, u32 port,
//	           u8 command, u8 version, u16 zero, attributes
//	attribute  u16 length (head and value), u16 type, value, zeros up to a multiple of 4
const (
	messageHead   = unix.NLMSG_HDRLEN
	genericHead   = unix.GENL_HDRLEN
	attributeHead = unix.SizeofNlAttr
	// attributeKind leaves out the two flags in an attribute's type.
	attributeKind = 1<<14 - 1
	genlVersion   = 1
)

var native = binary.NativeEndian

// attributes is a sequence of attributes under construction.
type attributes []byte

func (a attributes) bytes(kind uint16, value []byte) attributes {
	a = native.AppendUint16(a, uint16(attributeHead+len(value)))
	a = native.AppendUint16(a, kind)
	a = append(a, value...)
	return append(a, make([]byte, -len(a)&3)...)
}

func (a attributes) u64(kind uint16, v uint64) attributes {
	return a.bytes(kind, native.AppendUint64(nil, v))
}

func (a attributes) text(kind uint16, v string) attributes {
	return a.bytes(kind, append([]byte(v), 0))
}

func (a attributes) nested(kind uint16, inner attributes) attributes {
	return a.bytes(kind|unix.NLA_F_NESTED, inner)
}

// parseAttributes takes a sequence of attributes apart; of several of a kind,
// the last counts.
func parseAttributes(b []byte) (map[uint16][]byte, error) {
	found := make(map[uint16][]byte)
	for len(b) >= attributeHead {
		n := int(native.Uint16(b))
		if n < attributeHead || n > len(b) {
			return nil, fmt.Errorf("netlink attribute of %d bytes in %d", n, len(b))
		}
		found[native.Uint16(b[2:])&attributeKind] = b[attributeHead:n]
		b = b[min((n+3)&^3, len(b)):]
	}
	return found, nil
}

// parseReply looks in what was received for the answer to a request: its error,
// or the attributes of its reply. done is false while its acknowledgement is yet
// to come.
func parseReply(b []byte, sequence uint32) (reply map[uint16][]byte, done bool, err error) {
	for len(b) >= messageHead {
		n := int(native.Uint32(b))
		if n < messageHead || n > len(b) {
			return nil, false, fmt.Errorf("netlink message of %d bytes in %d", n, len(b))
		}
		body := b[messageHead:n]
		switch kind := native.Uint16(b[4:]); {
		case native.Uint32(b[8:]) != sequence:
		case kind == unix.NLMSG_ERROR:
			if len(body) < 4 {
				return nil, false, fmt.Errorf("netlink error of %d bytes", len(body))
			}
			if errno := int32(native.Uint32(body)); errno != 0 {
				return reply, true, unix.Errno(-errno)
			}
			return reply, true, nil
		case kind >= unix.NLMSG_MIN_TYPE && len(body) >= genericHead:
			if reply, err = parseAttributes(body[genericHead:]); err != nil {
				return nil, false, err
			}
		}
		b = b[min((n+3)&^3, len(b)):]
	}
	return reply, false, nil
}

// call sends a command to a family and returns the attributes of its reply, if
// it has one. It may wait in the kernel, where nothing can end it.
func call(family uint16, command uint8, a attributes) (map[uint16][]byte, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_GENERIC)
	if err != nil {
		return nil, os.NewSyscallError("netlink socket", err)
	}
	defer unix.Close(fd)
	const sequence = 1 // a socket of its own for each call
	m := native.AppendUint32(nil, uint32(messageHead+genericHead+len(a)))
	m = native.AppendUint16(m, family)
	m = native.AppendUint16(m, unix.NLM_F_REQUEST|unix.NLM_F_ACK)
	m = native.AppendUint32(m, sequence)
	m = native.AppendUint32(m, 0)
	m = append(m, command, genlVersion, 0, 0)
	m = append(m, a...)
	if err := retry(func() error { return unix.Sendto(fd, m, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}) }); err != nil {
		return nil, os.NewSyscallError("netlink send", err)
	}
	var reply map[uint16][]byte
	b := make([]byte, 64<<10)
	for {
		var n int
		err := retry(func() (err error) { n, _, err = unix.Recvfrom(fd, b, 0); return err })
		if err != nil {
			return nil, os.NewSyscallError("netlink receive", err)
		}
		r, done, err := parseReply(b[:n], sequence)
		if r != nil {
			reply = r
			b = make([]byte, len(b))
		}
		if done || err != nil {
			return reply, err
		}
	}
}

// retry repeats what a signal interrupted.
func retry(do func() error) error {
	for {
		if err := do(); !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}
