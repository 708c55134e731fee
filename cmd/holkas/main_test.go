package main

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
)

// asProgram is set in the environment of processes that are to be the program,
// which this test binary then is.
const asProgram = "HOLKAS_TEST_AS_PROGRAM=1"

func TestMain(m *testing.M) {
	if os.Getenv("HOLKAS_TEST_AS_PROGRAM") != "" || isDevice() {
		main()
	}
	os.Exit(m.Run())
}

const mib = 1 << 20

// prepare makes a site whose processes are this program; none is started. All of
// it is taken away at the end of the test.
func prepare(t *testing.T, args map[string][]string) *site.Site {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("this test makes loop devices and mounts: want root")
	}
	dir, err := os.MkdirTemp(site.Scratch(), "holkas-test-")
	if err != nil {
		t.Fatal(err)
	}
	env := []string{asProgram}
	store := catalogue{at: location{dir: filepath.Join(dir, "store", "repository")}, create: true}
	must(t, os.Mkdir(filepath.Dir(store.at.dir), 0o755))
	_, err = store.openDir(t.Context())
	must(t, err)
	s, err := site.Prepare(t.Context(), site.Options{
		Dir: dir, Repository: store.at.dir, Args: args,
		Pools:      []site.PoolOptions{{Name: "pool", Type: volume.XFSPool, SizeBytes: 512 * mib}},
		ProcessEnv: map[string][]string{"engine": env, "node": env, "controller": env},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			s.Logs(os.Stdout, 4000)
		}
		if err := s.Close(context.Background()); err != nil {
			t.Errorf("close the site: %v", err)
		}
	})
	return s
}

func start(t *testing.T, processes ...*site.Process) {
	t.Helper()
	for _, p := range processes {
		must(t, p.Start(t.Context()))
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// eventually waits until what is asked for holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for !holds() {
		select {
		case <-deadline:
			t.Fatalf("not within 30 s: %s", what)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// wantExit waits for the end of a process and returns its log.
func wantExit(t *testing.T, p *site.Process, code int) string {
	t.Helper()
	select {
	case <-p.Exited():
	case <-time.After(30 * time.Second):
		t.Fatalf("%s did not end", p.Name)
	}
	log := string(p.Log(8000))
	if got := p.ExitCode(); got != code {
		t.Errorf("%s: exit code %d, want %d:\n%s", p.Name, got, code, log)
	}
	return log
}
