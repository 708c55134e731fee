package controller

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/holkas-io/holkas/pkg/backend"
	"github.com/holkas-io/holkas/pkg/fault"
	"github.com/holkas-io/holkas/pkg/objstore"
	"github.com/holkas-io/holkas/pkg/repository"
	"github.com/holkas-io/holkas/pkg/volume"
)

// process is one controller process between the controller and the world: all
// that the controller does to the store and the engines goes through it. There
// it can be delayed, lose a reply, arrive twice, or die: before or after each of
// its calls took effect, and for good.
type process struct {
	mu     sync.Mutex
	rng    *rand.Rand // nil: no weather
	life   int        // steps until it dies; negative: it lives
	passed int
	dead   bool
}

func immortal() *process                        { return &process{life: -1} }
func mortal(life int) *process                  { return &process{life: life} }
func weather(rng *rand.Rand, life int) *process { return &process{rng: rng, life: life} }

// step passes a place where the process may die.
func (p *process) step() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.passed++; p.life >= 0 && p.passed > p.life {
		p.dead = true
	}
	return !p.dead
}

func (p *process) died() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dead
}

func (p *process) roll(n int) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rng.IntN(n)
}

// wait is the time that a message takes, on the bubble's clock.
func (p *process) wait(most int) {
	if p.rng != nil {
		time.Sleep(time.Duration(1+p.roll(most)) * time.Millisecond)
	}
}

var errWeather = fault.New(fault.Transient, "connection lost")

// call makes a call that changes something.
func (p *process) call(do func() error) error {
	p.wait(20)
	if !p.step() {
		return errWeather
	}
	if p.rng != nil && p.roll(40) == 0 { // it never arrives
		return errWeather
	}
	if p.rng != nil && p.roll(20) == 0 { // it arrives again, later
		go func() {
			p.wait(400)
			_ = do()
		}()
	}
	err := do()
	p.wait(20)
	if !p.step() {
		return errWeather
	}
	if p.rng != nil && p.roll(40) == 0 { // its reply is lost
		return errWeather
	}
	return err
}

// look makes a call that changes nothing.
func (p *process) look(do func() error) error {
	p.wait(5)
	if p.died() {
		return errWeather
	}
	return do()
}

// got returns what a call answered. What a message that arrives again answers
// later is heard by nobody.
func got[T any](via func(func() error) error, do func() (T, error)) (T, error) {
	var mu sync.Mutex
	var value T
	err := via(func() error {
		v, err := do()
		mu.Lock()
		defer mu.Unlock()
		if err == nil {
			value = v
		}
		return err
	})
	mu.Lock()
	defer mu.Unlock()
	return value, err
}

// storeLink is a process's way to the store. Only first arrivals count there: a
// store's client makes one request over one connection.
type storeLink struct {
	objstore.Store
	p *process
}

func (s storeLink) once(do func() error) error {
	s.p.wait(5)
	if !s.p.step() {
		return errWeather
	}
	err := do()
	if !s.p.step() || s.p.rng != nil && s.p.roll(60) == 0 {
		return errWeather
	}
	return err
}

func (s storeLink) Get(ctx context.Context, key string) ([]byte, error) {
	return got(s.p.look, func() ([]byte, error) { return s.Store.Get(ctx, key) })
}

func (s storeLink) List(ctx context.Context, o objstore.ListOptions) (objstore.Page, error) {
	return got(s.p.look, func() (objstore.Page, error) { return s.Store.List(ctx, o) })
}

func (s storeLink) Create(ctx context.Context, key string, body []byte) error {
	return s.once(func() error { return s.Store.Create(ctx, key, body) })
}

func (s storeLink) Put(ctx context.Context, key string, body []byte) error {
	return s.once(func() error { return s.Store.Put(ctx, key, body) })
}

func (s storeLink) Delete(ctx context.Context, keys ...string) error {
	return s.once(func() error { return s.Store.Delete(ctx, keys...) })
}

// engineLinks are a process's ways to the engines.
type engineLinks struct {
	engines, fronts map[volume.NodeID]*engine
	p               *process
}

func (e engineLinks) Backend(node repository.Node, name string) (backend.Backend, error) {
	switch name {
	case volume.BackendLocal:
		return engineLink{e.engines[node.ID], e.p}, nil
	case volume.BackendObject:
		return engineLink{e.fronts[node.ID], e.p}, nil
	}
	return nil, fault.New(fault.Unsupported, "backend %q", name)
}

type engineLink struct {
	*engine
	p *process
}

func (e engineLink) CreateVolume(ctx context.Context, r backend.CreateVolumeRequest) (backend.Volume, error) {
	return got(e.p.call, func() (backend.Volume, error) { return e.engine.CreateVolume(ctx, r) })
}

func (e engineLink) DeleteVolume(ctx context.Context, id volume.ID) error {
	return e.p.call(func() error { return e.engine.DeleteVolume(ctx, id) })
}

func (e engineLink) ExpandVolume(ctx context.Context, id volume.ID, sizeBytes int64) (backend.Volume, error) {
	return got(e.p.call, func() (backend.Volume, error) { return e.engine.ExpandVolume(ctx, id, sizeBytes) })
}

func (e engineLink) ModifyVolume(ctx context.Context, id volume.ID, m volume.Mutable) (backend.Volume, error) {
	// A modification that arrives late or twice is indistinguishable from one
	// that was asked for then, so this link only delays, loses and dies.
	return got(storeLink{nil, e.p}.once, func() (backend.Volume, error) { return e.engine.ModifyVolume(ctx, id, m) })
}

func (e engineLink) Volume(ctx context.Context, id volume.ID) (backend.Volume, error) {
	return got(e.p.look, func() (backend.Volume, error) { return e.engine.Volume(ctx, id) })
}

func (e engineLink) VolumeHealth(ctx context.Context, id volume.ID) ([]backend.Health, error) {
	return got(e.p.look, func() ([]backend.Health, error) { return e.engine.VolumeHealth(ctx, id) })
}

func (e engineLink) Capacity(ctx context.Context, class volume.Class) (backend.Capacity, error) {
	return got(e.p.look, func() (backend.Capacity, error) { return e.engine.Capacity(ctx, class) })
}

func (e engineLink) CreateSnapshot(ctx context.Context, r backend.CreateSnapshotRequest) (backend.Snapshot, error) {
	return got(e.p.call, func() (backend.Snapshot, error) { return e.engine.CreateSnapshot(ctx, r) })
}

func (e engineLink) DeleteSnapshot(ctx context.Context, id volume.SnapshotID) error {
	return e.p.call(func() error { return e.engine.DeleteSnapshot(ctx, id) })
}

func (e engineLink) Pause(ctx context.Context, id backend.PauseID, volumes []volume.ID) error {
	return e.p.call(func() error { return e.engine.Pause(ctx, id, volumes) })
}

func (e engineLink) Resume(ctx context.Context, id backend.PauseID) error {
	return e.p.call(func() error { return e.engine.Resume(ctx, id) })
}
