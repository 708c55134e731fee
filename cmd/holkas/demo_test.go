package main

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/demo/site"
)

// lastStep is the one that looks at the origin when the load is over.
const lastStep = 15

// TestDemo runs the demo to its end, and interrupts it in its steps, twice each
// time. Whatever happens, nothing is left behind.
func TestDemo(t *testing.T) {
	runs := []demoRun{{on: "xfs"}, {on: "btrfs", interrupt: 2}, {on: "object"}, {on: "object", interrupt: 5}}
	if os.Getenv("HOLKAS_SOAK") != "" {
		runs = append(runs, demoRun{on: "btrfs"})
		for step := 1; step <= lastStep; step++ {
			runs = append(runs, demoRun{"btrfs", step}, demoRun{"xfs", step}, demoRun{"object", step})
		}
	}
	for _, r := range runs {
		t.Run(fmt.Sprintf("%s, step %d", r.on, r.interrupt), r.test)
	}
}

// demoRun is one run, interrupted in a step; 0: not at all.
type demoRun struct {
	on        string
	interrupt int
}

func (r demoRun) test(t *testing.T) {
	dir, err := os.MkdirTemp(site.Scratch(), "holkas-test-")
	must(t, err)
	must(t, os.Chmod(dir, 0o755))
	t.Cleanup(func() { must(t, os.Remove(dir)) })
	cmd := exec.Command("/proc/self/exe", "demo", "--on="+r.on, "--dir="+dir, "--scale=1", "--load=5s")
	cmd.Env = append(os.Environ(), asProgram)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	printed, delay := watch(out, r.interrupt, cmd.Process.Pid)
	_ = cmd.Wait() // the exit code says how
	code := cmd.ProcessState.ExitCode()
	said := fmt.Sprintf("interrupted after %s of the step: exit code %d:\n%s%s", delay, code, printed, stderr.String())
	switch {
	case r.interrupt > 0 && (code != exitFailed || !strings.Contains(stderr.String(), "interrupted ")):
		t.Errorf("want %d and a word of the interrupt: %s", exitFailed, said)
	case r.interrupt == 0 && (code != exitOK || !strings.Contains(printed, "\non ") || !strings.Contains(printed, "every sum")):
		t.Errorf("want %d, sums and a table: %s", exitOK, said)
	}
	if left := leftBelow(t, dir); left != "" {
		t.Errorf("left behind: %s: %s", left, said)
	}
}

// watch reads what the demo prints, and sends two interrupts to its process
// group at some time of a step.
func watch(out io.Reader, step, pid int) (printed string, delay time.Duration) {
	mark := fmt.Sprintf("\n%3d. ", step)
	delay = rand.N(300 * time.Millisecond)
	var all []byte
	sent := step == 0
	for buffer := make([]byte, 4096); ; {
		n, err := out.Read(buffer)
		all = append(all, buffer[:n]...)
		if !sent && bytes.Contains(all, []byte(mark)) {
			sent = true
			interrupt := func() { _ = syscall.Kill(-pid, syscall.SIGINT) } // it may have ended
			time.AfterFunc(delay, interrupt)
			time.AfterFunc(2*delay, interrupt)
		}
		if err != nil {
			return string(all), delay
		}
	}
}

// leftBelow names what a demo left: files, mounts, loop devices, processes.
func leftBelow(t *testing.T, dir string) string {
	t.Helper()
	var left []string
	files, err := os.ReadDir(dir)
	must(t, err)
	for _, f := range files {
		left = append(left, "file "+f.Name())
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	must(t, err)
	if bytes.Contains(mounts, []byte(dir)) {
		left = append(left, "a mount")
	}
	backing, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	must(t, err)
	for _, path := range append(backing, commands...) {
		if text, err := os.ReadFile(path); err == nil && bytes.Contains(text, []byte(dir)) {
			left = append(left, path+": "+strings.ReplaceAll(string(text), "\x00", " "))
		}
	}
	return strings.Join(left, ", ")
}
