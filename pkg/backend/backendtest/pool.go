package backendtest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/volume"
)

// Pool makes a filesystem of this type and size in a sparse file, mounts it, and
// returns its mount point, which is empty. All of it is gone after the test.
func Pool(t testing.TB, as volume.PoolType, sizeBytes int64) string {
	t.Helper()
	image := Image(t, sizeBytes)
	switch as {
	case volume.BtrfsPool:
		Command(t, "mkfs.btrfs", "-q", image)
	default:
		Command(t, "mkfs.xfs", "-q", "-m", "reflink=1", image)
	}
	return Mount(t, image, "loop,noatime")
}

// Image makes a sparse file.
func Image(t testing.TB, sizeBytes int64) string {
	t.Helper()
	image := filepath.Join(Dir(t), "image")
	if err := os.WriteFile(image, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(image, sizeBytes); err != nil {
		t.Fatal(err)
	}
	return image
}

// Dir makes a folder below /var/tmp, which is on a disk where /tmp may not be.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/var/tmp", "holkas-test-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// Mount mounts a device or an image file in a new folder until the test ends.
func Mount(t testing.TB, what, options string) string {
	t.Helper()
	dir := filepath.Join(Dir(t), "mnt")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	Command(t, "mount", "-o", options, what, dir)
	t.Cleanup(func() { Unmount(t, dir) })
	return dir
}

// Unmount unmounts a folder if something is mounted there.
func Unmount(t testing.TB, dir string) {
	t.Helper()
	err := Poll(10*time.Second, func() error {
		err := unix.Unmount(dir, 0)
		if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			return nil // not mounted
		}
		return err
	})
	if err != nil {
		t.Errorf("unmount %s: %v", dir, err)
	}
}

// Poll calls a function until it succeeds or the time is over, and returns its
// last error.
func Poll(limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// Command runs a command, which must succeed.
func Command(t testing.TB, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var out, diagnosis bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &out, &diagnosis
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, diagnosis.String())
	}
	return strings.TrimSpace(out.String())
}
