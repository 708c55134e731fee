package site

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

// Process is one of the site's processes. Its methods are for one goroutine.
type Process struct {
	Name string

	binary string
	args   []string
	env    []string
	log    string
	socket string
	cmd    *exec.Cmd
	exited chan struct{}
	conn   *grpc.ClientConn
}

// AddArgs adds arguments for the next start.
func (p *Process) AddArgs(args ...string) { p.args = append(p.args, args...) }

// Socket is the path of the socket at which the process answers.
func (p *Process) Socket() string { return p.socket }

// Start starts the process and waits until it answers.
func (p *Process) Start(ctx context.Context) error {
	if err := p.Spawn(); err != nil {
		return err
	}
	if err := p.waitReady(ctx); err != nil {
		return errors.Join(fmt.Errorf("%s: %w; its log ends:\n%s", p.Name, err, p.Log(2000)), p.Stop(context.WithoutCancel(ctx)))
	}
	return nil
}

// Spawn starts the process and does not wait for it to answer.
func (p *Process) Spawn() error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(p.binary, p.args...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = append(os.Environ(), p.env...)
	// A group of its own: an interrupt from the terminal is for the parent,
	// which ends its children in order.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", p.Name, err)
	}
	exited := make(chan struct{})
	p.cmd, p.exited = cmd, exited
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	return nil
}

// Log returns the end of the process's log.
func (p *Process) Log(maxBytes int64) []byte {
	f, err := os.Open(p.log)
	if err != nil {
		return []byte(err.Error())
	}
	defer f.Close()
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-maxBytes), io.SeekStart)
	}
	end, _ := io.ReadAll(f) // as much as there is
	return end
}

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// ExitCode returns the exit code of a process that has ended; -1 if it was
// killed.
func (p *Process) ExitCode() int { return p.cmd.ProcessState.ExitCode() }

// Pid returns the process id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

func (p *Process) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	for {
		err := p.answers(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.exited:
			return fmt.Errorf("ended at once (%v)", p.cmd.ProcessState)
		case <-ctx.Done():
			return fmt.Errorf("does not answer: %w", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// answers asks a CSI process for Probe; the engine has only to listen.
func (p *Process) answers(ctx context.Context) error {
	if _, err := os.Stat(p.socket); err != nil {
		return err
	}
	if p.args[0] == "engine" {
		return dialOnce(p.socket)
	}
	conn, err := p.Conn()
	if err != nil {
		return err
	}
	reply, err := csi.NewIdentityClient(conn).Probe(ctx, &csi.ProbeRequest{})
	if err == nil && reply.Ready != nil && !reply.Ready.Value {
		return errors.New("not ready")
	}
	return err
}

// Conn returns a connection to the process's socket, shared by all callers. It
// outlives restarts of the process.
func (p *Process) Conn() (*grpc.ClientConn, error) {
	if p.conn != nil {
		return p.conn, nil
	}
	conn, err := grpc.NewClient("unix://"+p.socket, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithConnectParams(fastReconnect))
	p.conn = conn
	return conn, err
}

// Kill ends the process as a crash does, and waits for its end.
func (p *Process) Kill() {
	if p.cmd != nil {
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

// Stop asks the process to end, and kills it when it does not.
func (p *Process) Stop(context.Context) error {
	if p.conn != nil {
		_ = p.conn.Close() // no call is left
		p.conn = nil
	}
	if p.cmd == nil {
		return nil
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
		return nil
	case <-time.After(stopLimit):
	}
	p.Kill()
	return fmt.Errorf("%s did not end within %s of SIGTERM: killed", p.Name, stopLimit)
}
