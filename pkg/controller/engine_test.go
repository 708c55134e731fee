package controller

import (
	"context"
	"iter"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/volume"
)

// engine is a backend in maps, faithful to the contract: idempotent by id, with
// tombstones, capacity and pauses.
type engine struct {
	backend.Backend // what no test of this package uses

	mu        *sync.Mutex
	node      volume.NodeID
	beside    *engine // the local one of the same node, for one of the shared backend
	capacity  int64
	volumes   map[volume.ID]backend.Volume
	snapshots map[volume.SnapshotID]backend.Snapshot
	deleted   map[string]bool
	pauses    map[backend.PauseID]*pause
	rigid     map[volume.ID]bool // cannot be paused
	attached  map[volume.ID]bool // cannot be deleted
	down      bool
	cutFault  error                       // what CreateSnapshot fails with
	cutTime   time.Duration               // how long CreateSnapshot takes
	cutting   func()                      // called in the middle of it
	created   backend.CreateVolumeRequest // the last one
	events    *events
}

type pause struct {
	begun   time.Time
	resumed bool
	volumes []volume.ID
}

// events is what all engines of a world did, in order.
type events struct {
	mu  sync.Mutex
	all []event
}

type event struct {
	what   string
	node   volume.NodeID
	pause  backend.PauseID
	volume volume.ID
}

// uses returns which nodes' engines did something with shared volumes since it was
// asked last, without repetitions.
func (e *events) uses() (nodes []volume.NodeID) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = slices.DeleteFunc(e.all, func(v event) bool {
		if v.what == "use" && !slices.Contains(nodes, v.node) {
			nodes = append(nodes, v.node)
		}
		return v.what == "use"
	})
	return nodes
}

func (e *events) add(v event) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.all = append(e.all, v)
}

func newEngine(node volume.NodeID, capacity int64, log *events) *engine {
	return &engine{
		node: node, capacity: capacity, events: log, mu: &sync.Mutex{},
		volumes:   map[volume.ID]backend.Volume{},
		snapshots: map[volume.SnapshotID]backend.Snapshot{},
		deleted:   map[string]bool{},
		pauses:    map[backend.PauseID]*pause{},
		rigid:     map[volume.ID]bool{},
		attached:  map[volume.ID]bool{},
	}
}

// front is the shared backend at the node of another engine: it has what e has, and
// pauses of its own.
func (e *engine) front(beside *engine) *engine {
	f := *e
	f.node, f.beside, f.pauses = beside.node, beside, map[backend.PauseID]*pause{}
	return &f
}

func (e *engine) isDown() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.down
}

// used notes that an engine of the shared backend did something.
func (e *engine) used(id volume.ID) {
	if e.beside != nil {
		e.events.add(event{what: "use", node: e.node, volume: id})
	}
}

// enter locks the engine unless it is down.
func (e *engine) enter(ctx context.Context) (leave func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	away := e.beside != nil && e.beside.isDown()
	e.mu.Lock()
	if e.down || away {
		e.mu.Unlock()
		return nil, fault.New(fault.Transient, "connection refused")
	}
	return e.mu.Unlock, nil
}

func (e *engine) free() int64 {
	free := e.capacity
	for _, v := range e.volumes {
		free -= v.SizeBytes
	}
	return free
}

func (e *engine) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	leave, err := e.enter(ctx)
	if err != nil {
		return backend.Volume{}, err
	}
	defer leave()
	e.used(r.ID)
	if e.deleted[string(r.ID)] {
		return backend.Volume{}, fault.New(fault.Fenced, "volume %s was deleted", r.ID)
	}
	if v, ok := e.volumes[r.ID]; ok {
		if v.SizeBytes != r.SizeBytes || v.Source != r.Source {
			return backend.Volume{}, fault.New(fault.Exists, "volume %s differs", r.ID)
		}
		return v, nil
	}
	if err := e.source(r); err != nil {
		return backend.Volume{}, err
	}
	e.created = r
	if r.SizeBytes > e.free() {
		return backend.Volume{}, fault.New(fault.Exhausted, "%d bytes free", e.free())
	}
	v := backend.Volume{ID: r.ID, SizeBytes: r.SizeBytes, Class: r.Class, Source: r.Source, CreatedAt: time.Now()}
	e.volumes[r.ID] = v
	return v, nil
}

func (e *engine) source(r backend.CreateVolumeRequest) error {
	size := int64(0)
	switch {
	case r.Source.Volume != "":
		v, ok := e.volumes[r.Source.Volume]
		if !ok {
			return fault.New(fault.NotFound, "no volume %s", r.Source.Volume)
		}
		size = v.SizeBytes
	case r.Source.Snapshot != "":
		s, ok := e.snapshots[r.Source.Snapshot]
		if !ok {
			return fault.New(fault.NotFound, "no snapshot %s", r.Source.Snapshot)
		}
		size = s.SizeBytes
	}
	if r.SizeBytes < size {
		return fault.New(fault.OutOfRange, "the source has %d bytes", size)
	}
	return nil
}

func (e *engine) DeleteVolume(ctx context.Context, id volume.ID) error {
	leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	e.used(id)
	if e.attached[id] {
		return fault.New(fault.InUse, "volume %s is attached", id)
	}
	delete(e.volumes, id)
	e.deleted[string(id)] = true
	return nil
}

func (e *engine) ExpandVolume(ctx context.Context, id volume.ID, sizeBytes int64) (backend.Volume, error) {
	return e.change(ctx, id, func(v *backend.Volume) error {
		if sizeBytes-v.SizeBytes > e.free() {
			return fault.New(fault.Exhausted, "%d bytes free", e.free())
		}
		v.SizeBytes = max(v.SizeBytes, sizeBytes)
		return nil
	})
}

