package demo

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestPrinter(t *testing.T) {
	var out bytes.Buffer
	p := newPrinter(&out)
	result := func(context.Context) (string, error) { return "a result", nil }
	p.begin("btrfs", "a title")
	if err := p.step(t.Context(), "both", result); err != nil {
		t.Fatal(err)
	}
	p.figure("rate", "7")
	p.begin("xfs", "a title")
	if err := p.step(t.Context(), "both", result); err != nil {
		t.Fatal(err)
	}
	if err := p.step(t.Context(), "bad", func(context.Context) (string, error) { return "", errors.New("broken") }); err == nil || err.Error() != "bad: broken" {
		t.Errorf("a bad step: %v", err)
	}
	out.Reset()
	p.table()
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	if len(got) != 4 || got[1] != "on btrfs xfs" || got[3] != "rate 7" || len(strings.Fields(got[2])) != 3 {
		t.Errorf("table %q: want a head, a row of both and one of btrfs alone", got)
	}
}

// TestClosedOutput sees that the demo ends when nobody reads it any more.
func TestClosedOutput(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	if err := Run(t.Context(), Options{Dir: t.TempDir()}, w); err == nil || !strings.Contains(err.Error(), "write the steps: ") {
		t.Errorf("got %v: want the error of writing", err)
	}
}

func TestNeeds(t *testing.T) {
	d := &demo{Options: Options{On: []Kind{"xfs"}}}
	d.defaults()
	needed := d.packages()
	if needed["mkfs.xfs"] != "xfsprogs" || needed["mkfs.ext4"] != "e2fsprogs" || needed["mkfs.btrfs"] != "" {
		t.Errorf("needed %v: want what XFS and ext4 need and no btrfs", needed)
	}
	t.Setenv("PATH", t.TempDir())
	for program, pkg := range needed {
		if pkg == "" {
			t.Errorf("%s: no package", program)
		}
	}
	closed := t.TempDir()
	for _, dir := range []string{"relative", "/with blank", filepath.Join(closed, "missing"), "/dev/shm", "/proc"} {
		d.Dir = dir
		if _, err := d.findNeeds(t.Context()); err == nil || !strings.Contains(err.Error(), "--dir") {
			t.Errorf("directory %q: %v: want what is wrong with it", dir, err)
		}
	}
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := isOpen(closed); err == nil || !strings.Contains(err.Error(), "cannot be entered") {
		t.Errorf("a closed directory: %v", err)
	}
}
