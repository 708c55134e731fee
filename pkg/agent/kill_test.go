package agent

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// When this variable names a socket, the test binary is an engine there.
const childEnv = "HOLKAS_AGENT_TEST_CHILD"

// child serves calls that never end, and a listing that does not either.
func child(path string) int {
	go func() { // it does not outlive the test
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var produced atomic.Int64
	b := &fake{
		allocated: extentsTo(1<<50, &produced, nil),
		// All of a message was sent, and the end of the listing not yet.
		list: func(ctx context.Context) iter.Seq2[backend.Volume, error] {
			return func(yield func(backend.Volume, error) bool) {
				for i := range volumesPerMessage {
					v := anyVolume
					v.ID = volume.ID(fmt.Sprintf("v-%s%c%ca", "aaaaaaaaaaaaaaaaaaaaaaa", 'a'+i/16, 'a'+i%16))
					if !yield(v, nil) {
						return
					}
				}
				<-ctx.Done()
			}
		},
		remove: func(ctx context.Context, _ volume.ID) error {
			fmt.Println("called")
			<-ctx.Done()
			return nil
		},
		health: func(context.Context) ([]backend.Health, error) { return nil, nil },
	}
	s, err := NewServer(ServerOptions{Info: testInfo, Backends: map[string]backend.Backend{"local": b}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	endpoint, err := ParseEndpoint("unix://" + path)
	if err == nil {
		err = s.Serve(context.Background(), endpoint)
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// engine is such a process.
type engine struct {
	t     *testing.T
	cmd   *exec.Cmd
	lines *bufio.Scanner
	dead  bool
}

// run starts one and waits until it answers.
func run(t *testing.T, path string, b backend.Backend) *engine {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, cmd: cmd, lines: bufio.NewScanner(out)}
	t.Cleanup(e.kill)
	eventually(t, "the engine answers", func() bool {
		_, err := b.Health(t.Context())
		return err == nil
	})
	return e
}

// kill kills it, as a crash would.
func (e *engine) kill() {
	if e.dead {
		return
	}
	e.dead = true
	if err := e.cmd.Process.Kill(); err != nil {
		e.t.Error(err)
	}
	_ = e.cmd.Wait() // says that it was killed
}

// TestKilled kills an engine in the middle of a call, of a stream that flows, and
// of a listing whose entries have all come. Each is Transient; and a new engine
// at the same socket is found by the same backend.
func TestKilled(t *testing.T) {
	path := socketPath(t)
	b := dial(t, repository.Node{ID: testNode, Address: "unix://" + path})
	if _, err := b.Health(t.Context()); !fault.Is(err, fault.Transient) {
		t.Errorf("no engine yet: got %v, want Transient", err)
	}

	e := run(t, path, b)
	failed := make(chan error, 1)
	go func() { failed <- b.DeleteVolume(t.Context(), volume.NewID()) }()
	if !e.lines.Scan() || e.lines.Text() != "called" {
		t.Fatal("the call did not arrive")
	}
	e.kill()
	if err := <-failed; !fault.Is(err, fault.Transient) {
		t.Errorf("killed in a call: got %v, want Transient", err)
	}

	e = run(t, path, b)
	n := 0
	var last error
	for _, err := range b.Allocated(t.Context(), volume.NewSnapshotID(), 0) {
		if last = err; err == nil {
			if n++; n == 1000 {
				e.kill()
			}
		}
	}
	if n < 1000 || !fault.Is(last, fault.Transient) {
		t.Errorf("killed in a stream: got %d ranges and %v, want Transient", n, last)
	}

	e = run(t, path, b)
	n, last = 0, nil
	for _, err := range b.Volumes(t.Context()) {
		if last = err; err == nil {
			if n++; n == volumesPerMessage {
				e.kill()
			}
		}
	}
	if n != volumesPerMessage || !fault.Is(last, fault.Transient) {
		t.Errorf("killed before a listing's end: got %d volumes and %v, want %d and Transient", n, last, volumesPerMessage)
	}

	began := time.Now()
	run(t, path, b)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("found again after %s", took)
	}
}

// TestSocketOfTheDead sees that a killed engine's socket is replaced, and a live
// one's refused, whoever asks.
func TestSocketOfTheDead(t *testing.T) {
	path := socketPath(t)
	b := dial(t, repository.Node{ID: testNode, Address: "unix://" + path})
	e := run(t, path, b)
	if _, err := listen(Endpoint{"unix", path}); !fault.Is(err, fault.InUse) {
		t.Errorf("a live engine's socket: got %v, want InUse", err)
	}
	if _, err := b.Health(t.Context()); err != nil {
		t.Errorf("the live engine was disturbed: %v", err)
	}
	e.kill()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the dead engine left no socket to replace: %v", err)
	}
	l, err := listen(Endpoint{"unix", path})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
}