func (e *engine) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) (backend.Volume, error) {
	return e.change(ctx, id, func(v *backend.Volume) (err error) {
		v.Class, err = v.Class.Apply(m)
		return err
	})
}

func (e *engine) change(ctx context.Context, id volume.ID, f func(*backend.Volume) error) (backend.Volume, error) {
	leave, err := e.enter(ctx)
	if err != nil {
		return backend.Volume{}, err
	}
	defer leave()
	e.used(id)
	v, ok := e.volumes[id]
	if !ok {
		return backend.Volume{}, fault.New(fault.NotFound, "no volume %s", id)
	}
	if err := f(&v); err != nil {
		return backend.Volume{}, err
	}
	e.volumes[id] = v
	return v, nil
}

func (e *engine) Volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	return e.change(ctx, id, func(*backend.Volume) error { return nil })
}

func (e *engine) CreateSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	if e.cutTime > 0 {
		time.Sleep(e.cutTime)
	}
	if e.cutting != nil {
		e.cutting()
	}
	leave, err := e.enter(ctx)
	if err != nil {
		return backend.Snapshot{}, err
	}
	defer leave()
	e.used(r.Volume)
	if e.cutTime > 0 && r.Pause != "" && !e.holds(r.Pause) { // it was cutting when the pause ended
		return backend.Snapshot{}, fault.New(fault.Precondition, "pause %s ended before the cut was made", r.Pause)
	}
	if e.deleted[string(r.ID)] {
		return backend.Snapshot{}, fault.New(fault.Fenced, "snapshot %s was deleted", r.ID)
	}
	if s, ok := e.snapshots[r.ID]; ok {
		return s, nil
	}
	v, ok := e.volumes[r.Volume]
	switch {
	case !ok:
		return backend.Snapshot{}, fault.New(fault.NotFound, "no volume %s", r.Volume)
	case e.cutFault != nil:
		return backend.Snapshot{}, e.cutFault
	case r.Pause != "" && !e.holds(r.Pause):
		return backend.Snapshot{}, fault.New(fault.Precondition, "pause %s is not held", r.Pause)
	}
	e.events.add(event{what: "cut", node: e.node, pause: r.Pause})
	s := backend.Snapshot{
		ID: r.ID, Volume: r.Volume, SizeBytes: v.SizeBytes, Consistency: r.Consistency, Filesystem: v.Filesystem, CreatedAt: time.Now().UTC(),
	}
	e.snapshots[r.ID] = s
	return s, nil
}

func (e *engine) DeleteSnapshot(ctx context.Context, id volume.SnapshotID) error {
	leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	e.used("")
	delete(e.snapshots, id)
	e.deleted[string(id)] = true
	return nil
}

func (e *engine) holds(id backend.PauseID) bool {
	p, ok := e.pauses[id]
	return ok && !p.resumed && time.Since(p.begun) < backend.PauseLimit
}

func (e *engine) Pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	if _, ok := e.pauses[id]; ok {
		return nil
	}
	for _, v := range volumes {
		if e.rigid[v] {
			return fault.New(fault.Precondition, "volume %s is published as a raw block device and cannot be paused", v)
		}
		for other, p := range e.pauses {
			if e.holds(other) && slices.Contains(p.volumes, v) {
				return fault.New(fault.Busy, "volume %s is paused by %s", v, other)
			}
		}
	}
	e.pauses[id] = &pause{begun: time.Now(), volumes: volumes}
	e.events.add(event{what: "pause", node: e.node, pause: id})
	return nil
}

func (e *engine) Resume(ctx context.Context, id backend.PauseID) error {
	leave, err := e.enter(ctx)
	if err != nil {
		return err
	}
	defer leave()
	p, ok := e.pauses[id]
	if !ok || !p.resumed && !e.holds(id) {
		return fault.New(fault.Precondition, "pause %s is not held", id)
	}
	if !p.resumed {
		e.events.add(event{what: "resume", node: e.node, pause: id})
	}
	p.resumed = true
	return nil
}

func (e *engine) Allocated(ctx context.Context, id volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return func(yield func(backend.Extent, error) bool) {
		leave, err := e.enter(ctx)
		if err != nil {
			yield(backend.Extent{}, err)
			return
		}
		e.used("")
		s := e.snapshots[id]
		leave()
		yield(backend.Extent{Offset: offset, Length: s.SizeBytes - offset}, nil)
	}
}

func (e *engine) Delta(ctx context.Context, _, target volume.SnapshotID, offset int64) iter.Seq2[backend.Extent, error] {
	return e.Allocated(ctx, target, offset)
}

func (e *engine) Capacity(ctx context.Context, _ volume.Class) (backend.Capacity, error) {
	leave, err := e.enter(ctx)
	if err != nil {
		return backend.Capacity{}, err
	}
	defer leave()
	return backend.Capacity{AvailableBytes: e.free(), MaximumVolumeBytes: e.free()}, nil
}

func (e *engine) VolumeHealth(ctx context.Context, id volume.ID) ([]backend.Health, error) {
	_, err := e.Volume(ctx, id)
	return nil, err
}

// volumeIDs and snapshotIDs are what the engine holds, in order.
func (e *engine) volumeIDs() []volume.ID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.volumes))
}

func (e *engine) snapshotIDs() []volume.SnapshotID {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Sorted(maps.Keys(e.snapshots))
}

func (e *engine) set(f func()) {
	e.mu.Lock()
	defer e.mu.Unlock()
	f()
}
