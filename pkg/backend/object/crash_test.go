package object

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/backend/backendtest"
	"github.com/holkas-io/holkas/pkg/blockdev"
	"github.com/holkas-io/holkas/pkg/engine"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/objstore/dir"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// childOrder is the variable that makes this binary a child: an order in JSON.
const childOrder = "HOLKAS_OBJECT_ORDER"

// order is an operation that a process of its own does.
type order struct {
	Store, Dir string
	Op         operation
}

// operation is one of these calls.
type operation struct {
	Create    *backend.CreateVolumeRequest
	Cut       *backend.CreateSnapshotRequest
	Delete    volume.ID
	DeleteCut volume.SnapshotID
	Expand    volume.ID
	SizeBytes int64
}

func (o operation) run(ctx context.Context, b *Backend) (string, error) {
	switch {
	case o.Create != nil:
		v, err := b.CreateVolume(ctx, *o.Create)
		return fmt.Sprintf("%+v", v), err
	case o.Cut != nil:
		s, err := b.CreateSnapshot(ctx, *o.Cut)
		return fmt.Sprintf("%+v", s), err
	case o.Delete != "":
		return "", b.DeleteVolume(ctx, o.Delete)
	case o.DeleteCut != "":
		return "", b.DeleteSnapshot(ctx, o.DeleteCut)
	}
	v, err := b.ExpandVolume(ctx, o.Expand, o.SizeBytes)
	return fmt.Sprintf("%+v", v), err
}

// noDevices is for volumes at rest.
type noDevices struct{}

func (noDevices) Attach(context.Context, volume.ID, blockdev.Disk, blockdev.Options) (blockdev.Device, error) {
	return blockdev.Device{}, fault.New(fault.Exhausted, "there are no devices here")
}

func (noDevices) Find(context.Context) (map[volume.ID]blockdev.Device, error) { return nil, nil }

func (noDevices) Resize(context.Context, volume.ID) error { return nil }

func (noDevices) Detach(context.Context, volume.ID) error { return nil }

func (noDevices) Close(context.Context) error { return nil }

// house is a node without devices, whose process may die.
type house struct {
	testing.TB
	*Backend
	at    order
	store objstore.Store
	// later is added to its clock.
	later time.Duration
}

func openHouse(at order, now func() time.Time) (*Backend, objstore.Store, error) {
	ctx := context.Background()
	store, err := dir.Open(ctx, dir.Options{Root: at.Store, Create: true})
	if err != nil {
		return nil, nil, err
	}
	e, err := engine.New(engine.Options{MemoryBytes: engine.MinMemory, Uploads: 1})
	if err != nil {
		return nil, nil, err
	}
	b, err := Open(ctx, Options{
		Home: func(ctx context.Context) (Home, error) {
			r, err := repository.Open(ctx, store, repository.Options{})
			return Home{r, store}, err
		},
		Engine: e, Devices: noDevices{}, Node: "node-1", Dir: at.Dir, RuntimeDir: filepath.Join(at.Dir, "run"), JournalBytes: mib,
		CollectAfter: time.Hour, Now: now,
	})
	return b, store, err
}

func (h *house) open() {
	h.Helper()
	var err error
	h.Backend, h.store, err = openHouse(h.at, func() time.Time { return time.Now().Add(h.later) })
	must(h, err)
}

func (h *house) close() {
	h.Helper()
	must(h, errors.Join(h.Backend.Close(context.Background()), h.Backend.options.Engine.Close()))
}

func child(text string) int {
	var o order
	err := json.Unmarshal([]byte(text), &o)
	if err == nil {
		var b *Backend
		if b, _, err = openHouse(o, nil); err == nil {
			_, err = o.Op.run(context.Background(), b)
			err = errors.Join(err, b.Close(context.Background()))
		}
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
	path := filepath.Join(dir, "object.test")
	out, err := exec.Command("go", "test", "-c", "-tags", "crashpoint", "-o", path, ".").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

// dieIn lets a process do an operation and die at the k-th place, and reports
// whether it did.
func (h *house) dieIn(o operation, k int) (died bool) {
	h.Helper()
	binary, err := mortal()
	must(h, err)
	at := h.at
	at.Op = o
	text, err := json.Marshal(at)
	must(h, err)
	text = bytes.ReplaceAll(text, []byte(`,"Secrets":"***stripped***"`), nil) // they have none
	armed := filepath.Join(h.TempDir(), "crash")
	must(h, os.WriteFile(armed, []byte(strconv.Itoa(k)), 0o600))
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

// drama is something that a process may die in.
type drama struct {
	name    string
	prepare func(h *house) operation
	least   int // how many places it passes at least
}

func (h *house) volume(from backend.Source) volume.ID {
	h.Helper()
	r := backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 4 * mib, Class: class(), Source: from}
	_, err := h.CreateVolume(context.Background(), r)
	must(h, err)
	return r.ID
}

// filled is a volume with content.
func (h *house) filled() volume.ID {
	h.Helper()
	ctx := context.Background()
	id := h.volume(backend.Source{})
	s, err := h.site(ctx)
	must(h, err)
	record, err := s.volume(ctx, id)
	must(h, err)
	log, done, err := h.use(ctx, s, record.Value, nokeys)
	must(h, err)
	must(h, log.WriteAt(ctx, bytes.Repeat([]byte("a"), mib), 0))
	done(ctx)
	return id
}

func (h *house) snapshotOf(id volume.ID) volume.SnapshotID {
	h.Helper()
	r := cutOf(id)
	_, err := h.CreateSnapshot(context.Background(), r)
	must(h, err)
	return r.ID
}

func cutOf(id volume.ID) backend.CreateSnapshotRequest {
	return backend.CreateSnapshotRequest{ID: volume.NewSnapshotID(), Volume: id, Consistency: volume.CrashConsistent}
}

var dramas = []drama{
	{"create", func(*house) operation {
		return operation{Create: &backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 4 * mib, Class: class()}}
	}, 4},
	{"clone a snapshot", func(h *house) operation {
		return operation{Create: &backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 8 * mib, Class: class(), Source: backend.Source{Snapshot: h.snapshotOf(h.filled())}}}
	}, 5},
	{"clone a volume", func(h *house) operation {
		return operation{Create: &backend.CreateVolumeRequest{ID: volume.NewID(), SizeBytes: 8 * mib, Class: class(), Source: backend.Source{Volume: h.filled()}}}
	}, 9},
	{"snapshot", func(h *house) operation {
		r := cutOf(h.filled())
		return operation{Cut: &r}
	}, 4},
	{"delete a volume", func(h *house) operation {
		id := h.filled()
		h.snapshotOf(id)
		return operation{Delete: id}
	}, 4},
	{"delete a clone", func(h *house) operation {
		return operation{Delete: h.volume(backend.Source{Snapshot: h.snapshotOf(h.filled())})}
	}, 4},
	{"delete a snapshot", func(h *house) operation { return operation{DeleteCut: h.snapshotOf(h.filled())} }, 2},
	{"expand", func(h *house) operation { return operation{Expand: h.filled(), SizeBytes: 16 * mib} }, 1},
}

