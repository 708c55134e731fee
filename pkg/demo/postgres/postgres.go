// Package postgres runs the machine's own PostgreSQL on a mounted volume, for
// the demo and the benchmark.
package postgres

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// account is the operating system's user that PostgreSQL runs as: it refuses to
// run as root.
const account = "postgres"

// Programs returns the directory of the newest installed PostgreSQL.
func Programs() (string, error) {
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil || len(found) == 0 {
		return "", errors.New("no PostgreSQL under /usr/lib/postgresql: apt-get install postgresql")
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// Server is a database server whose files are on a volume. It listens on a
// unix socket only.
type Server struct {
	programs string
	data     string // PGDATA, on the volume
	sockets  string // the directory of its socket
	as       *syscall.Credential
	server   *exec.Cmd
	exited   chan struct{}
}

// New prepares a server whose files are to be on a mounted volume and whose
// socket is in a directory of its own.
func New(mount, sockets string) (*Server, error) {
	programs, err := Programs()
	if err != nil {
		return nil, err
	}
	owner, err := user.Lookup(account)
	if err != nil {
		return nil, fmt.Errorf("%w: apt-get install postgresql makes that user", err)
	}
	uid, _ := strconv.ParseUint(owner.Uid, 10, 32)
	gid, _ := strconv.ParseUint(owner.Gid, 10, 32)
	p := &Server{
		programs: programs, data: filepath.Join(mount, "pgdata"), sockets: sockets,
		as: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)},
	}
	for _, dir := range []string{p.data, p.sockets} {
		if err := errors.Join(os.MkdirAll(dir, 0o700), os.Chown(dir, int(uid), int(gid))); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// Command prepares one of PostgreSQL's programs, with the way to the server in
// its environment. When ctx ends it is killed with all that it has started, so
// that nothing goes on writing to the volume.
func (p *Server) Command(ctx context.Context, program string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.programs, program), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: p.as, Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "LC_ALL=C.UTF-8", "PGHOST=" + p.sockets, "PGUSER=" + account, "PGDATABASE=postgres"}
	cmd.Dir = "/"
	return cmd
}

// Run runs one of PostgreSQL's programs and returns what it printed.
func (p *Server) Run(ctx context.Context, program string, args ...string) (string, error) {
	var out, stderr bytes.Buffer
	cmd := p.Command(ctx, program, args...)
	cmd.Stdout, cmd.Stderr = &out, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", program, err, bytes.TrimSpace(stderr.Bytes()))
	}
	return strings.TrimSpace(out.String()), nil
}

// Initialise makes the server's files, with data checksums.
func (p *Server) Initialise(ctx context.Context) error {
	_, err := p.Run(ctx, "initdb", "--pgdata="+p.data, "--auth=trust", "--data-checksums", "--encoding=UTF8", "--locale=C")
	return err
}

// ForgetOrigin removes what the files of a clone say of the server that had them:
// its process, which on another machine would be taken for a dead one, lives on
// this one.
func (p *Server) ForgetOrigin() error {
	return os.Remove(filepath.Join(p.data, "postmaster.pid"))
}

// Start starts the server and waits until it answers, crash recovery included.
func (p *Server) Start(ctx context.Context) error {
	log, err := os.OpenFile(p.sockets+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	p.server = p.Command(context.WithoutCancel(ctx), "postgres", "-D", p.data, "-k", p.sockets, "-c", "listen_addresses=", "-c", "max_wal_size=1GB")
	p.server.Stdout, p.server.Stderr = log, log
	if err := p.server.Start(); err != nil {
		return err
	}
	p.exited = make(chan struct{})
	go func() {
		_ = p.server.Wait()
		close(p.exited)
	}()
	for {
		if _, err := p.Run(ctx, "pg_isready"); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.exited:
			text, _ := os.ReadFile(p.sockets + ".log")
			return fmt.Errorf("the server ended: %s", text)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// Stop ends the server at once, with its files in order if it can.
func (p *Server) Stop(context.Context) error {
	if p.exited == nil {
		return nil
	}
	for _, how := range []struct {
		signal syscall.Signal
		limit  time.Duration
	}{
		{syscall.SIGINT, 30 * time.Second}, {syscall.SIGQUIT, 10 * time.Second}, {syscall.SIGKILL, 10 * time.Second},
	} {
		_ = p.server.Process.Signal(how.signal) // it may have ended by itself
		select {
		case <-p.exited:
			if how.signal != syscall.SIGINT {
				return fmt.Errorf("PostgreSQL at %s ended only by %s", p.data, how.signal)
			}
			return nil
		case <-time.After(how.limit):
		}
	}
	return fmt.Errorf("PostgreSQL at %s did not end, not even by SIGKILL", p.data)
}

// Query runs one statement and returns its rows, columns separated by '|'.
func (p *Server) Query(ctx context.Context, sql string) (string, error) {
	return p.Run(ctx, "psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql)
}

// Sums compares what pgbench keeps equal in every transaction: the sums of the
// balances of accounts, tellers and branches and of the history's changes.
func (p *Server) Sums(ctx context.Context) (string, error) {
	row, err := p.Query(ctx, `select (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
		(select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history), (select count(*) from pgbench_history)`)
	if err != nil {
		return "", err
	}
	f := strings.Split(row, "|")
	if len(f) != 5 || f[0] != f[1] || f[1] != f[2] || f[2] != f[3] {
		return "", fmt.Errorf("the sums differ: accounts|tellers|branches|history|transactions = %s", row)
	}
	return fmt.Sprintf("%s transactions, every sum %s", f[4], f[0]), nil
}
