package fuse_test

import (
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// fileDisk is a file as a disk.
type fileDisk struct {
	file *os.File
	size atomic.Int64

	flushes, discards, zeroes, writes atomic.Int64
}

func openFileDisk(name string) (*fileDisk, error) {
	file, err := os.OpenFile(name, os.O_RDWR|unix.O_DIRECT, 0)
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	d := &fileDisk{file: file}
	d.size.Store(info.Size())
	return d, nil
}

func (d *fileDisk) Size() int64 { return d.size.Load() }

func (d *fileDisk) ReadAt(_ context.Context, p []byte, off int64) error {
	_, err := d.file.ReadAt(p, off)
	return err
}

func (d *fileDisk) WriteAt(_ context.Context, p []byte, off int64) error {
	d.writes.Add(1)
	_, err := d.file.WriteAt(p, off)
	return err
}

func (d *fileDisk) Zero(_ context.Context, off, length int64, discard bool) error {
	mode := uint32(unix.FALLOC_FL_KEEP_SIZE)
	if discard {
		d.discards.Add(1)
		mode |= unix.FALLOC_FL_PUNCH_HOLE
	} else {
		d.zeroes.Add(1)
		mode |= unix.FALLOC_FL_ZERO_RANGE
	}
	return unix.Fallocate(int(d.file.Fd()), mode, off, length)
}

func (d *fileDisk) Flush(context.Context) error {
	d.flushes.Add(1)
	return unix.Fdatasync(int(d.file.Fd()))
}

func (d *fileDisk) grow(t testing.TB, size int64) {
	t.Helper()
	must(t, d.file.Truncate(size))
	d.size.Store(size)
}

// makeFile makes a file of a size on the disk, not in memory.
func makeFile(t testing.TB, size int64) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "holkas-fuse-")
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	name := filepath.Join(dir, "disk")
	f, err := os.Create(name)
	must(t, err)
	defer f.Close()
	must(t, unix.Fallocate(int(f.Fd()), 0, 0, size))
	return name
}

func makeDisk(t testing.TB, size int64) *fileDisk {
	t.Helper()
	return openDisk(t, makeFile(t, size))
}

// openDisk opens a disk for servers that are opened after it.
func openDisk(t testing.TB, file string) *fileDisk {
	t.Helper()
	d, err := openFileDisk(file)
	must(t, err)
	t.Cleanup(func() { d.file.Close() })
	return d
}
