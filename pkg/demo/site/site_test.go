package site

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/holkas-io/holkas/pkg/volume"
)

// TestCloseTakesAll sees that a site takes away what was left in it: mounts one
// on the other, devices of files in its pools, and processes.
func TestCloseTakesAll(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Fatal("this test makes loop devices and mounts: want root")
	}
	ctx := t.Context()
	s, err := Prepare(ctx, Options{Binary: "/bin/sleep", Pools: []PoolOptions{
		{Name: "one", Type: volume.XFSPool, SizeBytes: 512 << 20}, {Name: "two", Type: volume.BtrfsPool, SizeBytes: 512 << 20},
	}})
	if err != nil {
		t.Fatal(err)
	}
	closed := false
	defer func() {
		if !closed {
			_ = s.Close(context.Background())
		}
	}()
	target := filepath.Join(s.Kubelet, "pods", "p")
	image := filepath.Join(s.PoolPath("two"), "volume")
	for _, step := range [][]string{
		{"mkdir", "-p", target}, {"truncate", "--size=64M", image}, {"mkfs.ext4", "-q", image},
		{"losetup", "--find", image}, {"mount", "--bind", s.PoolPath("one"), target}, {"mount", "-t", "tmpfs", "none", target},
	} {
		if _, err := run(ctx, step...); err != nil {
			t.Fatal(err)
		}
	}
	s.Engine.args = []string{"1000"}
	if err := s.Engine.Spawn(); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(ctx); err != nil {
		t.Fatal(err)
	}
	closed = true
	<-s.Engine.Exited()
	if _, err := os.Stat(s.Dir); !os.IsNotExist(err) {
		t.Errorf("%s is still there: %v", s.Dir, err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || bytes.Contains(mounts, []byte(s.Dir)) {
		t.Errorf("mounts below %s are left: %v", s.Dir, err)
	}
	if list, err := run(ctx, "losetup", "--list"); err != nil || bytes.Contains([]byte(list), []byte(s.Dir)) {
		t.Errorf("devices of %s are left: %v\n%s", s.Dir, err, list)
	}
}

// TestKeepsWhatIsMounted sees that files are left where a mount could not be
// taken away.
func TestKeepsWhatIsMounted(t *testing.T) {
	dir := t.TempDir()
	point := filepath.Join(dir, "point")
	if err := os.Mkdir(point, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := run(t.Context(), "mount", "-t", "tmpfs", "none", point); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(point, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := removeDir(dir); err == nil {
		t.Error("a directory with a mount in it was removed")
	}
	if _, err := os.Stat(filepath.Join(point, "file")); err != nil {
		t.Errorf("what is mounted was touched: %v", err)
	}
	if err := unmountBelow(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	if err := removeDir(dir); err != nil {
		t.Error(err)
	}
}
