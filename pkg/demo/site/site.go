package site

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/dir"
	"github.com/holkas-io/holkas/pkg/objstore/s3"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Options of Start.
type Options struct {
	// Binary is the holkas program; empty means this program itself.
	Binary string
	// Dir is where everything goes; it is made, and removed by Close. Empty
	// means a new directory under Scratch.
	Dir string
	// Node is the node's name; empty means "demo".
	Node volume.NodeID
	// Pools are made in image files under Dir.
	Pools []PoolOptions
	// Object has the engine serve volumes that live in the repository.
	Object bool
	// Repository, if not empty, is an existing site's, to share it, or the URL of
	// a bucket (s3://...), in which one is made if there is none.
	Repository string
	// Args are further arguments, by process name.
	Args map[string][]string
	// ProcessEnv is added to the environment, by process name.
	ProcessEnv map[string][]string
	// Controllers is how many controllers run; 0 means one.
	Controllers int
}

// PoolOptions describe one pool in an image file.
type PoolOptions struct {
	Name      string
	Type      volume.PoolType
	SizeBytes int64 // of the sparse image file
}

// Site is a running installation.
type Site struct {
	Dir        string // everything is under it
	Kubelet    string // stands for kubelet's directory: targets go below it
	Repository string // the directory of the repository, or the URL of its bucket
	Node       volume.NodeID
	Engine     *Process
	NodePlugin *Process
	Controller []*Process

	pools []*Pool
}

// Scratch is where images of pools go if nobody says otherwise: TMPDIR if it is
// set, else /var/tmp, which is on a disk where /tmp is in memory.
func Scratch() string {
	return cmp.Or(os.Getenv("TMPDIR"), "/var/tmp")
}

