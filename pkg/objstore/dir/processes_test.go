package dir

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/holkas-io/holkas/pkg/fault"
)

// When this variable names a store, the test binary is a child that races.
const childEnv = "HOLKAS_DIR_TEST_CHILD"

func TestMain(m *testing.M) {
	if root := os.Getenv(childEnv); root != "" {
		os.Exit(child(root))
	}
	os.Exit(m.Run())
}

const rounds = 40

// child creates the same objects as its siblings, in new folders that they all
// make and that are pruned again, and prints what it won.
func child(root string) int {
	ctx := context.Background()
	s, err := Open(ctx, Options{Root: root, Create: true})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	for round := range rounds {
		key := fmt.Sprintf("round/%d/slot", round)
		passing := fmt.Sprintf("round/%d/by-%d", round, os.Getpid())
		if err := s.Create(ctx, passing, nil); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		if err := s.Delete(ctx, passing); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		switch err := s.Create(ctx, key, fmt.Append(nil, os.Getpid())); {
		case err == nil:
			fmt.Println(key)
		case !fault.Is(err, fault.Exists):
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return 0
}

func TestOneWinnerAmongProcesses(t *testing.T) {
	root := newRoot(t)
	var children []*exec.Cmd
	for range 4 {
		c := exec.Command(os.Args[0])
		c.Env = append(os.Environ(), childEnv+"="+root)
		c.Stdout, c.Stderr = new(bytes.Buffer), new(bytes.Buffer)
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		children = append(children, c)
	}
	winner := map[string]int{}
	for _, c := range children {
		if err := c.Wait(); err != nil {
			t.Errorf("child: %v: %s", err, c.Stderr)
		}
		for _, key := range strings.Fields(fmt.Sprint(c.Stdout)) {
			if winner[key] != 0 {
				t.Errorf("%s: won by %d and by %d", key, winner[key], c.Process.Pid)
			}
			winner[key] = c.Process.Pid
		}
	}
	if len(winner) != rounds {
		t.Errorf("%d objects were won, want %d", len(winner), rounds)
	}
	s := openAt(t, root)
	for key, pid := range winner {
		if body, err := s.Get(t.Context(), key); err != nil || string(body) != fmt.Sprint(pid) {
			t.Errorf("%s: got %q, %v; want its winner %d", key, body, err, pid)
		}
	}
}
