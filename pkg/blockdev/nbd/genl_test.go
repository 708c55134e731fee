package nbd

import (
	"bytes"
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// TestCall asks the kernel for a family that every kernel has, and for one that
// none has.
func TestCall(t *testing.T) {
	ask := func(family string) (map[uint16][]byte, error) {
		return call(unix.GENL_ID_CTRL, unix.CTRL_CMD_GETFAMILY, attributes(nil).text(unix.CTRL_ATTR_FAMILY_NAME, family))
	}
	reply, err := ask("nlctrl")
	if id := reply[unix.CTRL_ATTR_FAMILY_ID]; err != nil || len(id) != 2 || native.Uint16(id) != unix.GENL_ID_CTRL {
		t.Errorf("got %v, %v; want family %d", reply, err, unix.GENL_ID_CTRL)
	}
	if _, err := ask("holkas-none"); !errors.Is(err, unix.ENOENT) {
		t.Errorf("got %v, want %v", err, unix.ENOENT)
	}
}

func TestAttributes(t *testing.T) {
	a := index(7).text(attrBackend, "ab").nested(attrSockets, sockets(9)).u64(attrSizeBytes, 1<<40)
	got, err := parseAttributes(a)
	must(t, err)
	if native.Uint32(got[attrIndex]) != 7 || native.Uint64(got[attrSizeBytes]) != 1<<40 || !bytes.Equal(got[attrBackend], []byte("ab\x00")) {
		t.Errorf("got %v", got)
	}
	items, err := parseAttributes(got[attrSockets])
	must(t, err)
	item, err := parseAttributes(items[sockItem])
	must(t, err)
	if native.Uint32(item[sockFD]) != 9 {
		t.Errorf("got %v", item)
	}
}

func FuzzParseReply(f *testing.F) {
	message := func(kind uint16, body []byte) []byte {
		b := native.AppendUint32(nil, uint32(messageHead+len(body)))
		b = native.AppendUint16(b, kind)
		b = native.AppendUint16(b, 0)
		b = native.AppendUint32(b, 1)
		return append(native.AppendUint32(b, 0), body...)
	}
	failed := int32(-5)
	f.Add(message(unix.NLMSG_ERROR, native.AppendUint32(nil, uint32(failed))))
	f.Add(append(message(20, append([]byte{1, 1, 0, 0}, index(3)...)), message(unix.NLMSG_ERROR, make([]byte, 4))...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, done, err := parseReply(b, 1); err != nil && !done && errors.As(err, new(unix.Errno)) {
			t.Errorf("%v, and yet not done", err)
		}
	})
}