// TestDeathAtEveryStep kills the process at each place between two durable steps of
// every operation, and starts another. There the operation is repeated, twice with
// the same reply; a snapshot that was interrupted fails for good instead, and
// another one succeeds. When everything is deleted then, nothing is left. It takes
// every second place; all of them with HOLKAS_SOAK.
func TestDeathAtEveryStep(t *testing.T) {
	for i, d := range dramas {
		t.Run(d.name, func(t *testing.T) {
			t.Parallel()
			scratch := backendtest.Dir(t)
			h := &house{TB: t, at: order{Store: filepath.Join(scratch, "store"), Dir: filepath.Join(scratch, "node")}}
			h.open()
			defer func() { h.close() }()
			k, step := 1, 1
			if os.Getenv("HOLKAS_SOAK") == "" {
				k, step = 1+i%2, 2
			}
			for h.act(d, k) {
				k += step
			}
			if k <= d.least {
				t.Errorf("it passes %d places, want %d or more", k-1, d.least)
			}
			h.nothingLeft()
		})
	}
}

// act lets a process die at the k-th place of an operation, and looks after what it
// left. It reports whether it died.
func (h *house) act(d drama, k int) (died bool) {
	h.Helper()
	ctx := context.Background()
	o := d.prepare(h)
	h.close()
	died = h.dieIn(o, k)
	h.open()
	if k%3 != 0 || !died {
		first, err := o.run(ctx, h.Backend)
		if o.Cut != nil && died && isFailed(err) {
			again := *o.Cut
			again.ID = volume.NewSnapshotID()
			o.Cut = &again
			first, err = o.run(ctx, h.Backend)
		}
		second, again := o.run(ctx, h.Backend)
		if err != nil || again != nil || first != second {
			h.Errorf("%s, death %d: repeated: %q, %v; again: %q, %v", d.name, k, first, err, second, again)
		}
		h.readable(o)
	}
	switch { // as a controller finishes or undoes what it does not repeat
	case o.Create != nil:
		must(h, h.DeleteVolume(ctx, o.Create.ID))
	case o.Delete != "":
		must(h, h.DeleteVolume(ctx, o.Delete))
	}
	h.deleteAll()
	return died
}

// readable sees that a volume that was made has its content.
func (h *house) readable(o operation) {
	h.Helper()
	if o.Create == nil {
		return
	}
	ctx := context.Background()
	s, err := h.site(ctx)
	must(h, err)
	record, err := s.volume(ctx, o.Create.ID)
	must(h, err)
	k, err := nokeys()
	must(h, err)
	w, err := h.view(ctx, s, record.Value, k)
	must(h, err)
	defer w.Close()
	p, wanted := make([]byte, mib), make([]byte, mib)
	if o.Create.Source != (backend.Source{}) {
		wanted = bytes.Repeat([]byte("a"), mib)
	}
	must(h, w.ReadAt(ctx, p, 0))
	if !bytes.Equal(p, wanted) || w.Size() != o.Create.SizeBytes {
		h.Errorf("volume %s of %d bytes: not what it was made from", o.Create.ID, w.Size())
	}
}

// deleteAll deletes every volume and every snapshot that has a record.
func (h *house) deleteAll() {
	h.Helper()
	ctx := context.Background()
	for v, err := range h.Volumes(ctx) {
		must(h, err)
		must(h, h.DeleteVolume(ctx, v.ID))
	}
	s, err := h.site(ctx)
	must(h, err)
	for after := ""; ; {
		page, next, err := s.Repository.ObjectSnapshots.List(ctx, after, 0)
		must(h, err)
		for _, r := range page {
			must(h, h.DeleteSnapshot(ctx, r.Value.ID))
		}
		if after = next; after == "" {
			return
		}
	}
}

// nothingLeft has what was deleted collected, and sees that nothing remains.
func (h *house) nothingLeft() {
	h.Helper()
	for range 4 {
		h.later += 25 * time.Hour
		_, err := h.Collect(context.Background())
		must(h, err)
	}
	if keys := left(h, h.store); len(keys) > 0 {
		h.Errorf("%d objects left after everything was deleted: %q", len(keys), keys)
	}
	for _, folder := range []string{"journals", "attached", "frozen"} {
		if found, err := ids(h.folder(folder)); err != nil || len(found) > 0 {
			h.Errorf("left in %s: %v, %v", folder, found, err)
		}
	}
}
