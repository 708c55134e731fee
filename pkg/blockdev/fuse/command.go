package fuse

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/fault"
)

// Command is the first argument with which a program that opens a Server starts
// itself: it is to call Run with the arguments that follow, and to end.
const Command = "device"

const (
	runKeep   = "keep"
	runStay   = "stay"
	runAttach = "attach"
	runResize = "resize"
	runDetach = "detach"
)

// step is work on a device or its file.
type step struct {
	Name    string // of the file
	Size    int64
	Options blockdev.Options
}

// outcome is what a step answers.
type outcome struct {
	Device blockdev.Device
	Failed string // why, if it did
	Kind   fault.Kind
}

const (
	stepRoot   = 3 // the filesystem's folder
	stepRecord = 4 // is locked meanwhile
)

// Run is the part of this package that must not be in the engine's process: the
// keeper, which outlives it, and the steps that look at a device or its file.
// Engines start all of it themselves; "stay" and a folder is a keeper for where
// all that an engine starts is killed with it.
// A step waits until the engine answers; an engine that waited for itself when it
// is killed would never end, and its successor never begin.
func Run(ctx context.Context, args []string, in *os.File, out io.Writer) error {
	if len(args) == 2 && args[0] == runKeep {
		return keep()
	}
	if len(args) == 2 && args[0] == runStay {
		return stay(ctx, args[1])
	}
	if len(args) != 1 || !slices.Contains([]string{runAttach, runResize, runDetach}, args[0]) {
		return fault.New(fault.Invalid, "%q: want %s and a folder: the others are for engines", args, runStay)
	}
	var s step
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return err
	}
	unix.CloseOnExec(stepRoot)
	unix.CloseOnExec(stepRecord)
	// One that an earlier engine started may still be at it.
	if err := unix.Flock(stepRecord, unix.LOCK_EX); err != nil {
		return os.NewSyscallError("flock", err)
	}
	poll := []unix.PollFd{{Fd: int32(in.Fd())}}
	if _, err := unix.Poll(poll, 0); err == nil && poll[0].Revents&unix.POLLHUP != 0 {
		return fault.New(fault.Canceled, "the engine has ended: the next one asks for what it needs")
	}
	var o outcome
	var err error
	if o.Device, err = s.take(ctx, args[0]); err != nil {
		o.Failed, o.Kind = err.Error(), fault.KindOf(err)
	}
	return json.NewEncoder(out).Encode(o)
}

func (s step) take(ctx context.Context, what string) (blockdev.Device, error) {
	var a loop.Attacher
	file := fmt.Sprintf("/proc/self/fd/%d/%s", stepRoot, s.Name)
	switch what {
	case runDetach:
		return blockdev.Device{}, a.Detach(ctx, file)
	case runResize:
		return s.grow(ctx, &a, file)
	}
	d, err := a.Attach(ctx, file, s.Options)
	if err == nil && d.SizeBytes < s.Size {
		return s.grow(ctx, &a, file) // an engine died before it had done that
	}
	return d, err
}

// grow makes file and device as large as the disk is. The file is first: what the
// device reads beyond the file's end fails.
func (s step) grow(ctx context.Context, a *loop.Attacher, file string) (blockdev.Device, error) {
	if err := unix.Truncate(file, s.Size); err != nil {
		return blockdev.Device{}, os.NewSyscallError("truncate", err)
	}
	if err := a.Resize(ctx, file); err != nil {
		return blockdev.Device{}, err
	}
	return a.Attach(ctx, file, s.Options)
}

// process is a step being taken in a process of its own.
type process struct {
	cmd            *exec.Cmd
	out, complaint bytes.Buffer
	err            error
	ended          chan struct{} // closed when it is gone
}

// start starts a step. It is killed at the end of ctx; until it is gone it may
// have to wait for the disk.
func (s step) start(ctx context.Context, what string, root int, record string) (*process, error) {
	folder, err := unix.FcntlInt(uintptr(root), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, fault.As(fault.Internal, os.NewSyscallError("dup", err))
	}
	rootFile := os.NewFile(uintptr(folder), "root")
	defer rootFile.Close()
	recordFile, err := os.OpenFile(record, os.O_RDWR, 0)
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	defer recordFile.Close()
	p := &process{cmd: exec.CommandContext(ctx, "/proc/self/exe"), ended: make(chan struct{})}
	p.cmd.Args = []string{os.Args[0], Command, what}
	p.cmd.Env = []string{}
	p.cmd.Stdout, p.cmd.Stderr = &p.out, &p.complaint
	p.cmd.ExtraFiles = []*os.File{rootFile, recordFile}
	in, err := p.cmd.StdinPipe() // open until it ends
	if err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fault.As(fault.Internal, err)
	}
	go func() {
		defer close(p.ended)
		p.err = errors.Join(json.NewEncoder(in).Encode(s), p.cmd.Wait())
	}()
	return p, nil
}

// outcome is what came of the step, which has ended.
func (p *process) outcome(ctx context.Context) (blockdev.Device, error) {
	var o outcome
	switch {
	case ctx.Err() != nil:
		return blockdev.Device{}, ctx.Err()
	case p.err != nil:
		return blockdev.Device{}, fault.New(fault.Internal, "%q: %w: %s", p.cmd.Args, p.err, p.complaint.String())
	case json.Unmarshal(p.out.Bytes(), &o) != nil:
		return blockdev.Device{}, fault.New(fault.Internal, "%q: %q: want its outcome", p.cmd.Args, p.out.String())
	case o.Failed != "":
		return blockdev.Device{}, fault.New(o.Kind, "%s", o.Failed)
	}
	return o.Device, nil
}
