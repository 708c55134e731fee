package local

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/blockdev/loop"
	"github.com/holkas-io/holkas/pkg/volume"
)

// childOrder is the variable that makes this binary a child: an order in JSON.
const childOrder = "HOLKAS_LOCAL_ORDER"

// order is an operation that a process of its own does on a pool.
type order struct {
	Root string
	Op   operation
}

// operation is one of these calls.
type operation struct {
	Create     *backend.CreateVolumeRequest
	Cut        *backend.CreateSnapshotRequest
	Group      []backend.CreateSnapshotRequest // under one pause
	Delete     volume.ID
	DeleteCut  volume.SnapshotID
	Expand     volume.ID
	SizeBytes  int64
	Modify     volume.ID
	Mutable    volume.Mutable
	Record     volume.ID
	Filesystem backend.Filesystem
}

// run does it, and renders the reply.
func (o operation) run(ctx context.Context, b *Backend) (string, error) {
	switch {
	case o.Create != nil:
		return rendered(b.CreateVolume(ctx, *o.Create))
	case o.Cut != nil:
		return rendered(b.CreateSnapshot(ctx, *o.Cut))
	case o.Group != nil:
		return o.group(ctx, b)
	case o.Delete != "":
		return "", b.DeleteVolume(ctx, o.Delete)
	case o.DeleteCut != "":
		return "", b.DeleteSnapshot(ctx, o.DeleteCut)
	case o.Expand != "":
		return rendered(b.ExpandVolume(ctx, o.Expand, o.SizeBytes))
	case o.Modify != "":
		return rendered(b.ModifyVolume(ctx, o.Modify, o.Mutable))
	case o.Record != "":
		return "", b.RecordFilesystem(ctx, o.Record, o.Filesystem)
	}
	return "", nil // only open
}

func (o operation) group(ctx context.Context, b *Backend) (string, error) {
	id := backend.PauseID(volume.NewID())
	var all []volume.ID
	for _, r := range o.Group {
		all = append(all, r.Volume)
	}
	if err := b.Pause(ctx, id, all); err != nil {
		return "", err
	}
	reply := ""
	for _, r := range o.Group {
		r.Pause = id
		s, err := rendered(b.CreateSnapshot(ctx, r))
		if err != nil {
			return "", err
		}
		reply += s
	}
	return reply, b.Resume(ctx, id)
}

func rendered[T any](v T, err error) (string, error) { return fmt.Sprintf("%+v", v), err }

func child(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	b, err := Open(context.Background(), Options{Pools: []PoolConfig{{Name: "fast", Path: o.Root}}, Attacher: &loop.Attacher{}})
	if err == nil {
		_, err = o.Op.run(context.Background(), b)
		_ = b.Close(context.Background())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// built is set when mortal made a folder.
var built bool

// mortal is this test's binary with the crash points in it.
var mortal = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("/var/tmp", "holkas-mortal-")
	if err != nil {
		return "", err
	}
	built = true
	path := filepath.Join(dir, "local.test")
	out, err := exec.Command("go", "test", "-c", "-tags", "crashpoint", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// dieIn lets a process do an operation and die at the k-th place. It reports
// whether that process died, and did not come to the end of its work.
func (h *house) dieIn(o operation, k int) (died bool) {
	h.Helper()
	binary, err := mortal()
	h.must(err)
	text, err := json.Marshal(order{h.root, o})
	h.must(err)
	text = bytes.ReplaceAll(text, []byte(`,"Secrets":"***stripped***"`), nil) // they have none
	armed := filepath.Join(h.TempDir(), "crash")
	h.must(os.WriteFile(armed, []byte(strconv.Itoa(k)), 0o600))
	cmd := exec.Command(binary)
	cmd.Env = append(os.Environ(), childOrder+"="+string(text), "HOLKAS_CRASH_FILE="+armed)
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signal() == syscall.SIGKILL {
		return true
	}
	h.Fatalf("place %d of %s: %v: %s", k, text, err, out)
	return false
}

// losePower makes the pool what the disk under it holds at this moment: what was
// written and not synced is lost.
func (h *house) losePower(t testing.TB) {
	t.Helper()
	after := h.image + ".after"
	backendtest.Command(t, "cp", "--sparse=always", h.image, after)
	h.detachAll()
	backendtest.Unmount(t, h.root)
	h.must(os.Rename(after, h.image))
	backendtest.Command(t, "mount", "-o", "loop,noatime", h.image, h.root)
}
