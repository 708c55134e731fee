// Package crash kills the controller, the engine and the node plugin at every
// step of every call, and looks at what a retry makes of it.
//
// The program is built with the tag "crashpoint": a process dies (SIGKILL) at
// the k-th place between two durable steps that it passes. For each call k walks
// upwards until the call runs through without a death, so that no step is
// missed, and none needs to be named here.
package crash

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/demo/site"
	"github.com/holkas-io/holkas/pkg/volume"
	"github.com/holkas-io/holkas/tests/internal/build"
	"github.com/holkas-io/holkas/tests/internal/lab"
)

var program string

func TestMain(m *testing.M) {
	built, remove, err := build.Holkas("crashpoint")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	program = built
	code := m.Run()
	remove()
	os.Exit(code)
}

// victim is a process that is to die.
type victim struct {
	name    string
	process *site.Process
	armed   string // the file that arms it
	passed  string // the file that lists the places that it passed
}

// crashLab is a site whose processes can be told to die.
type crashLab struct {
	*lab.Lab
	victims []victim
}

func start(t *testing.T, pool volume.PoolType) *crashLab {
	dir := t.TempDir()
	file := func(name string) string { return filepath.Join(dir, name) }
	o := lab.Pool(program, pool, 4*lab.GiB)
	o.ProcessEnv = map[string][]string{}
	for _, name := range []string{"engine", "node", "controller"} {
		o.ProcessEnv[name] = []string{"HOLKAS_CRASH_FILE=" + file(name), "HOLKAS_CRASH_LOG=" + file(name+".passed")}
	}
	o.Args = map[string][]string{"controller": {"--intent-timeout=1s"}}
	l := &crashLab{Lab: lab.Start(t, o)}
	for name, process := range map[string]*site.Process{"engine": l.Engine, "node": l.NodePlugin, "controller": l.Controller[0]} {
		l.victims = append(l.victims, victim{name, process, file(name), file(name + ".passed")})
	}
	return l
}

// call is one call of a walk.
type call struct {
	name string
	// prepare makes what the call needs and returns the call, whose answer must
	// be the same on a retry, and what takes everything away again.
	prepare func(l *crashLab, tag string) (do func(context.Context) (string, error), remove func())
}

// TestWalk is the walk: every call, every victim, every step.
func TestWalk(t *testing.T) {
	for _, pool := range lab.PoolTypes {
		t.Run(string(pool), func(t *testing.T) {
			l := start(t, pool)
			deaths := 0
			for _, c := range calls {
				for _, v := range l.victims {
					deaths += l.walk(c, v)
				}
			}
			lab.Eventually(t, l.Leftovers)
			t.Logf("%d deaths survived", deaths)
			if deaths < 40 {
				t.Errorf("only %d deaths: the crash points are not reached", deaths)
			}
		})
	}
}

// walk kills one victim at the first, second, ... step of a call until the call
// runs through, and returns how often it died.
func (l *crashLab) walk(c call, v victim) (deaths int) {
	l.T.Helper()
	for k := 1; ; k++ {
		do, remove := c.prepare(l, fmt.Sprintf("%s-%s-%d", c.name, v.name, k))
		lab.Must(l.T, os.WriteFile(v.armed, fmt.Appendln(nil, k), 0o600))
		ctx, cancel := context.WithTimeout(l.T.Context(), 20*time.Second)
		first, err := do(ctx)
		cancel()
		died := l.disarm(v)
		if err == nil && !died {
			remove()
			return deaths
		}
		where := fmt.Sprintf("%s: %s died at step %d (%s)", c.name, v.name, k, l.lastPassed(v))
		if !died {
			l.T.Fatalf("%s: it failed though nothing died: %v", where, err)
		}
		deaths++
		lab.Must(l.T, v.process.Start(l.T.Context()))
		l.retry(where, do, first, err == nil)
		remove()
	}
}

// disarm reports whether the victim died.
func (l *crashLab) disarm(v victim) bool {
	if os.Remove(v.armed) == nil {
		select {
		case <-v.process.Exited():
			l.T.Fatalf("%s ended without being told to", v.name)
		default:
		}
		return false
	}
	select {
	case <-v.process.Exited():
		return true
	case <-time.After(10 * time.Second):
		l.T.Fatalf("%s took its death but lives", v.name)
	}
	return false
}

// retry repeats the call until it succeeds, and then once more: both answers,
// and one given before the death, must be the same.
func (l *crashLab) retry(where string, do func(context.Context) (string, error), first string, answered bool) {
	l.T.Helper()
	var answer string
	deadline := time.Now().Add(30 * time.Second)
	for {
		got, err := do(l.T.Context())
		if err == nil {
			answer = got
			break
		}
		if time.Now().After(deadline) {
			l.T.Fatalf("%s: the retry fails: %v", where, err)
		}
		time.Sleep(50 * time.Millisecond) // poll
	}
	if answered && answer != first {
		l.T.Fatalf("%s: answered %q before and %q after", where, first, answer)
	}
	again, err := do(l.T.Context())
	if err != nil || again != answer {
		l.T.Fatalf("%s: the second retry is answered %q, %v; want %q", where, again, err, answer)
	}
}

func (l *crashLab) lastPassed(v victim) string {
	body, _ := os.ReadFile(v.passed)
	lines := strings.Split(strings.TrimSpace(string(body)), "\n")
	return lines[len(lines)-1]
}
