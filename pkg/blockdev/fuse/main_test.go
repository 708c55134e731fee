package fuse_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/fuse"
	"github.com/holkas-io/holkas/pkg/volume"
)

// The test's program is what a server starts, and an engine of its own.
func TestMain(m *testing.M) {
	var err error
	switch {
	case len(os.Args) > 1 && os.Args[1] == fuse.Command:
		err = fuse.Run(context.Background(), os.Args[2:], os.Stdin, os.Stdout)
	case len(os.Args) > 1 && os.Args[1] == "engine":
		err = engineProcess(os.Args[2:])
	default:
		goleak.VerifyTestMain(m)
	}
	code := 0
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	unix.Exit(code) // at once, which with the race detector os.Exit does not
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// engineProcess serves a file as the disk of a volume, and does what it is told.
func engineProcess(args []string) error {
	ctx := context.Background()
	server, err := fuse.Open(ctx, fuse.Options{Dir: args[0]})
	if err != nil {
		return err
	}
	disk, err := openFileDisk(args[2])
	if err != nil {
		return err
	}
	d, err := server.Attach(ctx, volume.ID(args[1]), disk, blockdev.Options{Discard: true})
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(d); err != nil {
		return err
	}
	// The end of the input tells it to go.
	if _, err := io.ReadAll(os.Stdin); err != nil {
		return err
	}
	return server.Close(ctx)
}

// engine is an engine in a process of its own.
type engine struct {
	device blockdev.Device
	cmd    *exec.Cmd
	stdin  io.Closer
}

func startEngine(t testing.TB, dir string, id volume.ID, file string) *engine {
	t.Helper()
	cmd := exec.Command(os.Args[0], "engine", dir, string(id), file)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	e := &engine{cmd: cmd, stdin: in}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		e.kill()
		t.Fatalf("the engine said %q, %v", line, err)
	}
	must(t, json.Unmarshal(line, &e.device))
	return e
}

// kill ends it with SIGKILL.
func (e *engine) kill() {
	_ = e.cmd.Process.Kill()
	_ = e.cmd.Wait()
}

// quit lets it end.
func (e *engine) quit() error {
	_ = e.stdin.Close()
	return e.cmd.Wait()
}

// house is a server's folder. In the end nothing of it is left: no device, no
// keeper.
func house(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "devices")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		server, err := fuse.Open(ctx, fuse.Options{Dir: dir})
		must(t, err)
		left, err := server.Find(ctx)
		must(t, err)
		for id := range left {
			if err := server.Detach(ctx, id); err != nil {
				t.Errorf("at the end: %v", err)
			}
		}
		must(t, server.Close(ctx))
		until(t, "the keeper ends", func() bool { return keeper(dir) == 0 })
		for _, name := range devices(t) {
			t.Errorf("left: %s", name)
		}
	})
	return dir
}

func open(t testing.TB, dir string) *fuse.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	server, err := fuse.Open(ctx, fuse.Options{Dir: dir})
	must(t, err)
	t.Cleanup(func() { must(t, server.Close(context.Background())) })
	return server
}

// until waits for a state.
func until(t testing.TB, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); <-time.After(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain until %s", what)
		}
	}
}

// keeper is the process that keeps a folder's devices, or 0.
func keeper(dir string) int {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		line, err := os.ReadFile(file)
		if err == nil && bytes.HasSuffix(line, []byte("\x00"+fuse.Command+"\x00keep\x00"+dir+"\x00")) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			return pid
		}
	}
	return 0
}

// ids are the volumes of this process's tests.
var ids sync.Map

func newID() volume.ID {
	id := volume.NewID()
	ids.Store(id, true)
	return id
}

// devices are the backing files of this process's devices.
func devices(t testing.TB) (names []string) {
	t.Helper()
	all, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	must(t, err)
	for _, file := range all {
		name, _ := os.ReadFile(file)
		parts := strings.SplitN(strings.TrimPrefix(string(name), "/"), "-", 3) // v, the id, a nonce
		if len(parts) < 3 {
			continue
		}
		if _, mine := ids.Load(volume.ID(parts[0] + "-" + parts[1])); mine {
			names = append(names, file+": "+strings.TrimSpace(string(name)))
		}
	}
	return names
}
