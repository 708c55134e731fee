package local

import (
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ioctl makes a system call that x/sys has no function for. The argument becomes
// a number only within the call itself: before that, the stack that it may point
// into can still move.
func ioctl(f *os.File, request uintptr, argument unsafe.Pointer) error {
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), request, uintptr(argument)); errno != 0 {
		return errno
	}
	return nil
}
