package fuse

import (
	"bytes"

	"golang.org/x/sys/unix"
)

// carryOut does what the slot's request asks for, answers it and frees the slot.
// It returns false if the service is being stopped before that: the next one
// does it.
func (v *service) carryOut(s *slot) bool {
	r := s.request()
	switch r.op {
	case opWrite, opFallocate:
		errno, done := s.result()
		if !done {
			if errno = v.change(r); errno == gaveUp {
				return false
			}
			s.done(errno)
		}
		body := 0
		if r.op == opWrite {
			body = 8
			order.PutUint64(s.reply()[replyHeader:], 0)
			order.PutUint32(s.reply()[replyHeader:], r.u32(16))
		}
		v.send(r.unique, s, errno, body, nil)
	case opRead:
		data, errno := v.readData(r)
		if errno == gaveUp {
			return false
		}
		v.send(r.unique, s, errno, 0, data)
	case opFsync:
		errno := v.errno(v.disk.Flush(v.ctx))
		if errno == gaveUp {
			return false
		}
		v.send(r.unique, s, errno, 0, nil)
	case opForget, opBatchForget, opNotifyReply, opDestroy:
		// Nobody waits for an answer.
	default:
		body, errno := v.look(r, s.reply()[replyHeader:])
		v.send(r.unique, s, errno, body, nil)
	}
	s.free()
	return true
}

// gaveUp stands for no answer.
const gaveUp = -1

// errno is what the kernel is told of a disk's error.
func (v *service) errno(err error) int32 {
	switch {
	case err == nil:
		return 0
	case v.ctx.Err() != nil:
		return gaveUp
	}
	return int32(unix.EIO)
}

// within reports whether a range is one that a disk takes.
func (v *service) within(off, length int64) bool {
	return off >= 0 && length > 0 && off%512 == 0 && length%512 == 0 && off <= v.disk.Size()-length
}

// change carries out a write, a discard or a zeroing.
func (v *service) change(r request) int32 {
	off := int64(r.u64(8))
	if v.readOnly() {
		return int32(unix.EROFS)
	}
	if r.op == opWrite {
		length := int64(r.u32(16))
		if length > int64(len(r.rest)) || !v.within(off, length) {
			return int32(unix.EINVAL)
		}
		return v.errno(v.disk.WriteAt(v.ctx, r.rest[:length], off))
	}
	length, mode := int64(r.u64(16)), r.u32(24)
	discard := mode == fallocPunchHole|fallocKeepSize
	if !discard && mode&^fallocKeepSize != fallocZeroRange {
		return int32(unix.EOPNOTSUPP)
	}
	if !v.within(off, length) {
		return int32(unix.EINVAL)
	}
	return v.errno(v.disk.Zero(v.ctx, off, length, discard))
}

func (v *service) readData(r request) ([]byte, int32) {
	off, length := int64(r.u64(8)), int64(r.u32(16))
	if length > int64(len(r.rest)) || !v.within(off, length) {
		return nil, int32(unix.EINVAL)
	}
	data := r.rest[:length]
	return data, v.errno(v.disk.ReadAt(v.ctx, data, off))
}

// look answers what has nothing to do with the disk's bytes. It returns the
// length of the body.
func (v *service) look(r request, body []byte) (int, int32) {
	switch r.op {
	case opLookup:
		name, _, _ := bytes.Cut(append(bytes.Clone(r.args), r.rest[:256]...), []byte{0})
		if r.node != rootNode || string(name) != v.ledger.name {
			return 0, int32(unix.ENOENT)
		}
		clear(body[:40])
		order.PutUint64(body[0:], fileNode)
		order.PutUint64(body[16:], forEver)
		order.PutUint64(body[24:], forEver)
		v.putAttr(body[40:], fileNode)
		return 40 + attrLength, 0
	case opSetattr:
		// The kernel's way to learn that the disk has grown, see Server.Resize.
		if size := int64(r.u64(16)); r.u32(0)&setattrSize != 0 && (r.node != fileNode || size != v.disk.Size()) {
			return 0, int32(unix.EINVAL)
		}
		fallthrough
	case opGetattr:
		clear(body[:16])
		order.PutUint64(body, forEver)
		v.putAttr(body[16:], r.node)
		return 16 + attrLength, 0
	case opOpen:
		clear(body[:16])
		order.PutUint32(body[8:], openDirectIO|openNoFlush|openParallelDirectWrites)
		return 16, 0
	case opRelease:
		return 0, 0
	case opStatfs:
		clear(body[:80])
		order.PutUint32(body[40:], blockSize)
		order.PutUint32(body[44:], 255)
		order.PutUint32(body[48:], blockSize)
		return 80, 0
	}
	return 0, int32(unix.ENOSYS) // the kernel does not ask again
}

func (v *service) putAttr(b []byte, node uint64) {
	switch {
	case node == rootNode:
		putAttr(b, node, 0, unix.S_IFDIR|0o500, 2)
	case v.readOnly():
		putAttr(b, node, v.disk.Size(), unix.S_IFREG|0o400, 1)
	default:
		putAttr(b, node, v.disk.Size(), unix.S_IFREG|0o600, 1)
	}
}
