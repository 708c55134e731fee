//go:build guest

package guest

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// programs are what the tests inside call.
var programs = []string{"modprobe", "mkfs.ext4", "e2fsck", "sync", "dd"}

// modules are what of the kernel is not built in.
var modules = []string{"nbd"}

func TestGuest(t *testing.T) {
	dir := t.TempDir()
	k := fetchKernel(t)
	init := filepath.Join(dir, "init")
	build := exec.Command("go", "test", "-c", "-tags", "guest", "-o", init, "./inside")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("go test -c ./inside: %v\n%s", err, out)
	}
	initramfs := filepath.Join(dir, "initramfs")
	pack(t, initramfs, init, k)

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	arguments := "-test.v"
	if run := os.Getenv("GUEST_RUN"); run != "" {
		arguments += " -test.run=" + run
	}
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-M", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
		"-m", "768", "-smp", "2", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-no-reboot",
		"-kernel", k.image, "-initrd", initramfs, "-append", "console=ttyS0 panic=-1 quiet -- "+arguments)
	out, err := qemu.StdoutPipe()
	must(t, err)
	qemu.Stderr = os.Stderr
	must(t, qemu.Start())
	// The line that says how it ended: without it, it did not.
	end := ""
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := strings.TrimRight(lines.Text(), "\r")
		fmt.Println(line)
		if rest, ok := strings.CutPrefix(line, "GUEST-EXIT "); ok {
			end = rest
		}
	}
	if err := qemu.Wait(); err != nil || end != "0" {
		t.Errorf("the guest ended with %q, want \"0\"; qemu: %v", end, err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func output(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v", cmd, err)
	}
	return string(out)
}