// Start makes the pools and starts the processes; it returns when all of them
// answer. What it had made is removed if it fails.
func Start(ctx context.Context, o Options) (*Site, error) {
	s, err := Prepare(ctx, o)
	if err != nil {
		return nil, err
	}
	for _, p := range s.Processes() {
		if err := p.Start(ctx); err != nil {
			return nil, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
	}
	if err := s.announced(ctx); err != nil {
		return nil, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}
	return s, nil
}

// announced waits until the controller knows the node, whose engine announces
// itself in its own time.
func (s *Site) announced(ctx context.Context) error {
	repo, err := s.OpenRepository(ctx)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		_, err := repo.Nodes.Latest(ctx, string(s.Node))
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the engine did not announce itself: %w; its log ends:\n%s", err, s.Engine.Log(2000))
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.Engine.Exited():
			return fmt.Errorf("the engine ended; its log ends:\n%s", s.Engine.Log(2000))
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// OpenRepository opens the site's repository in this process.
func (s *Site) OpenRepository(ctx context.Context) (*repository.Repository, error) {
	return s.openRepository(ctx, false)
}

func (s *Site) openRepository(ctx context.Context, create bool) (*repository.Repository, error) {
	store, err := s.openStore(ctx, create)
	if err != nil {
		return nil, err
	}
	return repository.Open(ctx, store, repository.Options{})
}

func (s *Site) openStore(ctx context.Context, create bool) (objstore.Store, error) {
	if !s.inBucket() {
		return dir.Open(ctx, dir.Options{Root: s.Repository, Create: create})
	}
	o, err := s3.ParseURL(s.Repository)
	if err != nil {
		return nil, err
	}
	return s3.New(o)
}

func (s *Site) inBucket() bool { return strings.HasPrefix(s.Repository, s3.Scheme+"://") }

// repositoryFlag is how the processes are told of the repository.
func (s *Site) repositoryFlag() string {
	if s.inBucket() {
		return "--repository=" + s.Repository
	}
	return "--repository=dir:" + s.Repository
}

// Prepare makes the pools and the processes but starts none.
func Prepare(ctx context.Context, o Options) (*Site, error) {
	if o.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		o.Binary = self
	}
	if o.Dir == "" {
		dir, err := os.MkdirTemp(Scratch(), "holkas-")
		if err != nil {
			return nil, err
		}
		o.Dir = dir
	}
	if o.Node == "" {
		o.Node = "demo"
	}
	s := &Site{Dir: o.Dir, Kubelet: filepath.Join(o.Dir, "kubelet"), Repository: o.Repository, Node: o.Node}
	if s.Repository == "" {
		s.Repository = filepath.Join(o.Dir, "repository")
	}
	dirs := []string{s.Dir, s.Kubelet}
	if !s.inBucket() {
		dirs = append(dirs, s.Repository)
	}
	for _, dir := range dirs {
		// The way to the targets must be open for users such as postgres.
		if err := errors.Join(os.MkdirAll(dir, 0o755), os.Chmod(dir, 0o755)); err != nil {
			return nil, err
		}
	}
	if _, err := s.openRepository(ctx, o.Repository == ""); err != nil {
		return nil, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
	}
	for _, po := range o.Pools {
		pool, err := makePool(ctx, s.Dir, po)
		if err != nil {
			return nil, errors.Join(err, s.Close(context.WithoutCancel(ctx)))
		}
		s.pools = append(s.pools, pool)
	}
	s.define(o)
	return s, nil
}

func (s *Site) define(o Options) {
	engineArgs := []string{
		"engine", "--node-id=" + string(s.Node), s.repositoryFlag(),
		"--agent-endpoint=" + s.AgentEndpoint(), "--state-dir=" + filepath.Join(s.Dir, "state"),
	}
	for _, pool := range s.pools {
		engineArgs = append(engineArgs, "--pool="+pool.Name+"="+pool.Path)
	}
	if o.Object {
		engineArgs = append(engineArgs, "--object-dir="+s.ObjectDir(), "--object-run-dir="+filepath.Join(s.ObjectDir(), "run"), "--journal-size=256Mi", "--cache-size=1Gi")
	}
	process := func(name, binary string, args []string) *Process {
		kind := args[0]
		return &Process{
			Name: name, binary: binary, env: o.ProcessEnv[kind], log: filepath.Join(s.Dir, name+".log"),
			args: append(args, o.Args[kind]...), socket: s.socket(name),
		}
	}
	s.Engine = process("agent", o.Binary, engineArgs)
	s.NodePlugin = process("node", o.Binary, []string{
		"node", "--node-id=" + string(s.Node), "--endpoint=unix://" + s.socket("node"),
		"--agent-endpoint=" + s.AgentEndpoint(), "--kubelet-dir=" + s.Kubelet,
	})
	for i := range max(o.Controllers, 1) {
		name := fmt.Sprintf("controller%d", i)
		s.Controller = append(s.Controller, process(name, o.Binary, []string{
			"controller", "--endpoint=unix://" + s.socket(name), s.repositoryFlag(),
		}))
	}
}

func (s *Site) socket(name string) string { return filepath.Join(s.Dir, name+".sock") }

// ObjectDir is where the engine keeps what object volumes have on the node.
func (s *Site) ObjectDir() string { return filepath.Join(s.Dir, "object") }

// AgentEndpoint is where the engine answers.
func (s *Site) AgentEndpoint() string { return "unix://" + s.socket("agent") }

// Processes returns the processes in the order in which they start.
func (s *Site) Processes() []*Process {
	return append([]*Process{s.Engine, s.NodePlugin}, s.Controller...)
}

// PoolPath returns the directory of a pool.
func (s *Site) PoolPath(name string) string {
	i := slices.IndexFunc(s.pools, func(p *Pool) bool { return p.Name == name })
	return s.pools[i].Path
}

// Close takes away everything that the site had made, what volumes left mounted or
// attached as well, and ends the processes: the engine last, since devices of object
// volumes wait for one. It goes on past faults; files stay only where something is
// still mounted.
func (s *Site) Close(ctx context.Context) error {
	faults := []error{s.stop(ctx, append([]*Process{s.NodePlugin}, s.Controller...)...), unmountBelow(ctx, s.Kubelet)}
	faults = append(faults, s.closeObjects(ctx))
	faults = append(faults, unmountBelow(ctx, s.Kubelet)) // what had waited
	for _, pool := range s.pools {
		faults = append(faults, pool.close(ctx))
	}
	return errors.Join(append(faults, removeDir(s.Dir))...)
}

func (s *Site) stop(ctx context.Context, processes ...*Process) error {
	var faults []error
	for _, p := range processes {
		if p != nil {
			faults = append(faults, p.Stop(ctx))
		}
	}
	return errors.Join(faults...)
}

// closeObjects frees the devices of object volumes, ends the engine, and what holds
// the devices for the next one.
func (s *Site) closeObjects(ctx context.Context) error {
	attached, err := os.ReadDir(filepath.Join(s.ObjectDir(), "attached"))
	if err != nil {
		attached = nil // there are none
	}
	free := func() error {
		return detach(ctx, func(file string) bool {
			return slices.ContainsFunc(attached, func(e os.DirEntry) bool { return strings.HasPrefix(file, "/"+e.Name()+"-") })
		})
	}
	err = errors.Join(free(), s.stop(ctx, s.Engine))
	killKeepers(filepath.Join(s.ObjectDir(), "run"))
	return errors.Join(err, free(), unmountBelow(ctx, s.ObjectDir()))
}

// killKeepers kills the processes that hold devices below a directory. Who still
// waits for one of these devices gets an error.
func killKeepers(dir string) {
	all, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range all {
		text, err := os.ReadFile(file)
		args := strings.Split(string(text), "\x00")
		if err != nil || len(args) < 4 || args[1] != "device" || args[2] != "keep" || !strings.HasPrefix(args[3], dir+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL) // it may have ended
		}
	}
}

// removeDir removes a directory, unless something is mounted below it: what is
// on a mounted filesystem is not ours to remove.
func removeDir(dir string) error {
	mounts, err := mountsBelow(dir)
	if err != nil {
		return err
	}
	if len(mounts) > 0 {
		return fmt.Errorf("%s stays: %s is still mounted", dir, mounts[0])
	}
	return os.RemoveAll(dir)
}

// Logs copies the ends of the processes' logs, for a report of a failure.
func (s *Site) Logs(w io.Writer, lastBytes int64) {
	for _, p := range s.Processes() {
		fmt.Fprintf(w, "--- %s\n%s\n", p.log, p.Log(lastBytes))
	}
}

// stopLimit is how long a process may take to end before it is killed.
const stopLimit = 30 * time.Second

func makeDirs(paths ...string) error {
	var faults []error
	for _, path := range paths {
		faults = append(faults, os.MkdirAll(path, 0o755))
	}
	return errors.Join(faults...)
}
