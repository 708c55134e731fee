package site

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"k8s.io/mount-utils"

	"github.com/holkas-io/holkas/pkg/volume"
)

var fastReconnect = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: 200 * time.Millisecond},
	MinConnectTimeout: time.Second,
}

// Pool is a filesystem in an image file.
type Pool struct {
	Name  string
	Path  string // where it is mounted
	image string
}

func makePool(ctx context.Context, dir string, o PoolOptions) (_ *Pool, err error) {
	p := &Pool{Name: o.Name, Path: filepath.Join(dir, "pool-"+o.Name), image: filepath.Join(dir, "pool-"+o.Name+".img")}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.close(context.WithoutCancel(ctx)))
		}
	}()
	if err := errors.Join(os.MkdirAll(p.Path, 0o755), os.WriteFile(p.image, nil, 0o600), os.Truncate(p.image, o.SizeBytes)); err != nil {
		return nil, err
	}
	mkfs := []string{"mkfs.xfs", "-q", "-f", "-m", "reflink=1", p.image}
	if o.Type == volume.BtrfsPool {
		mkfs = []string{"mkfs.btrfs", "-q", "-f", p.image}
	}
	if _, err := run(ctx, mkfs...); err != nil {
		return nil, err
	}
	device, err := run(ctx, "losetup", "--find", "--show", "--direct-io=on", p.image)
	if err != nil {
		return nil, err
	}
	_, err = run(ctx, "mount", strings.TrimSpace(device), p.Path)
	return p, err
}

// close detaches what volumes of the pool left attached, unmounts it, and frees
// its device. What there is to undo it looks up: whoever made it may have been
// interrupted before it could say so.
func (p *Pool) close(ctx context.Context) error {
	return errors.Join(
		detach(ctx, func(file string) bool { return strings.HasPrefix(file, p.Path+"/") }),
		unmountBelow(ctx, p.Path),
		detach(ctx, func(file string) bool { return file == p.image }),
	)
}

// detach frees the loop devices of files.
func detach(ctx context.Context, of func(file string) bool) error {
	list, err := run(ctx, "losetup", "--list", "--noheadings", "--raw", "--output", "NAME,BACK-FILE")
	faults := []error{err}
	for line := range strings.Lines(list) {
		if name, file, ok := strings.Cut(strings.TrimSpace(line), " "); ok && of(file) {
			_, err := run(ctx, "losetup", "--detach", name)
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// unmountBelow unmounts everything at and below a directory, the newest first.
// A process that was killed may hold a mount for a moment longer.
func unmountBelow(ctx context.Context, dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	var faults []error
	for _, point := range mounts {
		for attempt := 1; ; attempt++ {
			_, err = run(ctx, "umount", point)
			if err == nil || attempt == 25 {
				break
			}
			time.Sleep(200 * time.Millisecond)
		}
		faults = append(faults, err)
	}
	return errors.Join(faults...)
}

// mountsBelow returns the mount points at and below a directory, the newest
// first.
func mountsBelow(dir string) (points []string, err error) {
	mounts, err := mount.ParseMountInfo("/proc/self/mountinfo")
	for _, m := range slices.Backward(mounts) {
		if m.MountPoint == dir || strings.HasPrefix(m.MountPoint, dir+"/") {
			points = append(points, m.MountPoint)
		}
	}
	return points, err
}

// run runs a program, in a process group of its own: an interrupt from the
// terminal is for the caller, who still has to clean up by such programs.
func run(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	var out, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(stderr.Bytes()))
	}
	return out.String(), nil
}

func dialOnce(socket string) error {
	conn, err := net.DialTimeout("unix", socket, time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}
