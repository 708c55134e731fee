package node

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"k8s.io/klog/v2"
	mountutils "k8s.io/mount-utils"
	"k8s.io/utils/exec"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/crashpoint"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// Defaults of Options.
const (
	DefaultKubeletDir = "/var/lib/kubelet"
	DefaultEngineWait = 30 * time.Second
)

// Options say what a Node works with.
type Options struct {
	ID volume.NodeID
	// Backends are those that the node's engine may have, in the order in which they
	// are asked for a volume: first those that can say without the repository that
	// they do not have it.
	Backends []backend.Backend
	// MaxVolumes asks the engine how many volumes the node can attach; zero is
	// no limit.
	MaxVolumes func(ctx context.Context) (int64, error)
	// KubeletDir is the directory that every path of a request must lie under,
	// DefaultKubeletDir if empty.
	KubeletDir string
	// EngineWait bounds how long a request waits for an engine that does not
	// answer, DefaultEngineWait if zero.
	EngineWait time.Duration
}

// Validate reports every fault of the options at once, as Invalid.
func (o Options) Validate() error {
	var faults []error
	if _, err := volume.ParseNodeID(string(o.ID)); err != nil {
		faults = append(faults, err)
	}
	if len(o.Backends) == 0 || slices.Contains(o.Backends, nil) {
		faults = append(faults, fault.New(fault.Invalid, "backends: none, or one that is nil: want those of the node's engine"))
	}
	if o.MaxVolumes == nil {
		faults = append(faults, fault.New(fault.Invalid, "max volumes: none: want a function"))
	}
	if dir := o.KubeletDir; dir != "" && (!filepath.IsAbs(dir) || filepath.Clean(dir) != dir || dir == "/") {
		faults = append(faults, fault.New(fault.Invalid, "kubelet directory: %q: want an absolute path below / without . and ..", dir))
	}
	if o.EngineWait < 0 {
		faults = append(faults, fault.New(fault.Invalid, "engine wait: %s: want 0 or more", o.EngineWait))
	}
	return fault.As(fault.Invalid, errors.Join(faults...))
}

// Node does a node's work. All methods may be called from several goroutines.
// Errors are of package fault; Busy, Transient, Canceled, Deadline and Internal
// can come from every method and are not repeated at each.
type Node struct {
	id         volume.NodeID
	engine     backends
	maxVolumes func(ctx context.Context) (int64, error)
	tree       tree
	engineWait time.Duration
	resizer    *mountutils.ResizeFs
	locks      locks
	here       func(place string) // crashpoint.Here; the tests die here

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// New makes a Node.
func New(o Options) (*Node, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	n := &Node{
		id: o.ID, engine: o.Backends, maxVolumes: o.MaxVolumes,
		tree:       tree{dir: o.KubeletDir},
		engineWait: o.EngineWait,
		resizer:    mountutils.NewResizeFs(exec.New()),
		here:       crashpoint.Here,
	}
	if n.tree.dir == "" {
		n.tree.dir = DefaultKubeletDir
	}
	if n.engineWait == 0 {
		n.engineWait = DefaultEngineWait
	}
	return n, nil
}

// Close waits until no operation is under way; new ones are refused.
func (n *Node) Close() {
	n.mu.Lock()
	n.closed = true
	n.mu.Unlock()
	n.running.Wait()
}

// exclusively does work that changes something, with the volume and the path
// locked. The work gets a context that does not end with the caller's: what was
// begun (a long check of a filesystem) comes to its end and is there for the
// retry, which meanwhile is Busy.
func (n *Node) exclusively(ctx context.Context, op string, id volume.ID, path string, work func(context.Context) error) error {
	release, err := n.begin(op, id, path)
	if err != nil {
		return fault.Wrap(err, op, string(id))
	}
	done := make(chan error, 1)
	go func() {
		err := fault.New(fault.Internal, "ended without a result")
		defer func() {
			release()
			done <- err
		}()
		err = work(context.WithoutCancel(ctx))
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		klog.FromContext(ctx).V(0).Info("Operation outlives its caller", "operation", op, "volume", id)
		err = fault.New(fault.KindOf(ctx.Err()), "%w: the work goes on, try again later", ctx.Err())
	}
	return fault.Wrap(err, op, string(id))
}

func (n *Node) begin(op string, id volume.ID, path string) (release func(), err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, fault.New(fault.Transient, "the node service is stopping")
	}
	unlock, err := n.locks.acquire(op, volumeKey(id), pathKey(path))
	if err != nil {
		return nil, err
	}
	n.running.Add(1)
	return func() {
		unlock()
		n.running.Done()
	}, nil
}

// Info is what the node says about itself.
type Info struct {
	ID         volume.NodeID
	MaxVolumes int64 // zero: no limit
}

// Info returns the node's id and how many volumes it can have.
func (n *Node) Info(ctx context.Context) (Info, error) {
	limit, err := patiently(ctx, n.engineWait, func() (int64, error) { return n.maxVolumes(ctx) })
	if err != nil {
		return Info{}, fault.Wrap(err, "node info", string(n.id))
	}
	return Info{ID: n.id, MaxVolumes: max(limit, 0)}, nil
}
