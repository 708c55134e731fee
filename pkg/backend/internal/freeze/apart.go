package freeze

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Apart is a Freeze of a filesystem whose device this process serves. Everything
// that may wait for the device is done by a child: a process that waits for itself
// when it is killed never ends, and its successor never begins.
type Apart struct {
	id    volume.ID
	mount *os.File
	child *exec.Cmd // from Arm on
	say   io.WriteCloser
	hear  *bufio.Reader

	mu    sync.Mutex
	state state
}

// OpenApart prepares the freezing of a volume that is mounted. The caller makes the
// freeze's record durable behind it, and calls Close in the end.
func OpenApart(ctx context.Context, id volume.ID, mountPoint string) (*Apart, error) {
	m, err := os.Open(mountPoint)
	if err != nil {
		return nil, fault.New(fault.Transient, "mount point of volume %s: %w", id, err)
	}
	a := &Apart{id: id, mount: m}
	if err := a.Settle(ctx); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	return a, nil
}

// Settle writes what is dirty, so that little is left for Begin to write while
// writers wait.
func (a *Apart) Settle(ctx context.Context) error {
	for range settleRounds {
		began := time.Now()
		cmd := exec.CommandContext(ctx, "sync", "--file-system", "/proc/self/fd/3")
		cmd.ExtraFiles = []*os.File{a.mount}
		if out, err := cmd.CombinedOutput(); err != nil {
			return fault.New(fault.Transient, "sync %s: %w: %s", a.mount.Name(), err, strings.TrimSpace(string(out)))
		}
		if time.Since(began) < settled+5*time.Millisecond { // the child's own start
			break
		}
	}
	return nil
}

// apartScript freezes when it is told to, and thaws when it is told to, when who
// told it is gone, or at a limit: in this order, so that nothing is frozen behind
// the last thaw.
const apartScript = `
read -r begin || exit 0
fsfreeze --freeze /proc/self/fd/3 2>&1 || exit 1
echo frozen
how=lapsed
timeout "$1" sh -c 'read -r over' && how=thawed
fsfreeze --unfreeze /proc/self/fd/3 2>/dev/null && echo $how`

// Arm starts the child. Precondition if it cannot be started.
func (a *Apart) Arm(limit time.Duration) error {
	child := exec.Command("sh", "-c", apartScript, "sh", fmt.Sprintf("%.3f", limit.Seconds()))
	child.ExtraFiles = []*os.File{a.mount}
	child.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // what ends this process's group is not to end it
	say, err := child.StdinPipe()
	var hear io.Reader
	if err == nil {
		hear, err = child.StdoutPipe()
	}
	if err == nil {
		err = child.Start()
	}
	if err != nil {
		return fault.New(fault.Precondition, "guard over the freeze of %s: %w: want sh, timeout and fsfreeze on the engine's PATH", a.mount.Name(), err)
	}
	a.child, a.say, a.hear = child, say, bufio.NewReader(hear)
	return nil
}

// Begin blocks writers until Thaw or Expire. Precondition if it expired already.
func (a *Apart) Begin() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.state != ready {
		return fault.New(fault.Precondition, "volume %s: the pause had ended before all was frozen", a.id)
	}
	_, err := io.WriteString(a.say, "begin\n")
	answer := ""
	if err == nil {
		answer, err = a.hear.ReadString('\n')
	}
	switch answer = strings.TrimSpace(answer); {
	case answer == "frozen":
		a.state = frozen
		crashpoint.Here("freeze: filesystem frozen apart")
		return nil
	case strings.Contains(answer, "busy"):
		return fault.New(fault.Busy, "filesystem at %s: somebody else froze it: %s", a.mount.Name(), answer)
	}
	return fault.New(fault.Precondition, "filesystem at %s cannot be frozen: %s: %w: ask for consistency %q", a.mount.Name(), answer, err, volume.CrashConsistent)
}

// Thaw lets writers go on, and reports whether they were blocked from Begin until
// now. Called again it reports the same.
func (a *Apart) Thaw(ctx context.Context) (held bool) { return a.end(ctx, ended) }

// Expire lets writers go on at the limit: the freeze has not held.
func (a *Apart) Expire(ctx context.Context) { a.end(ctx, lapsed) }

func (a *Apart) end(ctx context.Context, how state) (held bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch a.state {
	case ready:
		a.state = lapsed
	case frozen:
		_, err := io.WriteString(a.say, "over\n")
		answer, hearErr := a.hear.ReadString('\n')
		if a.state = how; strings.TrimSpace(answer) != "thawed" {
			a.state = lapsed // somebody else thawed it: nothing vouches for what was cut
			klog.FromContext(ctx).Error(errors.Join(err, hearErr), "Frozen filesystem was thawed by somebody else, or at its limit", "volumeID", a.id, "mountPoint", a.mount.Name())
		}
	}
	return a.state == ended
}

// Close ends the child of a freeze that is over. The caller removes its record
// behind it.
func (a *Apart) Close() error {
	var err error
	if a.child != nil {
		err = a.say.Close()
		var exit *exec.ExitError
		if waited := a.child.Wait(); waited != nil && !errors.As(waited, &exit) {
			err = errors.Join(err, waited)
		}
	}
	return errors.Join(err, a.mount.Close())
}

// Watchdog ends a freeze after a limit, unless it is stopped before.
func (a *Apart) Watchdog(ctx context.Context, limit time.Duration) (stop func()) {
	ctx = context.WithoutCancel(ctx)
	t := time.AfterFunc(limit, func() {
		a.Expire(ctx)
		klog.FromContext(ctx).Info("Pause reached its limit, writers go on", "limit", limit, "volumeID", a.id)
	})
	return func() { t.Stop() }
}
