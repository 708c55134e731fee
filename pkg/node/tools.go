package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"k8s.io/klog/v2"

	"github.com/holkas-io/holkas/pkg/fault"
)

// packages say where a tool comes from.
var packages = map[string]string{
	"mkfs.ext4": "e2fsprogs", "e2fsck": "e2fsprogs", "tune2fs": "e2fsprogs", "resize2fs": "e2fsprogs",
	"mkfs.xfs": "xfsprogs", "mkfs.btrfs": "btrfs-progs",
}

// result is how a tool ended.
type result struct {
	code   int
	output string // its end, on one line
}

// tool runs a program on a device. It dies with this process, so that an
// operation that is repeated by the next one never races with it. The error is
// of a program that could not run, or not to its end (Transient); an exit code
// other than zero is not one.
func tool(ctx context.Context, name string, args ...string) (result, error) {
	// The signal at the parent's death is tied to the thread that forks.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	return runTool(ctx, &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}, name, args)
}

// survivingTool is tool for a program that must not be cut short.
func survivingTool(ctx context.Context, name string, args ...string) (result, error) {
	return runTool(ctx, &syscall.SysProcAttr{Setpgid: true}, name, args)
}

func runTool(ctx context.Context, attributes *syscall.SysProcAttr, name string, args []string) (result, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(os.Environ(), "LC_ALL=C")
	command.SysProcAttr = attributes
	output, err := command.CombinedOutput()
	klog.FromContext(ctx).V(4).Info("Tool ended", "tool", name, "args", args, "output", string(output), "result", fmt.Sprint(err))
	var exit *exec.ExitError
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return result{}, fault.New(fault.Precondition, "%s is not installed on this node: install %s", name, packages[name])
	case errors.As(err, &exit) && !exit.Exited():
		return result{}, fault.New(fault.Transient, "%s: it was killed (%s), and says nothing of the device: try again, and see the kernel's log for want of memory", name, exit)
	case errors.As(err, &exit):
		return result{code: exit.ExitCode(), output: lastWords(output)}, nil
	case err != nil:
		return result{}, fault.As(fault.Internal, fmt.Errorf("%s: %w", name, err))
	}
	return result{output: lastWords(output)}, nil
}

// mustRun is tool for a program whose only good exit code is zero.
func mustRun(ctx context.Context, name string, args ...string) error {
	r, err := tool(ctx, name, args...)
	if err == nil && r.code != 0 {
		err = fault.New(fault.Internal, "%s: exit code %d: %s", name, r.code, r.output)
	}
	return err
}

const lastWordsBytes = 512

func lastWords(output []byte) string {
	s := strings.Join(strings.Fields(string(output)), " ")
	if len(s) > lastWordsBytes {
		s = "..." + s[len(s)-lastWordsBytes:]
	}
	return strings.ToValidUTF8(s, "?")
}
