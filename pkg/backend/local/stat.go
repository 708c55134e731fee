package local

import (
	"io/fs"
	"os"
	"syscall"
)

// allocatedBytes returns how many bytes of its pool a file references, shared
// ones included.
func allocatedBytes(path string) (int64, error) {
	info, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return 0, fs.ErrInvalid
	}
	return st.Blocks * 512, nil // POSIX: st_blocks counts 512 bytes
}

// sameRdev reports whether two device nodes stand for one device.
func sameRdev(a, b fs.FileInfo) bool {
	i, ok := a.Sys().(*syscall.Stat_t)
	j, okJ := b.Sys().(*syscall.Stat_t)
	const device = fs.ModeDevice
	return ok && okJ && a.Mode()&device != 0 && b.Mode()&device != 0 && i.Rdev == j.Rdev
}
