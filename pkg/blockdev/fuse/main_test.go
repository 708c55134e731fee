package fuse_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

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
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
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

// house is a server's folder, which is empty of devices in the end.
func house(t testing.TB) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "devices")
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		server, err := fuse.Open(ctx, fuse.Options{Dir: dir})
		must(t, err)
		for id := range server.Find() {
			if err := server.Detach(ctx, id); err != nil {
				t.Errorf("at the end: %v", err)
			}
		}
		must(t, server.Close(ctx))
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
