package freeze

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/holkas-io/holkas/pkg/fault"
)

// guard is a child process that thaws a filesystem where this process cannot:
// when it was killed, at once, and when it hangs or is stopped, after a limit. A
// freeze outlives the process that made it, and writers would wait until an
// engine starts again.
type guard struct {
	child *exec.Cmd
	over  io.WriteCloser
}

// guardScript waits on its standard input: a line means that the freeze is over,
// the end of the input that this process is gone. Descriptor 3 is the mount
// point. Thawing what is not frozen changes nothing.
const guardScript = `timeout "$1" sh -c 'read -r over' || exec fsfreeze --unfreeze /proc/self/fd/3`

// guardLate is by how much a guard lets this process's own watchdog be first.
const guardLate = 500 * time.Millisecond

// newGuard starts a guard over a mount point. Precondition if it cannot be
// started: nothing is frozen without one.
func newGuard(mountPoint *os.File, limit time.Duration) (*guard, error) {
	seconds := fmt.Sprintf("%.3f", (limit + guardLate).Seconds())
	g := &guard{child: exec.Command("sh", "-c", guardScript, "sh", seconds)}
	g.child.ExtraFiles = []*os.File{mountPoint}
	// What ends this process's group is not to end the guard.
	g.child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var err error
	if g.over, err = g.child.StdinPipe(); err == nil {
		err = g.child.Start()
	}
	if err != nil {
		return nil, fault.New(fault.Precondition, "guard over the freeze of %s: %w: want sh, timeout and fsfreeze on the engine's PATH", mountPoint.Name(), err)
	}
	return g, nil
}

// end tells the guard that the freeze is over, and waits until it has gone: a
// late one could thaw the next freeze.
func (g *guard) end() error {
	_, err := io.WriteString(g.over, "over\n")
	if errors.Is(err, syscall.EPIPE) {
		err = nil // it has acted
	}
	err = errors.Join(err, g.over.Close())
	var exit *exec.ExitError
	if waited := g.child.Wait(); waited != nil && !errors.As(waited, &exit) {
		err = errors.Join(err, waited)
	}
	return err
}
